/**
 * The windows of one symbol, in order of time, one for each end. Pure.
 *
 * @typedef {Object} Window
 * @property {number} window_start
 * @property {number} window_end
 * @property {number} close
 * @property {number} average_price
 * @property {number} low
 * @property {number} high
 * @property {number} volume
 * @property {number} points
 * @property {?number} rsi
 * @property {boolean} rsi_ready
 * @property {number} since
 * @property {number} revision
 */

export class Series {
  /** @param {number} spanMs how much time is kept */
  constructor(spanMs) {
    this.spanMs = spanMs;
    /** @type {Window[]} */
    this.windows = [];
  }

  /** @returns {Window | undefined} */
  get last() {
    return this.windows.at(-1);
  }

  /** @param {Window[]} windows in any order, repeats too */
  add(windows) {
    for (const window of windows) this.#put(window);
    const horizon = (this.last?.window_end ?? 0) - this.spanMs;
    const kept = this.windows.findIndex((window) => window.window_end > horizon);
    if (kept > 0) this.windows.splice(0, kept);
  }

  /**
   * The newest window whose end is not after a time.
   * @param {number} time
   * @returns {Window | undefined}
   */
  at(time) {
    return this.windows[this.#after(time) - 1];
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

  /** @param {Window} window */
  #put(window) {
    const i = this.#after(window.window_end);
    const held = this.windows[i - 1];
    if (held?.window_end !== window.window_end) this.windows.splice(i, 0, window);
    else if (outranks(window, held)) this.windows[i - 1] = window;
  }

  /** @param {number} time @returns {number} index of the first window that ends after it */
  #after(time) {
    let [low, high] = [0, this.windows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.windows[middle].window_end <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** @param {Window} window @param {Window} held @returns {boolean} the higher revision counts, then the earlier run */
function outranks(window, held) {
  if (window.revision !== held.revision) return window.revision > held.revision;
  return window.since < held.since;
}
