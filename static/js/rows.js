/** What is shown, as a table: the same columns and texts as REST gives. Pure. */

import { isOfTrades } from "./series.js";
import { membersOf } from "./studies.js";

/** @typedef {{name: string, columns: string[], rows: any[][]}} Table */

const OF_WINDOW = ["symbol", "window_start", "window_end", "close", "average_price", "low", "high", "volume", "points", "rsi", "rsi_ready", "since", "revision"];
const OF_TRADE_WINDOW = [
  "symbol", "window_start", "window_end", "close", "average_price", "average_by_volume", "low", "high", "volume", "buy_volume", "sell_volume", "points", "whole",
  "rsi", "rsi_ready", "since", "since_id", "source", "proof", "revision",
];
const OF_CANDLE = ["s", "i", "t", "T", "o", "h", "l", "c", "v", "q", "V", "Q", "n", "f", "L", "klines", "complete", "origin", "revision"];

/** @param {string} symbol @param {import("./series.js").Window[]} windows @returns {Table} */
export function windowRows(symbol, windows) {
  const columns = isOfTrades(windows.at(-1)) ? OF_TRADE_WINDOW : OF_WINDOW;
  return { name: `${symbol}-windows`, columns, rows: windows.map((window) => columns.map((column) => /** @type {any} */ (window)[column] ?? null)) };
}

/**
 * Closed candles with the indicators that are shown. A candle in progress is no record, and left out.
 * @param {string} symbol
 * @param {string} interval
 * @param {import("./candles.js").Candle[]} candles
 * @param {import("./candles.js").Study[]} studies
 * @param {string[]} names of indicators
 * @returns {Table}
 */
export function candleRows(symbol, interval, candles, studies, names) {
  const byTime = new Map(studies.map((study) => [study.t, study]));
  const rows = candles.filter((candle) => !candle.provisional).map(({ t, record }) => {
    const study = byTime.get(t);
    const unready = (study?.unready ?? []).filter((name) => names.includes(name)).join(" ");
    return [...OF_CANDLE.map((column) => record[column] ?? null), ...names.map((name) => study?.values[name] ?? null), unready];
  });
  return { name: `${symbol}-${interval}`, columns: [...OF_CANDLE, ...names, "unready"], rows };
}

/**
 * The names of the indicators that are shown.
 * @param {string[]} names all there are
 * @param {Set<string>} families overlays and panes
 * @returns {string[]}
 */
export function shownNames(names, families) {
  return ["sma", "ema", "bollinger", "vwap", "rsi", "macd"].filter((family) => families.has(family)).flatMap((family) =>
    membersOf(family, names).flatMap(({ name, rest }) => {
      if (family === "bollinger") return ["upper", "middle", "lower"].map((edge) => `bollinger_${edge}_${rest}`);
      return family === "macd" ? [name, `macd_signal_${rest}`, `macd_histogram_${rest}`] : [name];
    }),
  );
}
