/** Asks the server for the market again and again: about once a second while somebody looks, and not at all while nobody does. */

import { heed } from "../session.js";

const EVERY_MS = 1000;
const LEAST_MS = 250; // after an answer that took long
const LINES_EVERY_MS = 60_000;
const LINES_EARLY_MS = 3000; // while the server still reads what it draws them from
const SILENCE_MOST_MS = 8000;
const WAIT_FIRST_MS = 500;
const WAIT_MOST_MS = 8000;

/**
 * @typedef {Object} Events
 * @property {(answer: import("./snapshot.js").Answer) => void} market
 * @property {(symbols: string[], lines: (?(?number)[])[]) => void} lines
 * @property {() => void} same nothing has changed
 * @property {(text: string) => void} lost
 */

export class Feed {
  /** @param {Events} events */
  constructor(events) {
    this.events = events;
    this.interval = "";
    this.attempts = 0;
    this.timer = 0;
    /** @type {?AbortController} */
    this.asking = null;
    this.linesDue = 0;
    this.linesRead = false;
    /** @type {Map<string, string>} tags of what is held, by address */
    this.tags = new Map();
    document.addEventListener("visibilitychange", () => this.#again());
    addEventListener("online", () => this.#again());
  }

  /** @param {string} interval of the RSI */
  follow(interval) {
    this.interval = interval;
    this.tags.delete("market");
    this.#again();
  }

  #again() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = null;
    if (!document.hidden) this.#round();
  }

  async #round() {
    const began = performance.now();
    const asking = new AbortController();
    this.asking = asking;
    let wait = EVERY_MS;
    try {
      const answer = await this.#get("market", `/api/v1/market?interval=${this.interval}`, asking);
      if (asking !== this.asking) return;
      this.attempts = 0;
      if (answer) this.events.market(answer);
      else this.events.same();
      if (began >= this.linesDue) await this.#askForLines(asking);
      if (asking !== this.asking) return;
    } catch (error) {
      if (asking !== this.asking) return;
      this.attempts += 1;
      this.events.lost(/** @type {Error} */ (error).message);
      // Jitter, so that the pages of a restarted server don't come back all at once.
      wait = Math.min(WAIT_MOST_MS, WAIT_FIRST_MS * 2 ** (this.attempts - 1)) * (0.5 + Math.random() / 2);
    }
    this.timer = setTimeout(() => this.#round(), Math.max(LEAST_MS, began + wait - performance.now()));
  }

  /** @param {AbortController} asking */
  async #askForLines(asking) {
    const lines = await this.#get("lines", "/api/v1/market/lines", asking);
    if (asking !== this.asking) return;
    if (lines) {
      this.linesRead = lines.candles_read;
      this.events.lines(lines.symbol, lines.line);
    }
    this.linesDue = performance.now() + (this.linesRead ? LINES_EVERY_MS : LINES_EARLY_MS);
  }

  /**
   * @param {string} name
   * @param {string} address
   * @param {AbortController} asking
   * @returns {Promise<?any>} null where nothing has changed
   */
  async #get(name, address, asking) {
    const silence = setTimeout(() => asking.abort(), SILENCE_MOST_MS);
    try {
      const tag = this.tags.get(name);
      const answer = heed(await fetch(address, { headers: tag ? { "if-none-match": tag } : {}, signal: asking.signal }));
      if (answer.status === 304) return null;
      if (!answer.ok) throw new Error(`expected the market, got status ${answer.status}`);
      const found = await answer.json();
      this.tags.set(name, answer.headers.get("etag") ?? "");
      return found;
    } finally {
      clearTimeout(silence);
    }
  }
}
