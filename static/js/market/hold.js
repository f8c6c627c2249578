/** Whether the reader is at the rows: then their order is kept, so that none moves away from under the pointer. */

const SCROLLED_MS = 1200; // a list that glides on under a finger that has let go

export class Hold {
  /** @param {HTMLElement} rows @param {HTMLElement} viewport what scrolls @param {() => void} changed */
  constructor(rows, viewport, changed) {
    this.changed = changed;
    this.reasons = new Set();
    this.timer = 0;
    rows.addEventListener("pointerenter", () => this.#set("pointer", true));
    rows.addEventListener("pointerleave", () => this.#set("pointer", false));
    rows.addEventListener("focusin", () => this.#set("focus", true));
    rows.addEventListener("focusout", (event) => this.#set("focus", rows.contains(/** @type {?Node} */ (event.relatedTarget))));
    viewport.addEventListener("scroll", () => this.#scrolled(), { passive: true });
  }

  get held() {
    return this.reasons.size > 0;
  }

  /** @returns {"pointer" | "focus" | "scroll" | null} what a reader should be told of */
  get reason() {
    return /** @type {any} */ (["pointer", "focus", "scroll"].find((reason) => this.reasons.has(reason)) ?? null);
  }

  #scrolled() {
    this.#set("scroll", true);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#set("scroll", false), SCROLLED_MS);
  }

  /** @param {string} reason @param {boolean} holds */
  #set(reason, holds) {
    if (holds === this.reasons.has(reason)) return;
    if (holds) this.reasons.add(reason);
    else this.reasons.delete(reason);
    this.changed();
  }
}
