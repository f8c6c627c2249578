/** Asks the server for the graph: at once when the reader chooses, and every few seconds while somebody looks. */

import { heed } from "../session.js";

const EVERY_MS = 5000;
const SILENCE_MOST_MS = 15_000;
const WAIT_FIRST_MS = 500;
const WAIT_MOST_MS = 8000;

/**
 * @typedef {Object} Events
 * @property {(answer: import("./model.js").Answer) => void} graph
 * @property {() => void} same nothing has changed
 * @property {(text: string) => void} lost
 */

export class Asking {
  /** @param {Events} events */
  constructor(events) {
    this.events = events;
    this.address = "";
    this.tag = "";
    this.attempts = 0;
    this.timer = 0;
    /** @type {?AbortController} */
    this.asking = null;
    document.addEventListener("visibilitychange", () => this.#again());
    addEventListener("online", () => this.#again());
  }

  /** @param {import("./choices.js").Choices} choices */
  follow({ interval, candles, least, symbols }) {
    const address = `/api/v1/correlations?interval=${interval}&candles=${candles}&least=${least}${symbols && `&symbols=${symbols}`}`;
    if (address === this.address) return;
    this.address = address;
    this.tag = "";
    this.#again();
  }

  #again() {
    clearTimeout(this.timer);
    this.asking?.abort();
    this.asking = null;
    if (!document.hidden) this.#round();
  }

  async #round() {
    const asking = new AbortController();
    this.asking = asking;
    let wait = EVERY_MS;
    try {
      const answer = await this.#get(asking);
      if (asking !== this.asking) return;
      this.attempts = 0;
      if (answer) this.events.graph(answer);
      else this.events.same();
    } catch (error) {
      if (asking !== this.asking) return;
      this.attempts += 1;
      this.events.lost(/** @type {Error} */ (error).message);
      // Jitter, so that the pages of a restarted server don't come back all at once.
      wait = Math.min(WAIT_MOST_MS, WAIT_FIRST_MS * 2 ** (this.attempts - 1)) * (0.5 + Math.random() / 2);
    }
    this.timer = setTimeout(() => this.#round(), wait);
  }

  /** @param {AbortController} asking @returns {Promise<?import("./model.js").Answer>} null where nothing has changed */
  async #get(asking) {
    const silence = setTimeout(() => asking.abort(), SILENCE_MOST_MS);
    try {
      const answer = heed(await fetch(this.address, { headers: this.tag ? { "if-none-match": this.tag } : {}, signal: asking.signal }));
      if (answer.status === 304) return null;
      if (!answer.ok) throw new Error(`expected the correlations, got status ${answer.status}`);
      const found = await answer.json();
      this.tag = answer.headers.get("etag") ?? "";
      return found;
    } finally {
      clearTimeout(silence);
    }
  }
}
