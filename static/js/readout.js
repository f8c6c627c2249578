/** Everything that is written above and instead of the chart: last price, badges, notices. */

import { decimalsFor, showAge, showDifference, showPrice, showVolume, splitSymbol } from "./format.js";
import { isOfTrades, sizeOf } from "./series.js";

const CONNECTION_TEXT = { connecting: "Connecting", waiting: "Waiting", live: "Live", stale: "Stale", reconnecting: "Reconnecting" };

/** @param {string} id @returns {HTMLElement} */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** @param {string} id @param {string} text */
function write(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/**
 * An element with text and classes; never markup, since symbols come from outside.
 * @param {string} tag
 * @param {string} text
 * @param {string} [className]
 */
export function make(tag, text, className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

/** @param {string} symbol */
export function showSymbol(symbol) {
  const { base, quote } = splitSymbol(symbol);
  byId("symbol").replaceChildren(base, ...(quote ? [make("small", ` / ${quote}`)] : []));
  write("chooser-label", symbol);
}

/** @param {keyof typeof CONNECTION_TEXT} state */
export function showConnection(state) {
  byId("connection").dataset.state = state;
  write("connection-text", CONNECTION_TEXT[state]);
}

/** @param {?number} ageMs @param {boolean} stale */
export function showDataAge(ageMs, stale) {
  byId("age").dataset.state = stale ? "stale" : "fresh";
  write("age-value", ageMs === null ? "–" : showAge(ageMs));
}

/** @param {?{kind: "wait" | "error", title: string, text: string}} notice */
export function showNotice(notice) {
  const element = byId("notice");
  element.hidden = notice === null;
  if (notice === null) return;
  element.dataset.kind = notice.kind;
  write("notice-title", notice.title);
  write("notice-text", notice.text);
}

/**
 * @typedef {Object} Quote
 * @property {number} price
 * @property {number} before the first price in view
 * @property {string} span how long ago that was
 * @property {number} high
 * @property {number} low
 * @property {string} volumeName
 * @property {number} volume
 * @property {?number} rsi
 * @property {boolean} rsiReady
 */

/** @param {string} symbol @param {?Quote} quote null if there is nothing in view */
export function showQuote(symbol, quote) {
  if (quote === null) {
    ["price", "change", "stat-high", "stat-low", "stat-volume", "stat-rsi"].forEach((id) => write(id, "–"));
    return;
  }
  const decimals = decimalsFor(quote.price);
  const change = quote.price - quote.before;
  write("price", showPrice(quote.price, decimals));
  byId("change").dataset.direction = change > 0 ? "up" : change < 0 ? "down" : "flat";
  const percent = showDifference((100 * change) / quote.before, 2);
  byId("change").replaceChildren(`${showDifference(change, decimals)} (${percent} %)`, make("small", ` in ${quote.span}`));
  write("stat-high", showPrice(quote.high, decimals));
  write("stat-low", showPrice(quote.low, decimals));
  write("stat-volume-name", quote.volumeName);
  write("stat-volume", showVolume(quote.volume));
  byId("stat-rsi").replaceChildren(quote.rsi === null ? "–" : quote.rsi.toFixed(1), ...(quote.rsiReady ? [] : [make("small", " warming up")]));
  document.title = `${showPrice(quote.price, decimals)} ${symbol} · klinestream`;
}

/** @param {import("./series.js").Window | undefined} window the newest one; none where candles are shown, or nothing yet */
export function showWindowsOf(window) {
  const ofTrades = isOfTrades(window);
  byId("windows-of").hidden = window === undefined;
  if (window === undefined) return;
  write("windows-of", `${sizeOf(window)} windows over ${ofTrades ? "trades" : "klines"}`);
  write("terms", ofTrades ? "Sliding windows over single trades" : "Sliding windows of closed one-second klines");
}

/** @param {?number} price the last one @param {?number} top pixels from the top of the chart, null if it is out of view @param {boolean} stale */
export function showPriceTag(price, top, stale) {
  const tag = byId("price-tag");
  tag.hidden = price === null || top === null;
  if (price === null || top === null) return;
  write("price-tag", showPrice(price, decimalsFor(price)));
  tag.dataset.stale = String(stale);
  tag.style.top = `${top}px`;
}
