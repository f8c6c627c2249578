/** What is said in place of a chart, and beside one that is not complete. Pure. */

import { showAge } from "./format.js";

/** @typedef {{kind: "wait" | "error", title: string, text: string}} Notice */

const OLDER_WORDS = {
  idle: "", oldest: "", loading: "loading older candles", failed: "older candles can't be fetched now: trying again", full: "no more candles fit this page",
};

/**
 * @param {Object} state
 * @param {boolean} state.drawable whether the drawing library is there
 * @param {string} state.fault what the server refused
 * @param {boolean} state.filled whether there is data
 * @param {"connecting" | "open" | "reconnecting"} state.connection
 * @param {string} state.symbol
 * @param {string} state.interval
 * @returns {?Notice}
 */
export function noticeOf({ drawable, fault, filled, connection, symbol, interval }) {
  if (!drawable) return { kind: "error", title: "The chart can't be drawn", text: "plotly.js did not load: reload the page, or see the server's log." };
  if (fault) return { kind: "error", title: "The server refused this", text: fault };
  if (filled) return null;
  const [one, complete] = interval === "windows" ? ["window", "a window is complete"] : ["candle", "a candle has begun"];
  if (connection === "open") {
    const text = `Nothing came in the time shown here. The chart starts by itself as soon as ${complete}.`;
    return { kind: "wait", title: `Waiting for the first ${one} of ${symbol}`, text };
  }
  if (connection === "connecting") return { kind: "wait", title: "Connecting", text: `The chart appears with the first ${one}.` };
  return { kind: "error", title: "The server can't be reached", text: "Trying again by itself; nothing that it still holds will be missing." };
}

/**
 * @param {?number} staleMs for how long there has been no new data; null if there is
 * @param {?import("./older.js").Reach} older
 * @param {?string} book whether there is an order book; null if nobody wants it drawn
 * @returns {{kind: string, text: string}[]}
 */
export function remarksOf(staleMs, older, book = null) {
  const text = older ? OLDER_WORDS[older] : "";
  return [
    ...(staleMs === null ? [] : [{ kind: "stale", text: `stale: nothing new for ${showAge(staleMs)}` }]),
    ...(book === "none" ? [{ kind: "older", text: "no order book: klinestream up --with books" }] : []),
    ...(text ? [{ kind: "older", text }] : []),
  ];
}
