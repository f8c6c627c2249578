/** The page's choices as a link, and back. Pure. Only what differs from the defaults stands in a link. */

export const INTERVALS = ["windows", "1m", "5m", "15m", "30m", "1h", "4h", "1d"];
export const OVERLAYS = ["sma", "ema", "bollinger", "vwap"];
export const PANES = ["volume", "rsi", "macd", "book"];

const NONE = "none"; // an empty list would look like a mistake
const TIME_MOST_MS = 8.64e15; // the last one that a Date can hold

/**
 * @typedef {Object} Linked
 * @property {string} symbol empty if the link names none
 * @property {string} interval one of INTERVALS
 * @property {Set<string>} show some of OVERLAYS
 * @property {Set<string>} panes some of PANES
 * @property {boolean} signals
 * @property {boolean} depth whether the order book stands beside the chart
 * @property {?number} at the time at the right edge, ms; null for the live edge
 * @property {?number} span how much time is shown, ms; null for the interval's own
 */

/** @returns {Linked} what an empty link means */
export function defaults() {
  return { symbol: "", interval: "windows", show: new Set(["ema"]), panes: new Set(["volume", "rsi"]), signals: true, depth: false, at: null, span: null };
}

/**
 * What a link says; what it says that can't be is as if it weren't there.
 * @param {string} search the link from its question mark on
 * @returns {Linked}
 */
export function readLink(search) {
  const said = new URLSearchParams(search);
  const usual = defaults();
  const interval = said.get("interval") ?? "";
  return {
    symbol: (said.get("symbol") ?? "").toUpperCase(),
    interval: INTERVALS.includes(interval) ? interval : usual.interval,
    show: readNames(said.get("show"), OVERLAYS) ?? usual.show,
    panes: readNames(said.get("panes"), PANES) ?? usual.panes,
    signals: said.get("signals") !== "0",
    depth: said.get("depth") === "1",
    at: readTime(said.get("at")),
    span: readTime(said.get("span")),
  };
}

/** @param {Linked} choices @returns {string} the link from its question mark on */
export function writeLink(choices) {
  const usual = defaults();
  const parts = [`symbol=${encodeURIComponent(choices.symbol)}`];
  if (choices.interval !== usual.interval) parts.push(`interval=${choices.interval}`);
  if (!sameNames(choices.show, usual.show)) parts.push(`show=${writeNames(choices.show, OVERLAYS)}`);
  if (!sameNames(choices.panes, usual.panes)) parts.push(`panes=${writeNames(choices.panes, PANES)}`);
  if (!choices.signals) parts.push("signals=0");
  if (choices.depth) parts.push("depth=1");
  if (choices.at !== null) parts.push(`at=${Math.round(choices.at)}`);
  if (choices.span !== null) parts.push(`span=${Math.round(choices.span)}`);
  return `?${parts.join("&")}`;
}

/** @param {Set<string>} one @param {Set<string>} other @returns {boolean} */
export function sameNames(one, other) {
  return one.size === other.size && [...one].every((name) => other.has(name));
}

/** @param {?string} text @param {string[]} known @returns {?Set<string>} null if the link says nothing that is known */
function readNames(text, known) {
  if (text === NONE) return new Set();
  const found = new Set((text ?? "").split(",").filter((name) => known.includes(name)));
  return found.size ? found : null;
}

/** @param {Set<string>} names @param {string[]} known @returns {string} in one order, so that one choice has one link */
function writeNames(names, known) {
  return known.filter((name) => names.has(name)).join(",") || NONE;
}

/** @param {?string} text @returns {?number} */
function readTime(text) {
  const time = /^\d{1,16}$/.test(text ?? "") ? Number(text) : 0;
  return time > 0 && time <= TIME_MOST_MS ? time : null;
}
