/** Puts the page together: data goes into the store, from there into a picture, and onto the screen. */

import { Chart } from "./chart.js";
import { firstSymbol } from "./chooser.js";
import { Clock } from "./clock.js";
import { Connection } from "./connection.js";
import { DepthPanel } from "./depth-panel.js";
import { limitsOf } from "./intervals.js";
import { placeLegends, showBands } from "./legends.js";
import { SignalButtons } from "./markers.js";
import { noticeOf, remarksOf } from "./notices.js";
import { Pointer, showCrosshair } from "./pointer.js";
import { byId, showConnection, showDataAge, showNotice, showPriceTag, showQuote, showSymbol, showWindowsOf } from "./readout.js";
import { Scene } from "./scene.js";
import { Choices } from "./state.js";
import { Store } from "./store.js";
import { onThemeChange, readTheme } from "./theme.js";
import { mountControls } from "./toolbar.js";
import { View } from "./view.js";

const WRITE_EVERY_MS = 100; // the age's tenths; the rest of the writing changes with the data
const STILL_EVERY_MS = 1000; // with reduced motion a live chart steps once a second
const DRAW_LEAST_MS = 1200; // what is only shifted runs out of axis at the right, where no data comes; the data of each second draws anyway
const ZOOMED_DRAW_MS = 90; // while the reader zooms: nothing but a drawing shows it
const BOOKS_DRAW_MS = 500; // books come ten times a second, and each would draw all panes
const DRAGGED_DRAW_MS = 220; // while the reader drags: in between the drawing is shifted, with what lies beside the view
const SHIFTED_MOST = 0.3; // share of the view: what lies beside it reaches a little further
const REACH_SHARE = 0.5; // older candles are fetched before the view needs them

const clock = new Clock();
const choices = new Choices(location.search);
const view = new View(() => clock.now(), limitsOf(choices.interval, byId("plot").clientWidth));
const store = new Store(
  () => (state.dirty = true),
  () => (state.booked = depth.dirty = true),
);
const scene = new Scene(store, view, choices);
const connection = new Connection(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`, {
  state: (now) => (state.connection = now),
  time: (serverTime) => clock.hear(serverTime),
  subscribed: ({ stale_after_ms }) => (state.staleAfterMs = stale_after_ms),
  fault: (text) => (state.fault = text),
  snapshot: (part) => take(() => store.snapshot(part)),
  update: (part) => take(() => store.update(part)),
});
const still = matchMedia("(prefers-reduced-motion: reduce)");
const plotly = /** @type {any} */ (globalThis).Plotly;
const chart = plotly ? new Chart(byId("plot"), plotly, byId("signals-moving")) : null;
const depth = new DepthPanel();
const buttons = new SignalButtons();
const pointer = new Pointer(byId("chart"), {
  pointed: () => (state.pointed = true),
  dragged: (px) => view.pan(-px * (chart?.msPerPx() ?? 0)),
  zoomed: (factor, x) => view.zoom(factor, chart?.timeAt(x) ?? null),
});

const state = {
  staleAfterMs: 5000,
  connection: /** @type {"connecting" | "open" | "reconnecting"} */ ("connecting"),
  fault: "",
  stale: false,
  dirty: false,
  booked: false,
  moved: false,
  pointed: false,
  following: false,
  shown: 0,
  theme: readTheme(),
};
const at = { written: -Infinity, shifted: -Infinity, drawn: -Infinity };

/** @param {() => void} change what a message of the server changes */
function take(change) {
  state.fault = "";
  change();
}

/** The reader, or a link, has chosen. @param {Set<string>} changed */
function follow(changed) {
  state.following = true;
  const { symbol, interval, at: place, span } = choices;
  connection.followBook(choices.depth || wantsBookPanes());
  depth.show(choices.depth);
  if (changed.has("symbol") || changed.has("interval")) {
    // The same moment of another symbol is what one wants to compare; of another interval the same, with its own span.
    view.adopt(limitsOf(interval, byId("plot").clientWidth), span);
    store.choose(symbol, interval);
    state.fault = "";
    chart?.reset();
    document.title = `${symbol} · klinestream`;
    showSymbol(symbol);
    connection.follow(symbol, interval);
    if (place !== null) view.goTo(place);
  } else {
    if (changed.has("span") && (span ?? view.limits.spanMs) !== view.spanMs) view.show(span);
    if (changed.has("at") && place === null && !view.live) view.goLive();
    else if (changed.has("at") && place !== null && place !== Math.round(view.right())) view.goTo(place);
  }
  state.dirty = true;
  state.following = false;
  remember();
}

/** @returns {boolean} */
function wantsBookPanes() {
  return choices.interval === "windows" && choices.panes.has("book");
}

/** Where the reader has gone stands in the link. */
function remember() {
  if (state.following) return;
  choices.change({ at: view.live ? null : Math.round(view.right()), span: view.spanMs === view.limits.spanMs ? null : Math.round(view.spanMs) });
}

/** @param {number} now by the server's clock */
function judgeAge(now) {
  const newest = store.newest;
  const age = newest === null ? null : now - newest;
  const stale = age !== null && age > state.staleAfterMs;
  if (stale !== state.stale) state.dirty = true;
  state.stale = stale;
  showDataAge(age, stale);
  showConnection(state.connection !== "open" ? state.connection : age === null ? "waiting" : stale ? "stale" : "live");
  showNotice(noticeOf({ ...state, drawable: chart !== null, filled: newest !== null, symbol: store.symbol, interval: store.interval }));
  showBands(scene.gapsInView(now), remarksOf(stale && view.until === null ? age : null, store.older?.state ?? null, wantsBookPanes() ? store.books.state : null));
}

/** @param {number} now */
function draw(now) {
  if (!chart) return;
  view.oldest = store.range?.from ?? null;
  const right = view.right(now);
  // What stands still in a pause or a replay is not stale: it is what was asked for.
  const stale = state.stale && view.until === null;
  const picture = scene.picture(now, stale, state.theme);
  const marks = chart.draw(picture, { right, spanMs: view.spanMs, theme: state.theme });
  showQuote(store.symbol, scene.quote(now));
  showWindowsOf(store.candles ? undefined : store.windows.last);
  const box = chart.plotBox();
  Object.assign(byId("signals").style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.width}px`, height: `${box.height}px` });
  const placed = marks.map((mark) => ({ ...mark, left: chart.xOf(mark.x) - box.left, top: chart.yOfPrice(mark.y) - box.top }));
  buttons.show(placed.filter(({ left, top }) => left >= 0 && left <= box.width && top >= 0 && top <= box.height));
  placeLegends((pane) => chart.topOf(pane), chart.bottomOfPrice());
  showPriceTag(picture.level, picture.level !== null && chart.shows(picture.level) ? chart.yOfPrice(picture.level) : null, stale);
  byId("plot").setAttribute("aria-label", scene.words(picture.level));
  state.shown = scene.shownTo();
}

