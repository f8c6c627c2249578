/** The newest price beside what is in view. Pure. */

import { extentOf, sizeOf } from "./series.js";
import { spanOf } from "./shades.js";
import { membersOf } from "./studies.js";

/** @typedef {import("./readout.js").Quote} Quote */

/**
 * @param {import("./series.js").Window[]} inView
 * @param {import("./series.js").Window | undefined} last
 * @returns {?Quote}
 */
export function quoteOfWindows(inView, last) {
  const first = inView[0];
  if (!last || !first) return null;
  const [low, high] = extentOf(inView);
  return {
    price: last.close, before: first.close, span: spanOf(last.window_end - first.window_end),
    high, low, volumeName: `Volume, ${sizeOf(last)}`, volume: last.volume, rsi: last.rsi, rsiReady: last.rsi_ready,
  };
}

/**
 * @param {string} interval
 * @param {import("./candles.js").Candle[]} inView
 * @param {import("./candles.js").Candle | undefined} last
 * @param {import("./candles.js").Study | undefined} study the newest one
 * @returns {?Quote}
 */
export function quoteOfCandles(interval, inView, last, study) {
  const first = inView[0];
  if (!last || !first) return null;
  const [rsi] = membersOf("rsi", Object.keys(study?.values ?? {}));
  return {
    price: last.close, before: first.open, span: spanOf(last.T + 1 - first.t),
    high: Math.max(...inView.map((candle) => candle.high)), low: Math.min(...inView.map((candle) => candle.low)),
    volumeName: `Volume, ${interval}`, volume: last.volume,
    rsi: rsi ? (study?.values[rsi.name] ?? null) : null, rsiReady: !rsi || !study?.unready.includes(rsi.name),
  };
}
