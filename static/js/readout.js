/** Everything that is written rather than drawn: last price, badges, legends, notices. */

import { decimalsFor, showAge, showDifference, showPrice, showTime, showVolume, splitSymbol } from "./format.js";

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./series.js").Window} Window */

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

/** @param {string} symbol @param {Series} series @param {number} from the left end of what is shown */
export function showQuote(symbol, series, from) {
  const last = series.last;
  const shown = series.windows.filter((window) => window.window_end >= from);
  const first = shown[0];
  if (!last || !first) {
    ["price", "change", "stat-high", "stat-low", "stat-volume", "stat-rsi"].forEach((id) => write(id, "–"));
    return;
  }
  const decimals = decimalsFor(last.close);
  const change = last.close - first.close;
  write("price", showPrice(last.close, decimals));
  byId("change").dataset.direction = change > 0 ? "up" : change < 0 ? "down" : "flat";
  const percent = showDifference((100 * change) / first.close, 2);
  const seconds = Math.round((last.window_end - first.window_end) / 1000);
  byId("change").replaceChildren(`${showDifference(change, decimals)} (${percent} %)`, make("small", ` in ${seconds} s`));
  write("stat-high", showPrice(Math.max(...shown.map((window) => window.high)), decimals));
  write("stat-low", showPrice(Math.min(...shown.map((window) => window.low)), decimals));
  write("stat-volume-name", `Volume, ${sizeOf(last)}`);
  write("stat-volume", showVolume(last.volume));
  byId("stat-rsi").replaceChildren(last.rsi === null ? "–" : last.rsi.toFixed(1), ...(last.rsi_ready ? [] : [make("small", " warming up")]));
  document.title = `${showPrice(last.close, decimals)} ${symbol} · klinestream`;
}

/**
 * The exact values of one window, in the legends of the three panes.
 * @param {?Window} window
 * @param {boolean} pointed whether the reader points at it, so that its time matters
 */
export function showLegends(window, pointed) {
  if (window === null) {
    ["legend-price", "legend-volume", "legend-rsi"].forEach((id) => byId(id).replaceChildren());
    return;
  }
  const decimals = decimalsFor(window.close);
  const price = (/** @type {number} */ value) => showPrice(value, decimals);
  byId("legend-price").replaceChildren(
    ...(pointed ? [make("time", showTime(window.window_end))] : []),
    item("close", "Price", price(window.close)),
    item("average", `Average, ${sizeOf(window)}`, price(window.average_price)),
    item("band", "Low – high", `${price(window.low)} – ${price(window.high)}`),
  );
  byId("legend-volume").replaceChildren(item("volume", `Volume, ${sizeOf(window)}`, showVolume(window.volume)));
  const rsi = item("rsi", "RSI", window.rsi === null ? "–" : window.rsi.toFixed(2));
  byId("legend-rsi").replaceChildren(rsi, ...(window.rsi_ready ? [] : [make("em", "warming up")]));
}

/** @param {Window} window @returns {string} */
function sizeOf(window) {
  return `${(window.window_end - window.window_start) / 1000} s`;
}

/** @param {string} kind @param {string} name @param {string} value */
function item(kind, name, value) {
  const element = make("span", "", kind);
  element.append(make("i", ""), `${name} `, make("b", value));
  return element;
}
