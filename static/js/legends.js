/** The legends of the panes: the exact values of the moment pointed at, or else the newest ones. */

import { gapWords } from "./bands.js";
import { isUp } from "./candle-traces.js";
import { decimalsFor, showDifference, showMoment, showPoints, showPrice, showTime, showVolume } from "./format.js";
import { overlaysOf } from "./overlays.js";
import { byId, make } from "./readout.js";
import { isOfTrades, sizeOf } from "./series.js";
import { membersOf } from "./studies.js";

/** @typedef {import("./series.js").Window} Window */
/** @typedef {import("./candles.js").Candle} Candle */
/** @typedef {import("./candles.js").Study} Study */

const PANES = ["price", "volume", "rsi", "macd", "spread", "imbalance"];

/** Legends of nothing. */
export function clearLegends() {
  for (const pane of PANES) byId(`legend-${pane}`).replaceChildren();
}

/**
 * @param {(pane: string) => ?number} topOf pixels from the top of the chart to a pane's, null if it isn't there
 * @param {number} bottom the same to the lower end of the price's
 */
export function placeLegends(topOf, bottom) {
  for (const pane of PANES) {
    const top = topOf(pane);
    const legend = byId(`legend-${pane}`);
    legend.hidden = top === null;
    if (top !== null) legend.style.top = `${pane === "price" ? top + 4 : top - 17}px`;
  }
  byId("bands").style.top = `${bottom - 7}px`;
}

/**
 * @param {Window} window
 * @param {boolean} timed whether its time isn't plain: the reader points at it, or looks back
 */
export function showWindowLegends(window, timed) {
  const decimals = decimalsFor(window.close);
  const price = (/** @type {?number} */ value) => (value === null ? "–" : showPrice(value, decimals));
  byId("legend-price").replaceChildren(
    ...(timed ? [make("time", showTime(window.window_end))] : []),
    item("close", "Price", price(window.close)),
    item("average", `Average, ${sizeOf(window)}`, price(window.average_price)),
    ...(isOfTrades(window) ? [item("vwap-1", "VWAP", price(window.average_by_volume ?? null))] : []),
    item("band", "Low – high", window.low === null ? "–" : `${price(window.low)} – ${price(window.high)}`),
    ...(window.points === 0 ? [make("em", "no trades")] : []),
    ...(window.whole === false ? [make("em", "began within it: earlier trades may be missing")] : []),
  );
  const volume = (/** @type {?number} */ value) => (value === null ? "–" : showVolume(value));
  byId("legend-volume").replaceChildren(
    item(isOfTrades(window) ? "total" : "volume", `Volume, ${sizeOf(window)}`, showVolume(window.volume)),
    ...(isOfTrades(window) ? [item("bought", "Bought", volume(window.buy_volume ?? null)), item("sold", "Sold", volume(window.sell_volume ?? null))] : []),
  );
  const rsi = item("rsi", "RSI", window.rsi === null ? "–" : window.rsi.toFixed(2));
  byId("legend-rsi").replaceChildren(rsi, ...(window.rsi_ready ? [] : [make("em", "warming up")]));
  byId("legend-macd").replaceChildren();
}

/** @param {import("./order-books.js").Features} book */
export function showBookLegends({ spread, mid, imbalance, imbalance_20: deep }) {
  const signed = (/** @type {?number} */ value) => (value === null ? "–" : showDifference(value, 2));
  const points = spread === null || mid === null ? "–" : `${Number(spread.toPrecision(4))} · ${showPoints(spread, mid)}`;
  byId("legend-spread").replaceChildren(item("spread", "Spread", points));
  byId("legend-imbalance").replaceChildren(item("volume", "Imbalance, 20 levels", signed(deep)), item("best", "Best level", signed(imbalance)));
}

/**
 * @param {Candle} candle
 * @param {Study | undefined} study its indicators, or those of the newest closed candle before it
 * @param {{timed: boolean, show: Set<string>}} how `timed` where its time isn't plain
 */
