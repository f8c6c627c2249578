/** The symbol chooser: a dialog with a search field and a list, by mouse or keyboard. */

import { byId, make } from "./readout.js";
import { splitSymbol } from "./format.js";

const SHOWN_MOST = 100; // a list of thousands would be slow to draw and of no use to a reader

/**
 * Symbols that match what was typed: those that begin with it first. Pure.
 * @param {string[]} symbols
 * @param {string} typed
 * @returns {string[]}
 */
export function matching(symbols, typed) {
  const wanted = typed.toUpperCase().replace(/[\s/-]/g, "");
  if (!wanted) return symbols;
  const place = (/** @type {string} */ symbol) => (symbol === wanted ? 0 : symbol.startsWith(wanted) ? 1 : 2);
  return symbols.filter((symbol) => symbol.includes(wanted)).sort((a, b) => place(a) - place(b) || a.length - b.length || (a < b ? -1 : 1));
}

export class Chooser {
  /** @param {(symbol: string) => void} chosen */
  constructor(chosen) {
    this.chosen = chosen;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("chooser"));
    this.input = /** @type {HTMLInputElement} */ (byId("chooser-input"));
    this.list = byId("chooser-list");
    /** @type {string[]} */
    this.symbols = [];
    /** @type {string[]} */
    this.matches = [];
    this.active = 0;
    this.current = "";
    byId("chooser-open").addEventListener("click", () => this.open());
    byId("chooser-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.input.addEventListener("input", () => this.#search());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("click", (event) => this.#clicked(/** @type {HTMLElement} */ (event.target)));
    document.addEventListener("keydown", (event) => this.#anywhere(event));
  }

  /** Load the symbols from the server. @returns {Promise<string[]>} */
  async load() {
    const answer = await fetch("/api/symbols");
    if (!answer.ok) throw new Error(`expected the symbols, got status ${answer.status}`);
    this.symbols = (await answer.json()).symbols;
    return this.symbols;
  }

  /** @param {string} [typed] */
  open(typed = "") {
    if (this.dialog.open) return;
    this.input.value = typed;
    this.dialog.showModal();
    this.input.focus();
    this.#search();
    // What is known is shown at once; the server may know more by now, or be away.
    this.load().then(() => this.#search(), () => this.#count("The server can't be asked for symbols now."));
  }

  #search() {
    this.matches = matching(this.symbols, this.input.value);
    this.active = Math.max(0, this.input.value ? 0 : this.matches.slice(0, SHOWN_MOST).indexOf(this.current));
    this.list.replaceChildren(...this.matches.slice(0, SHOWN_MOST).map((symbol, i) => this.#option(symbol, i)));
    const more = this.matches.length - SHOWN_MOST;
    if (this.matches.length === 0) this.#count(this.symbols.length ? "No symbol matches." : "No symbol has data yet.");
    else this.#count(more > 0 ? `${this.matches.length} symbols; type to narrow them down` : `${this.matches.length} of ${this.symbols.length} symbols`);
    this.#mark();
  }

  /** @param {string} symbol @param {number} i */
  #option(symbol, i) {
    const { base, quote } = splitSymbol(symbol);
    const option = make("li", "");
    option.id = `symbol-${i}`;
    option.role = "option";
    option.dataset.symbol = symbol;
    option.dataset.current = String(symbol === this.current);
    const name = make("span", base);
    name.append(make("small", quote ? ` / ${quote}` : ""));
    option.append(name);
    return option;
  }

  #mark() {
    [...this.list.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === this.active)));
    const option = this.list.children[this.active];
    this.input.setAttribute("aria-activedescendant", option?.id ?? "");
    option?.scrollIntoView({ block: "nearest" });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = Math.min(this.matches.length, SHOWN_MOST) - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move !== undefined) {
      this.active = Math.min(last, Math.max(0, this.active + move));
      this.#mark();
    } else if (event.key === "Enter" && this.matches[this.active]) this.#choose(this.matches[this.active]);
    else return;
    event.preventDefault();
  }

  /** @param {KeyboardEvent} event a slash, or a letter typed anywhere, starts a search */
  #anywhere(event) {
    if (this.dialog.open || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== "/" && !/^[a-z0-9]$/i.test(event.key)) return;
    event.preventDefault();
    this.open(event.key === "/" ? "" : event.key.toUpperCase());
  }

  /** @param {HTMLElement} target */
  #clicked(target) {
    const symbol = /** @type {?HTMLElement} */ (target.closest("[data-symbol]"))?.dataset.symbol;
    if (symbol) this.#choose(symbol);
  }

  /** @param {string} symbol */
  #choose(symbol) {
    this.dialog.close();
    this.chosen(symbol);
  }

  /** @param {string} text */
  #count(text) {
    byId("chooser-count").textContent = text;
  }
}
