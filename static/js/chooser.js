/** The symbol chooser: a dialog with a search field and a list, by mouse or keyboard. */

import { showDifference, showPrice, splitSymbol } from "./format.js";
import { byId, make } from "./readout.js";
import { heed } from "./session.js";

const SHOWN_MOST = 100; // a list of thousands would be slow to draw and of no use to a reader
const DEFAULT_SYMBOL = "BTCUSDT";

/** @typedef {{symbol: string, price?: ?number, change_24h_percent?: ?number}} Listed */

/**
 * Symbols that match what was typed: those that begin with it first. Pure.
 * @template {{symbol: string}} T
 * @param {T[]} listed
 * @param {string} typed
 * @returns {T[]}
 */
export function matching(listed, typed) {
  const wanted = typed.toUpperCase().replace(/[\s/-]/g, "");
  if (!wanted) return listed;
  const place = (/** @type {string} */ symbol) => (symbol === wanted ? 0 : symbol.startsWith(wanted) ? 1 : 2);
  return listed
    .filter(({ symbol }) => symbol.includes(wanted))
    .sort(({ symbol: a }, { symbol: b }) => place(a) - place(b) || a.length - b.length || (a < b ? -1 : 1));
}

/** Every symbol with what is known of it now, in order of name. @returns {Promise<Listed[]>} */
export async function loadSymbols() {
  const answer = heed(await fetch("/api/v1/symbols"));
  if (!answer.ok) throw new Error(`expected the symbols, got status ${answer.status}`);
  return (await answer.json()).symbols;
}

/** @returns {Promise<string>} one that has data, for a link that names none */
export async function firstSymbol() {
  const symbols = (await loadSymbols().catch(() => [])).map(({ symbol }) => symbol);
  return symbols.includes(DEFAULT_SYMBOL) ? DEFAULT_SYMBOL : (symbols[0] ?? DEFAULT_SYMBOL);
}

export class Chooser {
  /** @param {(symbol: string) => void} chosen */
  constructor(chosen) {
    this.chosen = chosen;
    this.dialog = /** @type {HTMLDialogElement} */ (byId("chooser"));
    this.input = /** @type {HTMLInputElement} */ (byId("chooser-input"));
    this.list = byId("chooser-list");
    /** @type {Listed[]} */
    this.symbols = [];
    /** @type {Listed[]} */
    this.matches = [];
    this.active = 0;
    this.current = "";
    byId("chooser-open").addEventListener("click", () => this.open());
    byId("chooser-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.input.addEventListener("input", () => this.#typed());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("click", (event) => this.#clicked(/** @type {HTMLElement} */ (event.target)));
  }

  /** @param {string} [typed] */
  open(typed = "") {
    if (this.dialog.open) return;
    this.input.value = typed;
    this.dialog.showModal();
    this.input.focus();
    this.#typed();
    // What is known is shown at once; the server may know more by now, or be away.
    loadSymbols().then((symbols) => this.#loaded(symbols), () => this.#count("The server can't be asked for symbols now."));
  }

  /** @param {Listed[]} symbols */
  #loaded(symbols) {
    const active = this.matches[this.active]?.symbol;
    this.symbols = symbols;
    this.#typed();
    const again = this.matches.findIndex(({ symbol }) => symbol === active);
    if (active !== undefined && again >= 0 && again < SHOWN_MOST) this.#mark(again);
  }

  #typed() {
    this.matches = matching(this.symbols, this.input.value);
    const shown = this.matches.slice(0, SHOWN_MOST);
    this.list.replaceChildren(...shown.map((listed, i) => this.#option(listed, i)));
    const more = this.matches.length - SHOWN_MOST;
    if (this.matches.length === 0) this.#count(this.symbols.length ? "No symbol matches." : "No symbol has data yet.");
    else this.#count(more > 0 ? `${this.matches.length} symbols; type to narrow them down` : `${this.matches.length} of ${this.symbols.length} symbols`);
    this.#mark(this.input.value ? 0 : Math.max(0, shown.findIndex(({ symbol }) => symbol === this.current)));
  }

  /** @param {Listed} listed @param {number} i */
  #option({ symbol, price, change_24h_percent: change }, i) {
    const { base, quote } = splitSymbol(symbol);
    const option = make("li", "");
    option.id = `symbol-${i}`;
    option.role = "option";
    option.dataset.symbol = symbol;
    option.dataset.current = String(symbol === this.current);
    const name = make("span", base);
    name.append(make("small", quote ? ` / ${quote}` : ""));
    option.append(name, make("span", typeof price === "number" ? showPrice(price) : "", "listed-price"));
    const day = make("span", typeof change === "number" ? `${showDifference(change, 2)} %` : "", "listed-change");
    day.dataset.direction = !change ? "flat" : change > 0 ? "up" : "down";
    option.append(day);
    return option;
  }

  /** @param {number} place the option that Enter takes */
  #mark(place) {
    this.active = place;
    [...this.list.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === place)));
    const option = this.list.children[place];
    this.input.setAttribute("aria-activedescendant", option?.id ?? "");
    option?.scrollIntoView({ block: "nearest" });
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const last = Math.min(this.matches.length, SHOWN_MOST) - 1;
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    if (move !== undefined) this.#mark(Math.min(last, Math.max(0, this.active + move)));
    else if (event.key === "Enter" && this.matches[this.active]) this.#choose(this.matches[this.active].symbol);
    else return;
    event.preventDefault();
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
