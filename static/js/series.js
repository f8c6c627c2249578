/**
 * The windows of one symbol, in order of time, one for each end: over klines, or over trades, which have some fields more and no prices
 * where they hold no trade. Pure.
 *
 * @typedef {Object} Window
 * @property {number} window_start
 * @property {number} window_end
 * @property {number} close
 * @property {?number} average_price
 * @property {?number} low
 * @property {?number} high
 * @property {number} volume
 * @property {number} points
 * @property {?number} rsi
 * @property {boolean} rsi_ready
 * @property {number} since
 * @property {number} revision
 * @property {?number} [average_by_volume] of windows over trades, like what follows
 * @property {?number} [buy_volume] null if any is unknown
 * @property {?number} [sell_volume]
 * @property {boolean} [whole] false where earlier trades may be missing
 */

import { Book } from "./book.js";

const MOST = 5000;

/** @param {Window | undefined} window @returns {boolean} whether it is one over trades */
export const isOfTrades = (window) => window?.buy_volume !== undefined;

/** @param {Window} window @returns {string} how long it is */
export const sizeOf = (window) => `${(window.window_end - window.window_start) / 1000} s`;

/** @param {Window[]} windows at least one @returns {[number, number]} least and greatest price; one without trades has its last price */
export function extentOf(windows) {
  return [Math.min(...windows.map((window) => window.low ?? window.close)), Math.max(...windows.map((window) => window.high ?? window.close))];
}

export class Series {
  /** @param {number} spanMs how much time is kept @param {Window[]} [windows] in order, one for each end */
  constructor(spanMs, windows = []) {
    this.spanMs = spanMs;
    /** @type {Book<Window>} */
    this.book = new Book((window) => window.window_end, MOST);
    this.book.records = windows;
  }

  /** @returns {Window[]} */
  get windows() {
    return this.book.records;
  }

  /** @returns {Window | undefined} */
  get last() {
    return this.book.last;
  }

  /** @param {Window[]} windows in any order, repeats too */
  add(windows) {
    this.book.add(windows);
    this.book.forgetBefore((this.last?.window_end ?? 0) - this.spanMs + 1);
  }

  /** @param {number} from @param {number} to both inclusive @returns {Series} the windows that end there */
  part(from, to) {
    return new Series(this.spanMs, this.book.between(from, to));
  }

  /**
   * The newest window whose end is not after a time.
   * @param {number} time
   * @returns {Window | undefined}
   */
  at(time) {
    return this.book.at(time);
  }

  /** @returns {boolean[]} for each window, whether the one before it belongs to another run, or some in between are missing */
  broken() {
    const most = 1.5 * this.slideMs();
    return this.windows.map((window, i) => {
      const before = this.windows[i - 1];
      return before !== undefined && (before.since !== window.since || window.window_end - before.window_end > most);
    });
  }

  /** @returns {{from: number, to: number}[]} stretches that no run covers */
  breaks() {
    return this.broken().flatMap((broken, i) => (broken ? [{ from: this.windows[i - 1].window_end, to: this.windows[i].window_end }] : []));
  }

  /** @returns {number} distance of two windows, as far as it can be seen; 500 until then */
  slideMs() {
    let least = Infinity;
    for (let i = 1; i < this.windows.length; i += 1) {
      least = Math.min(least, this.windows[i].window_end - this.windows[i - 1].window_end);
    }
    return Number.isFinite(least) ? least : 500;
  }
}
