/** Puts the graph's page together: what the server answers becomes a model, and from there a drawing and a table. */

import { Clock } from "../clock.js";
import { byId, showConnection, showDataAge } from "../readout.js";
import { nextTheme, onThemeChange, rememberedTheme, setTheme } from "../theme.js";
import { Asking } from "./asking.js";
import { isFound, leastOf, readChoices, writeChoices } from "./choices.js";
import { draw, readInk } from "./drawing.js";
import { Model } from "./model.js";
import { spotAt, spotsOf } from "./places.js";
import { chartOf, showHead, showHint, showLegend, showPairs } from "./telling.js";

const AGES_EVERY_MS = 1000;
const LINK_WAIT_MS = 300; // browsers take only so many changes of the link a minute
const SLIDE_WAIT_MS = 150;
const LEGEND_PX = 10; // below it
const REACH_PX = { mouse: 6, touch: 18 };
const THEME_TEXT = { auto: "Theme: as the machine", dark: "Theme: dark", light: "Theme: light" };

const state = {
  choices: readChoices(location.search),
  /** @type {?Model} */
  model: null,
  /** @type {(?import("./places.js").Spot)[]} */
  spots: [],
  over: "",
  lost: "",
};
const clock = new Clock();
const canvas = /** @type {HTMLCanvasElement} */ (byId("drawing"));
const find = /** @type {HTMLInputElement} */ (byId("find"));
const least = /** @type {HTMLInputElement} */ (byId("least"));
const candles = /** @type {HTMLSelectElement} */ (byId("candles"));
let ink = readInk();

const asking = new Asking({
  graph: (answer) => {
    clock.hear(answer.server_time);
    state.lost = "";
    state.model = new Model(answer);
    showLegend(state.model, ink.groups);
    place();
    tell();
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

/** @param {Partial<import("./choices.js").Choices>} patch */
function choose(patch) {
  const before = state.choices;
  state.choices = { ...before, ...patch };
  remember();
  showTools();
  asking.follow(state.choices);
  if (before.find !== state.choices.find) tell();
}

/** Where the symbols stand in a frame of this size. */
function place() {
  const legend = byId("legend").offsetHeight + LEGEND_PX;
  state.spots = state.model ? spotsOf(state.model.answer.nodes, canvas.clientWidth, canvas.clientHeight - legend) : [];
}

/** @returns {number} the symbol that the reader looks at, -1 for none */
function over() {
  return state.model && state.over ? state.model.answer.nodes.symbol.indexOf(state.over) : -1;
}

function paint() {
  const { model, spots } = state;
  if (!model) return;
  const found = model.answer.nodes.symbol.map((symbol) => isFound(symbol, state.choices.find));
  const at = over();
  draw(canvas, { model, spots, over: at, found }, ink);
  const spot = at < 0 ? null : spots[at];
  showHint(spot ? { model, place: at, spot, width: canvas.clientWidth, height: canvas.clientHeight } : null);
}

function tell() {
  if (!state.model) return;
  showHead(state.model);
  showPairs(state.model, state.choices.interval, state.choices.find);
  paint();
  judge();
}

/** How old the data is, how the server is, and what stands where there is nothing to see. */
function judge() {
  const { model, lost } = state;
  const now = clock.now();
  const stale = model?.stale(now) ?? false;
  showDataAge(model?.age(now) ?? null, stale);
  showConnection(lost ? "reconnecting" : !model ? "connecting" : model.answer.time === null ? "waiting" : stale ? "stale" : "live");
  const asked = /** @type {const} */ ({ kind: "all", title: "Asking for the correlations", text: "They appear in a moment." });
  const away = /** @type {const} */ ({ kind: "all", title: "The server can't be reached", text: `${lost}. Trying again by itself.` });
  const notice = model ? model.notice : lost ? away : asked;
  byId("notice").hidden = notice === null;
  if (!notice) return;
  byId("notice").dataset.kind = notice.kind;
  byId("notice-title").textContent = notice.title;
  byId("notice-text").textContent = notice.text;
}

function showTools() {
  const { choices } = state;
  if (find.value.trim() !== choices.find) find.value = choices.find;
  byId("find-clear").hidden = find.value === "";
  if (!sliding) {
    least.value = String(choices.least);
    byId("least-value").textContent = choices.least.toFixed(2);
  }
  candles.value = String(choices.candles);
  for (const button of document.querySelectorAll("#intervals [data-interval]")) {
    button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.interval === choices.interval));
  }
  byId("theme").title = `${THEME_TEXT[rememberedTheme()]} (T)`;
  byId("theme").setAttribute("aria-label", THEME_TEXT[rememberedTheme()]);
}

let sliding = 0; // a timer, while the reader moves the slider
let remembering = 0;

function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", location.pathname + writeChoices(state.choices)), LINK_WAIT_MS);
}

