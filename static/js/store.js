/** All that the page holds of the symbol and interval it shows, from the websocket and REST. */

import { Candles } from "./candles.js";
import { Gaps } from "./gaps.js";
import { Older } from "./older.js";
import { OrderBooks } from "./order-books.js";
import { Series } from "./series.js";

const WINDOWS_KEPT_MS = 600_000;

export class Store {
  /** @param {() => void} changed @param {() => void} booked of order books alone */
  constructor(changed, booked) {
    this.changed = changed;
    this.symbol = "";
    this.interval = "windows";
    this.windows = new Series(WINDOWS_KEPT_MS);
    /** @type {?Candles} null while windows are shown */
    this.candles = null;
    /** @type {?Older} */
    this.older = null;
    this.gaps = new Gaps(changed);
    this.books = new OrderBooks(booked);
  }

  /** Begin with nothing of another symbol or interval. @param {string} symbol @param {string} interval */
  choose(symbol, interval) {
    if (symbol !== this.symbol) this.gaps.stop();
    if (symbol !== this.symbol) this.books.follow(symbol);
    this.symbol = symbol;
    this.interval = interval;
    this.windows = new Series(WINDOWS_KEPT_MS);
    this.candles = interval === "windows" ? null : new Candles(interval);
    this.#beginOlder();
    this.changed();
  }

  /** What replaces all that is held of a series. @param {import("./connection.js").Part} part */
  snapshot(part) {
    if (part.kind === "books") return this.books.begin(part.records);
    if (part.kind === "windows") this.windows = new Series(WINDOWS_KEPT_MS);
    else this.candles?.clear(part.kind);
    // Pages of before may hold what has changed meanwhile.
    if (part.kind === "candles") this.#beginOlder();
    this.update(part);
  }

  /** @param {import("./connection.js").Part} part */
  update({ kind, records }) {
    if (kind === "books") return this.books.take(records);
    if (kind === "windows") this.windows.add(records);
    else this.candles?.add(kind, records);
    // The server knows nothing of a symbol that has no data, and would answer with an error.
    if (records.length && this.gaps.symbol !== this.symbol) this.gaps.follow(this.symbol);
    this.changed();
  }

  /** @returns {?number} when the newest data ended */
  get newest() {
    return this.candles ? this.candles.heardTo || null : (this.windows.last?.window_end ?? null);
  }

  /** @returns {?{from: number, to: number}} the time of all that is held */
  get range() {
    if (!this.candles) {
      const [first, last] = [this.windows.windows[0], this.windows.last];
      return first && last ? { from: first.window_start, to: last.window_end } : null;
    }
    const { first, last } = this.candles.candles;
    return first && last ? { from: first.t, to: last.T + 1 } : null;
  }

  /** Fetch older candles if a time lies before those held. @param {number} time */
  reach(time) {
    const first = this.candles?.candles.first;
    if (first && time < first.t) this.older?.reach(first.t, this.candles?.candles.full ?? true);
  }

  #beginOlder() {
    this.older?.stop();
    const candles = this.candles;
    const take = (/** @type {string} */ kind, /** @type {any[]} */ records) => candles?.add(kind, records);
    this.older = candles && new Older(this.symbol, this.interval, take, this.changed);
  }
}
