/**
 * The feed's gaps, asked for now and then: the websocket doesn't tell of them.
 *
 * @typedef {Object} Gap
 * @property {string} gap
 * @property {"detected" | "deferred" | "unfillable" | "refilled" | "repaired"} state
 * @property {number} from
 * @property {number} to
 * @property {string} source
 */

import { heed } from "./session.js";

const EVERY_MS = 15_000;
const MOST = 200;

export class Gaps {
  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.symbol = "";
    /** @type {Gap[]} */
    this.gaps = [];
    this.timer = 0;
    this.ending = new AbortController();
  }

  /** Ask for those of a symbol now, and again and again. @param {string} symbol */
  follow(symbol) {
    this.stop();
    this.symbol = symbol;
    this.ending = new AbortController();
    this.#ask();
  }

  /** Ask no more, and know of none. */
  stop() {
    this.ending.abort();
    clearTimeout(this.timer);
    this.gaps = [];
    this.symbol = "";
  }

  /** @param {number} from @param {number} to @returns {Gap[]} those that overlap a time */
  between(from, to) {
    return this.gaps.filter((gap) => gap.to > from && gap.from < to);
  }

  async #ask() {
    const { signal } = this.ending;
    try {
      if (!document.hidden) await this.#fetch(signal);
    } catch {
      // What was known stays; the next attempt tells whether it has changed.
    }
    if (!signal.aborted) this.timer = setTimeout(() => this.#ask(), EVERY_MS);
  }

  /** @param {AbortSignal} signal */
  async #fetch(signal) {
    const answer = heed(await fetch(`/api/v1/gaps?${new URLSearchParams({ symbol: this.symbol, limit: String(MOST) })}`, { signal }));
    if (!answer.ok) return;
    this.gaps = (await answer.json()).gaps;
    this.changed();
  }
}

/**
 * What a gap's state means to a reader.
 * @param {Gap["state"]} state
 * @returns {"open" | "lost" | "refilled" | "repaired"}
 */
export function meaningOf(state) {
  if (state === "detected" || state === "deferred") return "open";
  return state === "unfillable" ? "lost" : state;
}
