/** The intervals of candles, and how much of each is shown. Pure. */

const MINUTE_MS = 60_000;

/** @type {Object<string, number>} */
export const LENGTH_MS = {
  "1m": MINUTE_MS, "5m": 5 * MINUTE_MS, "15m": 15 * MINUTE_MS, "30m": 30 * MINUTE_MS, "1h": 60 * MINUTE_MS, "4h": 240 * MINUTE_MS, "1d": 1440 * MINUTE_MS,
};

const SHOWN_CANDLES = { wide: 120, narrow: 56 };
const NARROW_PX = 600;
const SHOWN_LEAST = 12;
const SHOWN_MOST = 720; // more are thinner than a pixel and a half, and make each drawing slower
const WINDOWS_SPAN_MS = 120_000;
const WINDOWS_LEAST_MS = 15_000;
const WINDOWS_MOST_MS = 600_000;

/**
 * @typedef {Object} Limits
 * @property {number} spanMs what is shown at first
 * @property {number} leastMs
 * @property {number} mostMs
 * @property {number} aheadMs what is drawn later than now: the rest of the candle in progress
 */

/**
 * @param {string} interval one of LENGTH_MS, or `windows`
 * @param {number} width pixels of the chart: a narrow one shows fewer candles
 * @returns {Limits}
 */
export function limitsOf(interval, width) {
  const length = LENGTH_MS[interval];
  if (length === undefined) return { spanMs: WINDOWS_SPAN_MS, leastMs: WINDOWS_LEAST_MS, mostMs: WINDOWS_MOST_MS, aheadMs: 0 };
  const shown = width < NARROW_PX ? SHOWN_CANDLES.narrow : SHOWN_CANDLES.wide;
  return { spanMs: shown * length, leastMs: SHOWN_LEAST * length, mostMs: SHOWN_MOST * length, aheadMs: length };
}
