/** The market as one answer of the server gave it, and what follows from it. A symbol is known by its place in the columns. Pure. */

import { LENGTH_MS } from "../intervals.js";

const USUAL_UNIT = "USDT";
const OLD_INTERVALS = 2;

/**
 * What /api/v1/market answers: see docs/rest.md.
 * @typedef {Object} Answer
 * @property {number} server_time
 * @property {string} interval
 * @property {?string} rsi_name
 * @property {boolean} candles_read
 * @property {number} stale_after_ms
 * @property {string[]} symbol
 * @property {string[]} quote
 * @property {(?number)[]} price
 * @property {(?number)[]} time
 * @property {(?number)[]} change_24h_percent
 * @property {(?number)[]} low_24h
 * @property {(?number)[]} high_24h
 * @property {(?number)[]} volume_24h
 * @property {(?number)[]} quote_volume_24h
 * @property {(?boolean)[]} whole_24h
 * @property {(?number)[]} rsi
 * @property {(?boolean)[]} rsi_ready
 * @property {(?number)[]} rsi_time
 */

/** @typedef {"none" | "ready" | "warming" | "old"} RsiState */

export class Snapshot {
  /** @param {Answer} answer */
  constructor(answer) {
    this.answer = answer;
    this.count = answer.symbol.length;
    /** @type {?Map<string, number>} */
    this.places = null;
  }

  /** @returns {number} the end of the newest data, ms; 0 if there is none */
  get newest() {
    return this.answer.time.reduce((/** @type {number} */ newest, time) => Math.max(newest, time ?? 0), 0);
  }

  /** @param {string} symbol @returns {number | undefined} */
  placeOf(symbol) {
    this.places ??= new Map(this.answer.symbol.map((name, place) => [name, place]));
    return this.places.get(symbol);
  }

  /** @param {number} place */
  base(place) {
    const { symbol, quote } = this.answer;
    return symbol[place].endsWith(quote[place]) ? symbol[place].slice(0, -quote[place].length) : symbol[place];
  }

  /** @param {number} place @param {number} now @returns {?number} ms */
  age(place, now) {
    const time = this.answer.time[place];
    return time === null ? null : Math.max(0, now - time);
  }

  /** @param {number} place @param {number} now */
  stale(place, now) {
    const age = this.age(place, now);
    return age === null || age > this.answer.stale_after_ms;
  }

  /** @param {number} place @returns {?number} where the price stands in the day's range, 0 to 1 */
  position(place) {
    const { price, low_24h: lows, high_24h: highs } = this.answer;
    const [now, low, high] = [price[place], lows[place], highs[place]];
    if (now === null || low === null || high === null) return null;
    return high > low ? (now - low) / (high - low) : 0.5;
  }

  /** Old where the candle is not among the newest: what it says is no longer of now. @param {number} place @param {number} now @returns {RsiState} */
  rsiState(place, now) {
    const { rsi, rsi_ready: ready, rsi_time: closed, interval } = this.answer;
    if (rsi[place] === null) return "none";
    if (now - (closed[place] ?? 0) > OLD_INTERVALS * LENGTH_MS[interval]) return "old";
    return ready[place] ? "ready" : "warming";
  }

  /** @returns {[string, number][]} quote assets and how many symbols each has, most first */
  quotes() {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const quote of this.answer.quote) counts.set(quote, (counts.get(quote) ?? 0) + 1);
    return [...counts].sort(([a, many], [b, more]) => more - many || (a < b ? -1 : 1));
  }

  /** @param {string} quote the asset chosen, or "" @returns {string} the asset in which volumes are compared */
  unit(quote) {
    if (quote) return quote;
    const quotes = this.quotes();
    return quotes.some(([asset]) => asset === USUAL_UNIT) ? USUAL_UNIT : (quotes[0]?.[0] ?? USUAL_UNIT);
  }

  /**
   * The day's quote volume of each symbol, at the present prices of the quote assets.
   * @param {string} unit
   * @returns {(?number)[]} null where volume or price is not known
   */
  volumes(unit) {
    /** @type {Map<string, ?number>} */
    const rates = new Map();
    return this.answer.quote_volume_24h.map((volume, place) => {
      const quote = this.answer.quote[place];
      if (!rates.has(quote)) rates.set(quote, this.#rate(quote, unit));
      const rate = rates.get(quote) ?? null;
      return volume === null || rate === null ? null : volume * rate;
    });
  }

  /** @param {string} asset @param {string} unit @returns {?number} how many of the unit one of the asset is worth */
  #rate(asset, unit) {
    if (asset === unit) return 1;
    const price = (/** @type {string} */ symbol) => this.answer.price[this.placeOf(symbol) ?? -1] || null;
    const [straight, reverse] = [price(asset + unit), price(unit + asset)];
    return straight ?? (reverse === null ? null : 1 / reverse);
  }
}
