/**
 * A list of any length with as many elements as fit on the screen, and a few more.
 *
 *     order  |·0·|·1·| … |·41·|·42·| … |·63·|·64·| … |·1399·|
 *                          └──── elements ────┘                 in this order in the document too, moved by transforms
 */

const SPARE = 6; // rows above and below what is seen, so that scrolling shows no holes

/**
 * @typedef {Object} Row
 * @property {HTMLElement} element
 * @property {HTMLElement} link what has the focus of the row
 * @property {number} position in the order; -1 while it is not in the document
 */

export class Rows {
  /**
   * @param {HTMLElement} viewport what scrolls
   * @param {HTMLElement} body as high as all rows
   * @param {() => Row} make
   * @param {(row: Row, place: number) => void} write
   */
  constructor(viewport, body, make, write) {
    this.viewport = viewport;
    this.body = body;
    this.make = make;
    this.write = write;
    /** @type {number[]} */
    this.places = [];
    /** @type {Map<number, Row>} by position */
    this.drawn = new Map();
    /** @type {Row[]} */
    this.free = [];
    this.active = 0;
    this.rowHeight = 1;
    this.height = 0;
    viewport.addEventListener("scroll", () => this.#draw(false), { passive: true });
    body.addEventListener("focusin", (event) => this.#focused(event));
    body.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#measure()).observe(viewport);
  }

  /** Show symbols in this order. @param {number[]} places @param {boolean} fromTop */
  show(places, fromTop) {
    this.places = places;
    this.body.style.height = `${places.length * this.rowHeight}px`;
    if (fromTop) {
      this.active = 0;
      this.viewport.scrollTop = 0;
    }
    this.refresh();
  }

  /** Write all rows on the screen anew. */
  refresh() {
    this.#draw(true);
  }

  /** Move the focus to a row, and the row into sight. @param {number} position */
  focus(position) {
    if (this.places.length === 0) return;
    this.active = Math.min(this.places.length - 1, Math.max(0, position));
    const top = this.active * this.rowHeight;
    const seen = this.height - this.body.offsetTop;
    const { scrollTop } = this.viewport;
    if (top < scrollTop) this.viewport.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + seen) this.viewport.scrollTop = top + this.rowHeight - seen;
    this.#draw(false);
    this.drawn.get(this.active)?.link.focus({ preventScroll: true });
  }

  #measure() {
    this.height = this.viewport.clientHeight;
    this.rowHeight = parseFloat(getComputedStyle(this.viewport).getPropertyValue("--row")) || this.rowHeight;
    this.body.style.height = `${this.places.length * this.rowHeight}px`;
    for (const row of this.drawn.values()) this.#put(row);
    this.#draw(false);
  }

  /** @returns {number[]} the positions that have an element, ascending: what is seen, and what has the focus */
  #wanted() {
    const { scrollTop } = this.viewport;
    const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - SPARE);
    const end = Math.min(this.places.length, Math.ceil((scrollTop + this.height) / this.rowHeight) + SPARE);
    const wanted = Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i);
    const focused = this.active < this.places.length && this.drawn.get(this.active)?.element.contains(document.activeElement);
    if (focused && this.active < first) wanted.unshift(this.active);
    else if (focused && this.active >= end) wanted.push(this.active);
    return wanted;
  }

  /** @param {boolean} all whether rows that stay are written too */
  #draw(all) {
    const wanted = this.#wanted();
    const kept = new Set(wanted);
    for (const [position, row] of this.drawn) if (!kept.has(position)) this.#drop(row);
    // What stays is in order already and isn't moved: an element that is moved loses the focus.
    let next = this.body.firstElementChild;
    for (const position of wanted) {
      const row = this.drawn.get(position) ?? this.#take(position);
      const isNew = row.position !== position;
      if (isNew) {
        row.position = position;
        this.body.insertBefore(row.element, next);
        this.#put(row);
      } else next = row.element.nextElementSibling;
      if (all || isNew) this.write(row, this.places[position]);
    }
    this.#markActive(wanted);
  }

  /** @param {number} position @returns {Row} */
  #take(position) {
    const row = this.free.pop() ?? this.make();
    this.drawn.set(position, row);
    return row;
  }

  /** @param {Row} row */
  #drop(row) {
    this.drawn.delete(row.position);
    row.position = -1;
    row.element.remove();
    this.free.push(row);
  }

  /** @param {Row} row */
  #put(row) {
    row.element.style.transform = `translateY(${row.position * this.rowHeight}px)`;
    row.element.setAttribute("aria-rowindex", String(row.position + 2)); // the head is the first
  }

  /** One row can be reached with Tab, from there the arrows go on. @param {number[]} wanted */
  #markActive(wanted) {
    const seen = Math.ceil(this.viewport.scrollTop / this.rowHeight);
    const reachable = this.drawn.has(this.active) ? this.active : wanted.find((position) => position >= seen);
    for (const row of this.drawn.values()) row.link.tabIndex = row.position === reachable ? 0 : -1;
  }

  /** @param {FocusEvent} event */
  #focused(event) {
    const target = /** @type {Node} */ (event.target);
    for (const row of this.drawn.values()) if (row.element.contains(target)) this.active = row.position;
    this.#markActive([]);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((this.height - this.body.offsetTop) / this.rowHeight) - 1);
    const last = this.places.length - 1;
    /** @type {Object<string, number>} */
    const moves = { ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page, PageUp: this.active - page, Home: 0, End: last };
    const position = moves[event.key];
    if (position === undefined) return;
    event.preventDefault();
    this.focus(position);
  }
}
