/** The graph in words: the table of pairs, the largest groups, what the reader points at, what the window is. */

import { showMoment, splitSymbol } from "../format.js";
import { byId, make } from "../readout.js";
import { isFound } from "./choices.js";
import { COLOURS } from "./model.js";

/** @typedef {import("./model.js").Model} Model */

const PAIRS_MOST = 300;
const PARTNERS_MOST = 7;
const TIME_CHARS = "23:45".length;
const DAY_MS = 86_400_000;
const HINT_PX = { width: 232, away: 38 };

/** @param {number} r @returns {string} with a true minus */
export function showR(r) {
  return (r < 0 ? "−" : "") + Math.abs(r).toFixed(3);
}

/** @param {Model} model @param {string} interval @param {string} find */
export function showPairs(model, interval, find) {
  const { symbol } = model.answer.nodes;
  const found = model.edges.filter(({ a, b }) => isFound(symbol[a], find) || isFound(symbol[b], find));
  const shown = found.slice(0, PAIRS_MOST);
  byId("pairs").replaceChildren(...shown.map((edge) => rowOf(edge, symbol, interval)));
  byId("pairs-count").textContent = shown.length < found.length ? `${shown.length} of ${found.length.toLocaleString("en-US")}` : `${found.length}`;
}

/** @param {import("./model.js").Edge} edge @param {string[]} symbol @param {string} interval @returns {HTMLElement} */
function rowOf({ a, b, r, observations, z }, symbol, interval) {
  const row = make("tr", "");
  const pair = make("th", "");
  pair.setAttribute("scope", "row");
  pair.append(linkTo(symbol[a], interval), make("small", " · "), linkTo(symbol[b], interval));
  const strength = make("td", showR(r));
  if (r < 0) strength.dataset.sign = "minus";
  row.append(pair, strength, make("td", String(observations)), make("td", (z < 0 ? "−" : "") + Math.abs(z).toFixed(1)));
  row.dataset.pair = `${a} ${b}`;
  return row;
}

/** @param {string} symbol @param {string} interval @returns {string} the address of the symbol's chart */
export function chartOf(symbol, interval) {
  return `/chart?symbol=${encodeURIComponent(symbol)}&interval=${interval}`;
}

/** @param {string} symbol @param {string} interval */
function linkTo(symbol, interval) {
  const { base, quote } = splitSymbol(symbol);
  const link = make("a", base);
  if (quote && quote !== "USDT") link.append(make("small", `/${quote}`));
  link.setAttribute("href", chartOf(symbol, interval));
  link.title = symbol;
  return link;
}

/** @param {Model} model @param {string[]} colours */
export function showLegend(model, colours) {
  const named = model.groups.slice(0, COLOURS).map(({ name, count }, i) => {
    const item = make("li", "");
    const dot = make("i", "");
    dot.style.setProperty("--ink", colours[i]);
    item.append(dot, `${splitSymbol(name).base} and ${count - 1} more`);
    return item;
  });
  byId("legend").replaceChildren(...named);
}

/** @param {number} one @param {number} other */
const sameDay = (one, other) => Math.floor(one / DAY_MS) === Math.floor(other / DAY_MS);

/** @param {Model} model */
export function showHead(model) {
  const { from, time, interval, candles } = model.answer;
  const plural = (/** @type {number} */ count, /** @type {string} */ word) => `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : "s"}`;
  byId("count").textContent = `${plural(model.count, "symbol")}, ${plural(model.edges.length, "pair")}, ${plural(model.groups.length, "group")}`;
  byId("window").textContent = from === null || time === null ? "" : `${candles} × ${interval}: ${showMoment(from)} – ${sameDay(from, time) ? showMoment(time).slice(-TIME_CHARS) : showMoment(time)} UTC`;
  byId("reading").hidden = model.answer.candles_read;
  const short = model.tooShort;
  byId("short").hidden = short === 0 || short === model.count;
  byId("short").textContent = `${short} with too few candles`;
  const said = `${plural(model.count, "symbol")} and the ${plural(model.edges.length, "pair")} that correlate by ${model.answer.least} or more; the table beside it has them all`;
  byId("drawing").setAttribute("aria-label", said);
}

/** @param {?{model: Model, place: number, spot: import("./places.js").Spot, width: number, height: number}} looked null hides it */
export function showHint(looked) {
  const hint = byId("hint");
  hint.hidden = looked === null;
  if (!looked) return;
  const { model, place, spot, width, height } = looked;
  const { symbol, group, volatility, candles } = model.answer.nodes;
  const partners = model.partners(place);
  const list = make("dl", "");
  for (const { a, b, r } of partners.slice(0, PARTNERS_MOST)) {
    const strength = make("dd", showR(r));
    if (r < 0) strength.dataset.sign = "minus";
    list.append(make("dt", symbol[a === place ? b : a]), strength);
  }
  const moves = volatility[place];
  const facts = [moves === null ? "" : `moves ${(100 * moves).toFixed(3)} % a candle`, `${candles[place]} candles`, group[place] === null ? "no group" : `group of ${splitSymbol(group[place] ?? "").base}`];
  const told = partners.length ? list : make("p", "No pair as strong as asked for");
  hint.replaceChildren(make("h2", symbol[place]), make("p", facts.filter(Boolean).join(" · ")), told);
  const right = spot.x + spot.radius + HINT_PX.away;
  const left = right + HINT_PX.width > width ? spot.x - spot.radius - HINT_PX.away - hint.offsetWidth : right;
  hint.style.setProperty("--left", `${Math.max(6, left)}px`);
  hint.style.setProperty("--top", `${Math.max(6, Math.min(spot.y - 24, height - hint.offsetHeight - 6))}px`);
}
