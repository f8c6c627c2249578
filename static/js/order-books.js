/**
 * One symbol's order book: the newest whole, and what followed from those of the last minutes.
 *
 * @typedef {Object} Features all of a record but its levels
 * @property {number} E event time
 * @property {number} u id of the newest update
 * @property {?number} spread
 * @property {?number} mid
 * @property {?number} microprice
 * @property {?number} imbalance of the best levels
 * @property {?number} imbalance_20
 * @property {number} since where its contiguous run began
 *
 * @typedef {Features & {s: string, bids: [string, string][], asks: [string, string][]}} OrderBook
 */

import { Book } from "./book.js";
import { heed } from "./session.js";

const MOST = 1200;
const BROKEN_AFTER_MS = 3500; // at an update a second so long a silence is one

export class OrderBooks {
  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
    this.follow("");
  }

  /** Begin with nothing. @param {string} symbol */
  follow(symbol) {
    this.ending?.abort();
    this.ending = new AbortController();
    this.symbol = symbol;
    /** @type {"asking" | "none" | "there"} */
    this.state = "asking";
    /** @type {?OrderBook} */
    this.newest = null;
    /** @type {Book<Features>} */
    this.features = new Book((record) => record.E, MOST);
  }

  /** What is held now, which a snapshot tells: no history is asked of a symbol that has none. @param {OrderBook[]} records */
  begin(records) {
    this.state = records.length ? "there" : "none";
    this.take(records);
    if (records.length) this.#fetch();
  }

  /** @param {OrderBook[]} records */
  take(records) {
    if (records.length) {
      this.state = "there";
      this.features.add(records.map(({ bids, asks, ...rest }) => rest));
      const last = records.at(-1);
      if (last && last.E >= (this.newest?.E ?? 0)) this.newest = last;
    }
    this.changed();
  }

  /** @param {number} from @param {number} to both inclusive @returns {(Features | null)[]} in order; null where some are missing */
  between(from, to) {
    const found = this.features.between(from, to);
    return found.flatMap((record, i) => (i > 0 && broken(found[i - 1], record) ? [null, record] : [record]));
  }

  async #fetch() {
    const { symbol } = this;
    const { signal } = /** @type {AbortController} */ (this.ending);
    try {
      const answer = heed(await fetch(`/api/v1/books/${encodeURIComponent(symbol)}/features?limit=1000`, { signal }));
      if (!answer.ok) return;
      const { features } = await answer.json();
      if (signal.aborted) return;
      this.features.add(features);
      this.changed();
    } catch {
      // What comes from now on is drawn all the same.
    }
  }
}

/** @param {Features} before @param {Features} record @returns {boolean} whether the book began anew in between, or some of it is missing */
function broken(before, record) {
  return before.since !== record.since || record.E - before.E > BROKEN_AFTER_MS;
}
