/** Elements made and changed in place: what is unchanged stays as it is, so that a reader's place in the page is kept. */

/** @param {string} id @returns {HTMLElement} */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`expected an element #${id} in the page, found none`);
  return found;
}

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Object<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** @param {Element} element @param {string} text */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Bring a container's children to this list: of the same key the same element, so that focus stays on it.
 * @template Item
 * @param {Element} container
 * @param {Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {() => HTMLElement} create an empty one
 * @param {(element: HTMLElement, item: Item) => void} show
 */
export function sync(container, items, keyOf, create, show) {
  const held = new Map([...container.children].map((child) => [/** @type {HTMLElement} */ (child).dataset.key, /** @type {HTMLElement} */ (child)]));
  const wanted = items.map((item) => {
    const element = held.get(keyOf(item)) ?? create();
    element.dataset.key = keyOf(item);
    show(element, item);
    return element;
  });
  for (const child of [...container.children]) if (!wanted.includes(/** @type {HTMLElement} */ (child))) child.remove();
  wanted.forEach((element, place) => {
    if (container.children[place] !== element) container.insertBefore(element, container.children[place] ?? null);
  });
}

/**
 * Rows of a table: the first cell of each is its head.
 * @param {Element} body
 * @param {{key: string, cells: (string | Node)[], state?: string}[]} rows
 */
export function syncRows(body, rows) {
  sync(body, rows, (row) => row.key, () => make("tr"), (element, row) => {
    if (row.state) element.dataset.state = row.state;
    row.cells.forEach((cell, place) => {
      const held = element.children[place] ?? element.appendChild(place ? make("td") : make("th", { scope: "row" }));
      if (typeof cell === "string") write(held, cell);
      else held.replaceChildren(cell);
    });
  });
}

/**
 * Names and values of a definition list.
 * @param {Element} list
 * @param {[string, string][]} entries
 * @param {string[]} [states] one for each, as far as they have one
 */
export function syncFigures(list, entries, states = []) {
  sync(list, entries, ([name]) => name, () => make("div", {}, make("dt"), make("dd")), (element, [name, value]) => {
    write(element.children[0], name);
    write(element.children[1], value);
  });
  entries.forEach((_, place) => {
    /** @type {HTMLElement} */ (list.children[place]).dataset.state = states[place] ?? "";
  });
}
