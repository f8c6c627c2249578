/** Search, quote assets, the RSI's interval, the columns' heads, theme: what the reader chooses by hand. */

import { byId, make } from "../readout.js";
import { nextTheme, rememberedTheme, setTheme } from "../theme.js";
import { sortedBy } from "./choices.js";

/** @typedef {import("./choices.js").Choices} Choices */

const CHIPS_MOST = 6; // the assets that most symbols have; the others are in the list behind them
const THEME_TEXT = { auto: "Theme: as the machine", dark: "Theme: dark", light: "Theme: light" };

export class Toolbar {
  /**
   * @param {() => Choices} choices
   * @param {(choices: Choices) => void} change
   */
  constructor(choices, change) {
    this.choices = choices;
    this.change = change;
    this.find = /** @type {HTMLInputElement} */ (byId("find"));
    this.others = /** @type {HTMLSelectElement} */ (byId("quote-others"));
    this.order = /** @type {HTMLSelectElement} */ (byId("order"));
    this.quotes = "";
    this.find.addEventListener("input", () => this.#set({ find: this.find.value.trim() }));
    byId("find-clear").addEventListener("click", () => this.clear());
    byId("quotes").addEventListener("click", (event) => this.#pressed(event, "quote", (quote) => this.#set({ quote })));
    byId("intervals").addEventListener("click", (event) => this.#pressed(event, "interval", (interval) => this.#set({ interval })));
    byId("head").addEventListener("click", (event) => this.#pressed(event, "sort", (column) => change(sortedBy(choices(), column))));
    this.others.addEventListener("change", () => this.#set({ quote: this.others.value }));
    this.order.addEventListener("change", () => change(sortedBy({ ...choices(), sort: "" }, this.order.value)));
    byId("order-turn").addEventListener("click", () => change(sortedBy(choices(), choices().sort)));
    byId("theme").addEventListener("click", () => this.nextTheme());
    this.#showTheme();
  }

  /** Search for nothing, and among all. */
  clear() {
    this.find.value = "";
    this.#set({ find: "", quote: "" });
    this.find.focus();
  }

  nextTheme() {
    setTheme(nextTheme(rememberedTheme()));
    this.#showTheme();
  }

  /** Show what is chosen. */
  show() {
    const { find, quote, interval, sort, descending } = this.choices();
    if (document.activeElement !== this.find) this.find.value = find;
    byId("find-clear").hidden = !find;
    press("#quotes button", "quote", quote);
    press("#intervals button", "interval", interval);
    const isOther = [...this.others.options].some((option) => option.value === quote && quote);
    this.others.value = isOther ? quote : "";
    this.others.dataset.chosen = String(isOther);
    this.order.value = sort;
    byId("order-turn").setAttribute("aria-label", descending ? "Greatest first; turn the order" : "Least first; turn the order");
    byId("order-turn").dataset.direction = descending ? "descending" : "ascending";
    for (const head of document.querySelectorAll("#head [role=columnheader]")) {
      const name = /** @type {HTMLElement} */ (head.querySelector("button")).dataset.sort;
      head.setAttribute("aria-sort", name !== sort ? "none" : descending ? "descending" : "ascending");
    }
  }

  /** Offer the quote assets that there are. @param {[string, number][]} found most symbols first */
  offer(found) {
    const text = found.join();
    if (text === this.quotes) return;
    this.quotes = text;
    const chips = found.slice(0, CHIPS_MOST).map(([quote, count]) => {
      const chip = make("button", quote);
      chip.setAttribute("type", "button");
      chip.dataset.quote = quote;
      chip.title = `${count} symbols`;
      return chip;
    });
    const focused = /** @type {?HTMLElement} */ (document.activeElement?.closest("#quotes [data-quote]"))?.dataset.quote;
    byId("quotes").replaceChildren(byId("quotes").children[0], ...chips);
    if (focused !== undefined) /** @type {?HTMLElement} */ (document.querySelector(`#quotes [data-quote="${CSS.escape(focused)}"]`))?.focus();
    const others = found.slice(CHIPS_MOST);
    this.others.replaceChildren(new Option("More", ""), ...others.map(([quote, count]) => new Option(`${quote} (${count})`, quote)));
    this.others.hidden = others.length === 0;
    this.show();
  }

  /** @param {Partial<Choices>} patch */
  #set(patch) {
    this.change({ ...this.choices(), ...patch });
  }

  /** @param {Event} event @param {string} name of a data attribute @param {(value: string) => void} chosen */
  #pressed(event, name, chosen) {
    const button = /** @type {?HTMLElement} */ (/** @type {HTMLElement} */ (event.target).closest(`[data-${name}]`));
    if (button) chosen(button.dataset[name] ?? "");
  }

  #showTheme() {
    const button = byId("theme");
    button.title = `${THEME_TEXT[rememberedTheme()]} (T)`;
    button.setAttribute("aria-label", THEME_TEXT[rememberedTheme()]);
  }
}

/** @param {string} selector @param {string} name @param {string} value */
function press(selector, name, value) {
  for (const button of document.querySelectorAll(selector)) {
    button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset[name] === value));
  }
}
