/** A panel that a button opens beside itself; on narrow screens it rises from the bottom (controls.css). */

import { byId } from "./readout.js";

const GAP_PX = 6;
const EDGE_PX = 8;
const ITEMS = "button:not(:disabled), input:not(:disabled), a[href]";

export class Panel {
  /** @param {string} id of a popover, which a button `<id>-open` opens */
  constructor(id) {
    this.element = byId(id);
    this.button = /** @type {HTMLButtonElement} */ (byId(`${id}-open`));
    this.button.popoverTargetElement = this.element;
    this.element.addEventListener("beforetoggle", (event) => this.#turn(/** @type {ToggleEvent} */ (event).newState === "open"));
    this.element.addEventListener("toggle", (event) => /** @type {ToggleEvent} */ (event).newState === "open" && this.#opened());
    this.element.addEventListener("keydown", (event) => this.#key(event));
    // A phone changes the height alone, while its reader scrolls.
    let width = innerWidth;
    addEventListener("resize", () => {
      if (width !== innerWidth) this.close();
      width = innerWidth;
    });
  }

  /** @returns {boolean} */
  get open() {
    return this.element.matches(":popover-open");
  }

  /** Open it, or close it. */
  toggle() {
    this.element.togglePopover();
  }

  /** Close it; nothing happens if it is closed. */
  close() {
    if (this.open) this.element.hidePopover();
  }

  /** @param {boolean} open */
  #turn(open) {
    this.button.setAttribute("aria-expanded", String(open));
    // The button may lie in another panel, which closes now, and can't take the focus back.
    if (!open && this.element.contains(document.activeElement) && !this.button.checkVisibility()) byId("more-open").focus();
  }

  #opened() {
    const { left, right, bottom } = this.button.getBoundingClientRect();
    const { width } = this.element.getBoundingClientRect();
    const fits = left + width <= innerWidth - EDGE_PX;
    this.element.style.setProperty("--left", `${Math.max(EDGE_PX, fits ? left : Math.min(right, innerWidth - EDGE_PX) - width)}px`);
    this.element.style.setProperty("--top", `${bottom + GAP_PX}px`);
    this.#items()[0]?.focus({ preventScroll: true });
  }

  /** @returns {HTMLElement[]} */
  #items() {
    return [.../** @type {NodeListOf<HTMLElement>} */ (this.element.querySelectorAll(ITEMS))].filter((item) => item.checkVisibility());
  }

  /** @param {KeyboardEvent} event arrows go through what can be chosen */
  #key(event) {
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (step === 0) return;
    const items = this.#items();
    const at = items.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    items[(at + step + items.length) % items.length]?.focus();
    event.preventDefault();
  }
}

/** Close what is open, panels that lie in one another too. */
export function closePanels() {
  for (const panel of document.querySelectorAll(":popover-open")) /** @type {HTMLElement} */ (panel).hidePopover();
}
