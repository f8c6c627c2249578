/** Puts the page together: what comes from the connection goes into the series, and from there onto the screen. */

import { Chart } from "./chart.js";
import { Chooser } from "./chooser.js";
import { Clock } from "./clock.js";
import { Connection } from "./connection.js";
import { decimalsFor, showPrice } from "./format.js";
import { PANES } from "./layout.js";
import { Pointer } from "./pointer.js";
import { byId, showConnection, showDataAge, showLegends, showNotice, showQuote, showSymbol } from "./readout.js";
import { Series } from "./series.js";
import { onThemeChange, readTheme } from "./theme.js";

const DEFAULT_SYMBOL = "BTCUSDT";
const WRITE_EVERY_MS = 100; // the age's tenths; the rest of the writing changes with the data
const STILL_EVERY_MS = 1000; // with reduced motion the chart steps once a second
const DRAW_LEAST_MS = 1000; // what is only shifted runs out of axis at the right, where no windows come
const DRAW_SLACK_MS = 200; // the windows of each second draw anyway, give or take their jitter

const state = {
  symbol: "",
  series: new Series(120_000),
  staleAfterMs: 5000,
  connection: /** @type {"connecting" | "open" | "reconnecting"} */ ("connecting"),
  fault: "",
  stale: false,
  dirty: false,
  theme: readTheme(),
};
const clock = new Clock();
const still = matchMedia("(prefers-reduced-motion: reduce)");
const plotly = /** @type {any} */ (globalThis).Plotly;
const chart = plotly ? new Chart(byId("plot"), plotly) : null;
const pointer = new Pointer(byId("chart"), () => (state.pointed = true));
const chooser = new Chooser((symbol) => choose(symbol, true));
const connection = new Connection(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, {
  state: (now) => (state.connection = now),
  time: (serverTime) => clock.hear(serverTime),
  fault: (text) => (state.fault = text),
  snapshot: (message) => {
    state.series = new Series(message.span_ms);
    state.staleAfterMs = message.stale_after_ms;
    take(message.windows);
  },
  update: (message) => take(message.windows),
});

/** @param {import("./series.js").Window[]} windows */
function take(windows) {
  state.series.add(windows);
  state.fault = "";
  state.dirty = true;
}

/** @param {string} symbol @param {boolean} remember whether the link should change */
function choose(symbol, remember) {
  if (symbol === state.symbol) return;
  state.symbol = symbol;
  state.series = new Series(state.series.spanMs);
  state.fault = "";
  state.dirty = true;
  chart?.reset();
  chooser.current = symbol;
  if (remember) history.pushState(null, "", `?symbol=${encodeURIComponent(symbol)}`);
  document.title = `${symbol} · klinestream`;
  showSymbol(symbol);
  connection.follow(symbol);
}

/** @returns {?{kind: "wait" | "error", title: string, text: string}} what to say in place of a chart */
function notice() {
  if (!chart) return { kind: "error", title: "The chart can't be drawn", text: "plotly.js did not load: reload the page, or see the server's log." };
  if (state.fault) return { kind: "error", title: "The server refused this", text: state.fault };
  if (state.series.last) return null;
  if (state.connection === "open") {
    return { kind: "wait", title: `Waiting for the first window of ${state.symbol}`, text: "Nothing came in the time shown here. The chart starts by itself as soon as a window is complete." };
  }
  if (state.connection === "connecting") return { kind: "wait", title: "Connecting", text: "The chart appears with the first window." };
  return { kind: "error", title: "The server can't be reached", text: "Trying again by itself; nothing that it still holds will be missing." };
}

/** @param {number} now by the server's clock */
function judgeAge(now) {
  const age = state.series.last ? now - state.series.last.window_end : null;
  const stale = age !== null && age > state.staleAfterMs;
  if (stale !== state.stale) state.dirty = true;
  state.stale = stale;
  showDataAge(age, stale);
  showConnection(state.connection !== "open" ? state.connection : age === null ? "waiting" : stale ? "stale" : "live");
  showNotice(notice());
}

/** @param {number} now */
function draw(now) {
  if (!chart) return;
  chart.draw(state.series, { now, theme: state.theme, stale: state.stale });
  showQuote(state.symbol, state.series, now - state.series.spanMs);
  const rsiTop = chart.topOf(PANES.rsi);
  byId("legend-price").style.top = `${chart.topOf(PANES.price) + 4}px`;
  byId("legend-volume").style.top = `${chart.topOf(PANES.volume) - 16}px`;
  byId("legend-rsi").style.top = `${rsiTop - 16}px`;
  const last = state.series.last;
  const tag = byId("price-tag");
  tag.hidden = last === undefined;
  if (!last) return;
  const price = showPrice(last.close, decimalsFor(last.close));
  tag.textContent = price;
  tag.dataset.stale = String(state.stale);
  tag.style.top = `${chart.yOfPrice(last.close, PANES.price)}px`;
  byId("plot").setAttribute("aria-label", `Price of ${state.symbol}, now ${price}, with volume and RSI, over the last ${state.series.spanMs / 1000} seconds`);
}

/** Legends show the window under the pointer, or else the last one. */
function point() {
  if (!chart) return;
  const pointed = pointer.x === null ? undefined : state.series.at(chart.timeAt(pointer.x) + state.series.slideMs() / 2);
  const window = pointed ?? state.series.last ?? null;
  showLegends(window, pointed !== undefined);
  const box = chart.plotBox();
  pointer.show(pointed ? { x: chart.xOf(pointed.window_end), height: box.top + box.height, time: pointed.window_end } : null);
}

let writtenAt = -Infinity;
let shiftedAt = -Infinity;
let drawnAt = -Infinity;

/** @param {number} at */
function frame(at) {
  requestAnimationFrame(frame);
  const now = clock.now();
  if (at - writtenAt >= WRITE_EVERY_MS) {
    writtenAt = at;
    judgeAge(now);
  }
  const step = still.matches ? STILL_EVERY_MS : 0;
  if (at - drawnAt >= DRAW_LEAST_MS + DRAW_SLACK_MS) state.dirty = true;
  if (state.dirty) {
    draw(now);
    drawnAt = at;
  } else if (at - shiftedAt >= step) chart?.shift(now);
  else return;
  shiftedAt = at;
  if (state.dirty || pointer.x !== null) point();
  state.dirty = false;
}

/** @returns {Promise<string>} the symbol of the link, or a first one that has data */
async function firstSymbol() {
  const linked = new URLSearchParams(location.search).get("symbol");
  if (linked) return linked.toUpperCase();
  const symbols = await chooser.load().catch(() => []);
  return symbols.includes(DEFAULT_SYMBOL) ? DEFAULT_SYMBOL : (symbols[0] ?? DEFAULT_SYMBOL);
}

onThemeChange(() => {
  state.theme = readTheme();
  state.dirty = true;
});
new ResizeObserver(() => (state.dirty = true)).observe(byId("plot"));
addEventListener("popstate", async () => choose(await firstSymbol(), false));
choose(await firstSymbol(), false);
requestAnimationFrame(frame);