/** Legends show the moment under the pointer, or else the last one. @param {boolean} again whether what was drawn has changed */
function point(again) {
  if (!chart) return;
  const box = chart.plotBox();
  const inside = pointer.x !== null && pointer.x <= box.left + box.width;
  const pointed = scene.point(inside && pointer.x !== null ? chart.timeAt(pointer.x) : null, again);
  const price = inside && pointer.y !== null && pointed ? chart.priceAt(pointer.y) : null;
  showCrosshair(
    pointed ? { x: chart.xOf(pointed.time), height: box.top + box.height, time: pointed.text } : null,
    price === null ? null : { y: pointer.y ?? 0, width: box.left + box.width, price: scene.priceText(price) },
  );
}

/** @param {number} sinceMs when it was drawn last @returns {boolean} whether the view has changed so much, or for so long */
function due(sinceMs) {
  if (state.booked && wantsBookPanes() && sinceMs >= BOOKS_DRAW_MS) return true;
  if (!state.moved || !chart) return view.live && sinceMs >= DRAW_LEAST_MS;
  if (chart.spanMs !== view.spanMs) return sinceMs >= ZOOMED_DRAW_MS;
  return sinceMs >= DRAGGED_DRAW_MS || chart.shifted() > SHIFTED_MOST;
}

/** @param {number} time */
function frame(time) {
  requestAnimationFrame(frame);
  const now = clock.now();
  if (time - at.written >= WRITE_EVERY_MS) {
    at.written = time;
    judgeAge(now);
    depth.draw(store.books, { time, now, staleAfterMs: state.staleAfterMs });
    store.reach(view.left(now) - view.spanMs * REACH_SHARE);
  }
  const drawing = state.dirty || due(time - at.drawn) || scene.shownTo() !== state.shown;
  if (drawing) {
    draw(now);
    at.drawn = at.shifted = time;
    state.dirty = state.booked = state.moved = false;
  } else if (state.moved || time - at.shifted >= (still.matches ? STILL_EVERY_MS : 0)) {
    chart?.shift(view.right(now));
    at.shifted = time;
  }
  if (drawing || state.pointed || pointer.x !== null) point(drawing);
  state.pointed = false;
}

const actions = {
  /** @param {number} share of what is shown, to later times */
  pan: (share) => (Number.isFinite(share) ? view.pan(share * view.spanMs) : share < 0 ? view.goOldest() : view.goLive()),
  /** @param {number} factor below 1 shows less time */
  zoom: (factor) => view.zoom(factor, view.live ? null : view.right() - view.spanMs / 2),
  goLive: () => view.goLive(),
  togglePause: () => (view.live ? view.pause() : view.goLive()),
  /** @param {?number} time */
  replayTo: (time) => view.replayTo(time),
  rows: () => scene.rows(clock.now()),
  range: () => store.range,
  plot: byId("plot"),
};

onThemeChange(() => {
  state.theme = readTheme();
  state.dirty = true;
});
new ResizeObserver(() => (state.dirty = true)).observe(byId("plot"));
view.onChange(() => {
  state.moved = true;
  remember();
});
choices.onChange(follow);
mountControls(choices, actions);
if (choices.symbol) follow(new Set(["symbol"]));
else choices.change({ symbol: await firstSymbol() }, { remember: "replace" });
requestAnimationFrame(frame);