/** @param {string} symbol */
function look(symbol) {
  if (symbol === state.over) return;
  state.over = symbol;
  canvas.dataset.over = String(symbol !== "");
  paint();
}

/** @param {PointerEvent | MouseEvent} event @returns {string} the symbol under the pointer, or none */
function under(event) {
  const box = canvas.getBoundingClientRect();
  const touch = event instanceof PointerEvent && event.pointerType === "touch";
  const at = spotAt(state.spots, event.clientX - box.left, event.clientY - box.top, touch ? REACH_PX.touch : REACH_PX.mouse);
  return at < 0 || !state.model ? "" : state.model.answer.nodes.symbol[at];
}

/** A finger can't hover: its first touch shows a symbol, the second opens it. @param {PointerEvent | MouseEvent} event */
function press(event) {
  const symbol = under(event);
  const touch = event instanceof PointerEvent && event.pointerType === "touch";
  if (symbol && (!touch || symbol === state.over)) location.assign(chartOf(symbol, state.choices.interval));
  else look(symbol);
}

/** @param {number} by places further, in order of name, among those that are drawn and found */
function step(by) {
  const symbols = state.model?.answer.nodes.symbol.filter((symbol, i) => state.spots[i] && isFound(symbol, state.choices.find)) ?? [];
  if (!symbols.length) return;
  const at = symbols.indexOf(state.over);
  look(symbols[at < 0 ? (by > 0 ? 0 : symbols.length - 1) : (at + by + symbols.length) % symbols.length]);
}

function turnTheme() {
  setTheme(nextTheme(rememberedTheme()));
  showTools();
}

/** @param {KeyboardEvent} event */
function key(event) {
  const typing = event.target === find;
  const drawn = event.target === canvas || event.target === document.body;
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === candles) return;
  if (event.key === "Escape" && typing && find.value) choose({ find: "" });
  else if (event.key === "Escape" && typing) find.blur();
  else if (event.key === "Escape") look("");
  else if (event.key === "/" && !typing) find.focus();
  else if (event.key.toLowerCase() === "t" && !typing) turnTheme();
  else if (drawn && event.key === "ArrowRight") step(1);
  else if (drawn && event.key === "ArrowLeft") step(-1);
  else if (drawn && event.key === "Enter" && state.over) location.assign(chartOf(state.over, state.choices.interval));
  else return;
  event.preventDefault();
}

/** The number follows at once, the question once the slider rests. */
function slide() {
  const asked = leastOf(least.value);
  byId("least-value").textContent = asked.toFixed(2);
  clearTimeout(sliding);
  sliding = setTimeout(() => {
    sliding = 0;
    choose({ least: asked });
  }, SLIDE_WAIT_MS);
}

/** The symbols of the table's row that the pointer or the focus is in: the first of them is looked at. @param {Event} event */
function rowLooked(event) {
  const row = /** @type {?HTMLElement} */ (/** @type {HTMLElement} */ (event.target).closest("[data-pair]"));
  const place = Number(row?.dataset.pair?.split(" ")[0] ?? -1);
  look(state.model?.answer.nodes.symbol[place] ?? "");
}

document.addEventListener("keydown", key);
find.addEventListener("input", () => choose({ find: find.value.trim() }));
byId("find-clear").addEventListener("click", () => choose({ find: "" }));
least.addEventListener("input", slide);
candles.addEventListener("change", () => choose({ candles: Number(candles.value) }));
byId("intervals").addEventListener("click", (event) => {
  const interval = /** @type {?HTMLElement} */ (/** @type {HTMLElement} */ (event.target).closest("[data-interval]"))?.dataset.interval;
  if (interval) choose({ interval });
});
byId("theme").addEventListener("click", turnTheme);
canvas.addEventListener("pointermove", (event) => event.pointerType !== "touch" && look(under(event)));
canvas.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && look(""));
canvas.addEventListener("click", press);
canvas.addEventListener("blur", () => look(""));
byId("pairs").addEventListener("pointerover", rowLooked);
byId("pairs").addEventListener("focusin", rowLooked);
byId("pairs").addEventListener("pointerleave", () => look(""));
addEventListener("popstate", () => choose(readChoices(location.search)));
onThemeChange(() => {
  ink = readInk();
  if (state.model) showLegend(state.model, ink.groups);
  tell();
});
new ResizeObserver(() => {
  place();
  paint();
}).observe(canvas);
setInterval(() => document.hidden || judge(), AGES_EVERY_MS);
showTools();
judge();
asking.follow(state.choices);
