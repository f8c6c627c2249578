/**
 * The candles of one symbol and interval, their indicators and signals. Pure.
 *
 * @typedef {Object} Candle
 * @property {number} t open time
 * @property {number} T close time
 * @property {number} open
 * @property {number} high
 * @property {number} low
 * @property {number} close
 * @property {number} volume
 * @property {boolean} complete
 * @property {boolean} provisional whether it is still in progress
 * @property {number} revision
 * @property {number} [klines] how many a closed one was built from
 * @property {any} record as it came
 *
 * @typedef {Object} Study
 * @property {number} t open time of the candle
 * @property {number} T
 * @property {Object<string, ?number>} values
 * @property {string[]} unready
 * @property {number} since
 * @property {number} revision
 *
 * @typedef {Object} Signal
 * @property {string} id
 * @property {number} t
 * @property {number} T
 * @property {"buy" | "sell"} side
 * @property {string} rule
 * @property {"fired" | "withdrawn"} state
 * @property {number} price
 * @property {string} reason
 * @property {number} since
 * @property {number} revision
 */

import { Book, outranks } from "./book.js";
import { LENGTH_MS } from "./intervals.js";

export const CANDLES_MOST = 5000;
const SIGNALS_MOST = 1000;

export class Candles {
  /** @param {string} interval */
  constructor(interval) {
    this.interval = interval;
    this.lengthMs = LENGTH_MS[interval];
    /** @type {Book<Candle>} */
    this.candles = new Book((candle) => candle.t, CANDLES_MOST);
    /** @type {Book<Study>} */
    this.studies = new Book((study) => study.t, CANDLES_MOST);
    /** @type {Map<string, Signal>} */
    this.signals = new Map();
    /** @type {?Candle} */
    this.inProgress = null;
    this.heardTo = 0;
  }

  /** @param {string} kind one of the protocol's @param {any[]} records */
  add(kind, records) {
    if (kind === "candles") this.candles.add(records.map(candleOf));
    else if (kind === "indicators") this.studies.add(records);
    else if (kind === "signals") this.#sign(records);
    else if (kind === "provisional" && records.length) this.#progress(records.at(-1));
    this.heardTo = Math.max(this.heardTo, (this.candles.last?.T ?? -1) + 1);
  }

  /** Forget all of a kind, since a snapshot replaces it. @param {string} kind */
  clear(kind) {
    if (kind === "candles") this.candles.records = [];
    else if (kind === "indicators") this.studies.records = [];
    else if (kind === "signals") this.signals.clear();
    else if (kind === "provisional") this.inProgress = null;
  }

  /**
   * Candles that overlap a time, the one in progress last.
   * @param {number} from
   * @param {number} to
   * @param {?number} until only what had closed by then; null for all
   * @param {?Candle} inProgress
   * @returns {Candle[]}
   */
  shown(from, to, until, inProgress) {
    const closed = this.candles.between(from - this.lengthMs + 1, Math.min(to, (until ?? Infinity) - this.lengthMs));
    return inProgress && inProgress.t > (closed.at(-1)?.t ?? -Infinity) && inProgress.t <= to && inProgress.T >= from ? [...closed, inProgress] : closed;
  }

  /** @param {number} from @param {number} to @param {?number} until @returns {Study[]} of the candles that overlap a time */
  studied(from, to, until = null) {
    return this.studies.between(from - this.lengthMs + 1, Math.min(to, (until ?? Infinity) - this.lengthMs));
  }

  /** @param {number} from @param {number} to @param {?number} until @returns {Signal[]} in order of time */
  signalled(from, to, until = null) {
    const most = Math.min(to, (until ?? Infinity) - this.lengthMs);
    return [...this.signals.values()].filter(({ t }) => t > from - this.lengthMs && t <= most).sort((a, b) => a.t - b.t);
  }

  /** @returns {?Candle} the candle in progress, unless it is known as a closed one */
  get current() {
    const current = this.inProgress;
    return current && current.t > (this.candles.last?.t ?? -Infinity) ? current : null;
  }

  /** @param {Signal[]} signals */
  #sign(signals) {
    for (const signal of signals) {
      const held = this.signals.get(signal.id);
      if (!held || outranks(signal, held)) this.signals.set(signal.id, signal);
    }
    if (this.signals.size <= SIGNALS_MOST) return;
    const oldest = [...this.signals.values()].sort((a, b) => a.t - b.t).slice(0, this.signals.size - SIGNALS_MOST);
    for (const { id } of oldest) this.signals.delete(id);
  }

  /** @param {{T: number, candles: Object<string, any[]>}} record */
  #progress(record) {
    const row = record.candles[this.interval];
    if (!row || record.T + 1 < this.heardTo) return;
    const t = Math.floor(record.T / this.lengthMs) * this.lengthMs;
    this.heardTo = record.T + 1;
    const [open, high, low, close, volume] = row.slice(0, 5).map(Number);
    this.inProgress = { t, T: t + this.lengthMs - 1, open, high, low, close, volume, complete: true, provisional: true, revision: 0, record };
  }
}

/** @param {any} record of the topic @returns {Candle} for drawing; its text has the exact decimals */
function candleOf(record) {
  const { t, T, complete, revision, klines } = record;
  const [open, high, low, close, volume] = [record.o, record.h, record.l, record.c, record.v].map(Number);
  return { t, T, open, high, low, close, volume, complete, provisional: false, revision, klines, record };
}

/** @param {Candle[]} candles in order @returns {{from: number, to: number}[]} stretches in which candles are missing */
export function missing(candles) {
  return candles.slice(1).flatMap((candle, i) => (candle.t > candles[i].T + 1 ? [{ from: candles[i].T + 1, to: candle.t }] : []));
}
