/** The reader's choices: one object, whoever changes them, and the link that holds them. */

import { readLink, sameNames, writeLink } from "./link.js";
import { rememberedTheme } from "./theme.js";

/** @typedef {import("./link.js").Linked} Linked */
/** @typedef {Linked & {theme: import("./theme.js").Choice}} Chosen */

const WRITE_AFTER_MS = 400; // browsers refuse a hundred changes of the link in half a minute; a drag makes sixty a second
const PUSHED = ["symbol", "interval"]; // going back undoes these

export class Choices {
  /** @param {string} search the link from its question mark on */
  constructor(search) {
    const linked = readLink(search);
    this.symbol = linked.symbol;
    this.interval = linked.interval;
    this.show = linked.show;
    this.panes = linked.panes;
    this.signals = linked.signals;
    this.depth = linked.depth;
    this.at = linked.at;
    this.span = linked.span;
    /** @type {import("./theme.js").Choice} */
    this.theme = rememberedTheme();
    /** @type {((changed: Set<string>) => void)[]} */
    this.listeners = [];
    this.timer = 0;
    addEventListener("popstate", () => this.#back());
    addEventListener("pagehide", () => this.#flush());
  }

  /** @param {(changed: Set<string>) => void} listener gets the names of the fields that have changed */
  onChange(listener) {
    this.listeners.push(listener);
  }

  /**
   * Change some fields, and tell everybody which. Another interval shows its own span; windows are live.
   * @param {Partial<Chosen>} patch
   * @param {{remember?: "replace" | "push"}} [how] whether going back leads to what was before; by default it does after another symbol or interval
   */
  change(patch, { remember } = {}) {
    const whole = patch.interval && patch.interval !== this.interval ? { span: null, ...(patch.interval === "windows" ? { at: null } : {}), ...patch } : patch;
    const changed = this.#differing(whole);
    if (changed.size === 0) return;
    const push = (remember ?? (PUSHED.some((name) => changed.has(name)) ? "push" : "replace")) === "push";
    if (push) this.#flush(); // what is gone back to has its own latest link
    Object.assign(this, whole);
    if (push) history.pushState(null, "", this.link());
    else this.#later();
    this.#tell(changed);
  }

  /** @returns {string} the link from its question mark on */
  link() {
    return writeLink(this);
  }

  #back() {
    clearTimeout(this.timer);
    this.timer = 0;
    const linked = readLink(location.search);
    const patch = { ...linked, symbol: linked.symbol || this.symbol };
    const changed = this.#differing(patch);
    Object.assign(this, patch);
    if (changed.size) this.#tell(changed);
  }

  /** @param {Object<string, any>} patch @returns {Set<string>} */
  #differing(patch) {
    const held = /** @type {Object<string, any>} */ (this);
    return new Set(Object.keys(patch).filter((name) => !same(held[name], patch[name])));
  }

  #later() {
    this.timer ||= setTimeout(() => this.#flush(), WRITE_AFTER_MS);
  }

  #flush() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    if (this.link() !== location.search) history.replaceState(null, "", this.link());
  }

  /** @param {Set<string>} changed */
  #tell(changed) {
    for (const listener of this.listeners) listener(changed);
  }
}

/** @param {any} one @param {any} other @returns {boolean} */
function same(one, other) {
  if (one instanceof Set) return sameNames(one, other);
  return Object.is(one, other);
}
