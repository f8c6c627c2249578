/** Older candles than the websocket gives, a page at a time over REST as the reader scrolls back. */

import { heed } from "./session.js";

const PAGE = 500;
const RETRY_MS = 5000;
const KINDS = ["candles", "indicators", "signals"];

/**
 * @typedef {"idle" | "loading" | "failed" | "oldest" | "full"} Reach
 */

export class Older {
  /**
   * @param {string} symbol
   * @param {string} interval
   * @param {(kind: string, records: any[]) => void} take called with each answer
   * @param {() => void} changed called when the state has changed
   */
  constructor(symbol, interval, take, changed) {
    this.symbol = symbol;
    this.interval = interval;
    this.take = take;
    this.changed = changed;
    /** @type {Reach} */
    this.state = "idle";
    this.retryAt = 0;
    this.ending = new AbortController();
  }

  /**
   * Fetch the page before a time, unless one is under way or there is none.
   * @param {number} before open time of the oldest candle held
   * @param {boolean} full whether no more can be held
   */
  async reach(before, full) {
    const waits = this.state === "failed" && performance.now() < this.retryAt;
    if (waits || !["idle", "failed"].includes(this.state)) return;
    if (full) return this.#become("full");
    this.#become("loading");
    try {
      const pages = await Promise.all(KINDS.map((kind) => this.#page(kind, before)));
      KINDS.forEach((kind, i) => this.take(kind, pages[i][kind]));
      this.#become(pages[0].more ? "idle" : "oldest");
    } catch (error) {
      if (this.ending.signal.aborted) return;
      this.retryAt = performance.now() + RETRY_MS;
      this.#become("failed");
    }
  }

  /** The reader has gone elsewhere. */
  stop() {
    this.ending.abort();
  }

  /** @param {string} kind @param {number} before @returns {Promise<any>} */
  async #page(kind, before) {
    const query = new URLSearchParams({ symbol: this.symbol, interval: this.interval, to: String(before), limit: String(PAGE) });
    const answer = heed(await fetch(`/api/v1/${kind}?${query}`, { signal: this.ending.signal }));
    if (!answer.ok) throw new Error(`expected older ${kind}, got status ${answer.status}`);
    return answer.json();
  }

  /** @param {Reach} state */
  #become(state) {
    this.state = state;
    this.changed();
  }
}