export function showCandleLegends(candle, study, { timed, show }) {
  const decimals = decimalsFor(candle.close);
  const price = (/** @type {number} */ value) => showPrice(value, decimals);
  const change = make("b", `${showDifference((100 * (candle.close - candle.open)) / candle.open, 2)} %`, isUp(candle) ? "up" : "down");
  byId("legend-price").replaceChildren(
    ...(timed ? [make("time", showMoment(candle.t))] : []),
    ends(candle, price),
    change,
    ...doubts(candle),
    ...overlaysOf(show, Object.keys(study?.values ?? {})).map((overlay) => overlayItem(overlay, study, price)),
  );
  byId("legend-volume").replaceChildren(item("volume", "Volume", showVolume(candle.volume)));
  const indexes = membersOf("rsi", Object.keys(study?.values ?? {}));
  byId("legend-rsi").replaceChildren(...indexes.map(({ name, label }) => valued("rsi", label, study, name, (value) => value.toFixed(2))));
  byId("legend-macd").replaceChildren(...macdItems(study, price));
}

/**
 * What the bands in view mean, and what else the reader should know of what is in view.
 * @param {import("./gaps.js").Gap[]} gaps those in view
 * @param {{kind: string, text: string}[]} others
 */
export function showBands(gaps, others) {
  const words = [...gapWords(gaps).map(({ meaning, text }) => ({ kind: String(meaning), text })), ...others];
  const list = byId("bands");
  const said = words.map(({ text }) => text).join("\n");
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  list.hidden = words.length === 0;
  list.replaceChildren(...words.map(({ kind, text }) => {
    const element = make("li", text);
    element.dataset.kind = kind;
    return element;
  }));
}

/** @param {Candle} candle @returns {HTMLElement[]} why its numbers may change */
function doubts({ provisional, complete }) {
  if (provisional) return [make("em", "in progress")];
  return complete ? [] : [make("em", "incomplete: seconds are missing")];
}

/** @param {ReturnType<typeof overlaysOf>[number]} overlay @param {Study | undefined} study @param {(value: number) => string} price */
function overlayItem({ family, name, label, ink, rest }, study, price) {
  if (family !== "bollinger") return valued(ink, label, study, name, price);
  const [low, high] = ["lower", "upper"].map((edge) => study?.values[`bollinger_${edge}_${rest}`] ?? null);
  return item(ink, label, low === null || high === null ? "–" : `${price(low)} – ${price(high)}`);
}

/** @param {Study | undefined} study @param {(value: number) => string} price */
function macdItems(study, price) {
  const [first] = membersOf("macd", Object.keys(study?.values ?? {}));
  if (!first) return [];
  const signed = (/** @type {number} */ value) => (value < 0 ? "−" : "") + price(Math.abs(value));
  return [
    valued("macd", first.label, study, first.name, signed),
    valued("macd-signal", "Signal", study, `macd_signal_${first.rest}`, signed),
    valued("histogram", "Difference", study, `macd_histogram_${first.rest}`, signed),
  ];
}

/**
 * @param {string} kind
 * @param {string} label
 * @param {Study | undefined} study
 * @param {string} name
 * @param {(value: number) => string} shown
 */
function valued(kind, label, study, name, shown) {
  const value = study?.values[name] ?? null;
  const element = item(kind, label, value === null ? "–" : shown(value));
  if (study?.unready.includes(name)) element.append(" ", make("em", "warming up"));
  return element;
}

/** @param {string} kind @param {string} name @param {string} value */
function item(kind, name, value) {
  const element = make("span", "", kind);
  element.append(make("i", ""), `${name} `, make("b", value));
  return element;
}

/** @param {Candle} candle @param {(value: number) => string} price */
function ends(candle, price) {
  const element = make("span", "", "ends");
  for (const name of /** @type {const} */ (["open", "high", "low", "close"])) {
    element.append(`${name[0].toUpperCase()}\u00a0`, make("b", price(candle[name])), " ");
  }
  return element;
}
