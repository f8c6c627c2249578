/** Puts the market page together: what the server answers goes into a snapshot, and from there into the rows on the screen. */

import { Clock } from "../clock.js";
import { byId, showConnection, showDataAge } from "../readout.js";
import { Cells, detailOf, shownOf } from "./cells.js";
import { readChoices, writeChoices } from "./choices.js";
import { Feed } from "./feed.js";
import { Hold } from "./hold.js";
import { pathOf } from "./line.js";
import { arranged, carried } from "./order.js";
import { Rows } from "./rows.js";
import { Snapshot } from "./snapshot.js";
import { countsOf, showSummary } from "./summary.js";
import { Toolbar } from "./toolbar.js";

const AGES_EVERY_MS = 1000;
const TICK_MS = 500; // how long a moved price has a colour; it doesn't fade, since each frame of that would be painted
const LINK_WAIT_MS = 300; // browsers take only so many changes of the link a minute
const HOLDS = {
  pointer: "Order kept while you point at the rows",
  focus: "Order kept while a row has the focus; Esc leaves it",
  scroll: "",
};

const state = {
  choices: readChoices(location.search),
  /** @type {?Snapshot} */
  snapshot: null,
  /** @type {number[]} */
  order: [],
  /** @type {(?number)[]} */
  volumes: [],
  unit: "",
  /** @type {Map<string, string>} */
  paths: new Map(),
  lost: "",
  writtenAt: -Infinity,
};
const clock = new Clock();
const viewport = byId("table");
const body = byId("rows");
const toolbar = new Toolbar(() => state.choices, choose);
const rows = new Rows(viewport, body, () => new Cells(), write);
const hold = new Hold(body, viewport, held);
const feed = new Feed({
  market: take,
  lines: (symbols, lines) => {
    state.paths = new Map(symbols.map((symbol, i) => [symbol, pathOf(lines[i])]));
    rows.refresh();
  },
  same: () => {
    state.lost = "";
    judge();
  },
  lost: (text) => {
    state.lost = text;
    judge();
  },
});

/** @param {import("./snapshot.js").Answer} answer */
function take(answer) {
  clock.hear(answer.server_time);
  state.lost = "";
  if (answer.interval !== state.choices.interval) return; // one that was under way when the interval changed
  const before = state.snapshot;
  state.snapshot = new Snapshot(answer);
  if (before) state.order = carried(state.order, before, state.snapshot);
  toolbar.offer(state.snapshot.quotes());
  compare();
  if (before === null || !hold.held) arrange(before === null);
  else rows.show(state.order, false);
  state.writtenAt = performance.now();
  calm();
  judge();
}

/** @param {import("./choices.js").Choices} choices */
function choose(choices) {
  const before = state.choices;
  state.choices = choices;
  remember();
  if (choices.interval !== before.interval) feed.follow(choices.interval);
  toolbar.show();
  compare();
  arrange(true);
  judge();
}

/** Volumes are compared in one asset, the one chosen or the usual one. */
function compare() {
  if (!state.snapshot) return;
  state.unit = state.snapshot.unit(state.choices.quote);
  state.volumes = state.snapshot.volumes(state.unit);
  byId("volume-unit").textContent = state.unit;
  byId("rsi-interval").textContent = state.snapshot.answer.interval;
}

/** @param {boolean} fromTop */
function arrange(fromTop) {
  if (!state.snapshot) return;
  state.order = arranged(state.snapshot, state.choices, clock.now(), state.volumes);
  viewport.setAttribute("aria-rowcount", String(state.order.length + 1));
  rows.show(state.order, fromTop);
}

/** @returns {import("./cells.js").Source} */
function source() {
  const snapshot = /** @type {Snapshot} */ (state.snapshot);
  return { snapshot, now: clock.now(), unit: state.unit, volumes: state.volumes, paths: state.paths };
}

/** @param {import("./rows.js").Row} row @param {number} place */
function write(row, place) {
  const cells = /** @type {Cells} */ (row);
  cells.write(shownOf(source(), place), place, true);
}

let calming = 0;

/** Prices that have moved are coloured for a moment. */
function calm() {
  clearTimeout(calming);
  calming = setTimeout(() => {
    for (const cell of body.querySelectorAll("[data-tick]")) cell.removeAttribute("data-tick");
  }, TICK_MS);
}

/** What doesn't stand in a row: how old the data is, how the server is, how the market stands. */
function judge() {
  const { snapshot, lost } = state;
  const now = clock.now();
  const age = snapshot && snapshot.newest ? now - snapshot.newest : null;
  const stale = snapshot !== null && age !== null && age > snapshot.answer.stale_after_ms;
  showDataAge(age, stale);
  showConnection(lost ? "reconnecting" : !snapshot ? "connecting" : age === null ? "waiting" : stale ? "stale" : "live");
  if (snapshot) showSummary(countsOf(snapshot, state.order, now), state.order.length, snapshot.count);
  showNotice();
}

function showNotice() {
  const { snapshot, lost } = state;
  const [title, text] = !snapshot
    ? lost ? ["The server can't be reached", `${lost}. Trying again by itself.`] : ["Asking for the market", "It appears in a moment."]
    : snapshot.count === 0 ? ["No symbol has data yet", "The table fills by itself as soon as the first window is complete."]
    : state.order.length === 0 ? ["No symbol matches", "None has what you search for among those chosen."] : ["", ""];
  byId("notice").hidden = title === "";
  byId("notice-title").textContent = title;
  byId("notice-text").textContent = text;
  byId("show-all").hidden = !snapshot || snapshot.count === 0;
  byId("reading").hidden = !snapshot || snapshot.answer.candles_read;
}

/** The reader has come to the rows, or left them. */
function held() {
  byId("hold").textContent = hold.reason === null ? "" : HOLDS[hold.reason];
  if (!hold.held) arrange(false);
}

let remembering = 0;

function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", location.pathname + writeChoices(state.choices)), LINK_WAIT_MS);
}

/** @param {KeyboardEvent} event */
function key(event) {
  const target = /** @type {HTMLElement} */ (event.target);
  const typing = target === toolbar.find;
  if (event.ctrlKey || event.metaKey || event.altKey || target instanceof HTMLSelectElement) return;
  if (event.key === "Escape" && body.contains(target)) target.blur();
  else if (event.key === "Escape" && typing && toolbar.find.value) toolbar.clear();
  else if (event.key === "Escape" && typing) toolbar.find.blur();
  else if (event.key === "ArrowDown" && (typing || target === document.body)) rows.focus(typing ? 0 : rows.active);
  else if (event.key === "/" && !typing) toolbar.find.focus();
  else if (event.key.toLowerCase() === "t" && !typing) toolbar.nextTheme();
  else return;
  event.preventDefault();
}

/** Made when somebody rests on a row, and not for all of them each second. @param {Event} event */
function detail(event) {
  const element = /** @type {HTMLElement} */ (event.target).closest(".row");
  for (const row of rows.drawn.values()) {
    const cells = /** @type {Cells} */ (row);
    if (row.element === element) cells.link.title = detailOf(source(), cells.place);
  }
}

document.addEventListener("keydown", key);
body.addEventListener("pointerover", detail);
byId("show-all").addEventListener("click", () => toolbar.clear());
addEventListener("popstate", () => choose(readChoices(location.search)));
setInterval(() => {
  if (document.hidden || !state.snapshot || performance.now() - state.writtenAt < AGES_EVERY_MS) return;
  rows.refresh();
  judge();
}, AGES_EVERY_MS);
toolbar.show();
judge();
feed.follow(state.choices.interval);
