/** One row of the table: made once, written often; what has not changed is not written. */

import { decimalsFor, showAge, showDifference, showPrice, showVolume } from "../format.js";
import { make } from "../readout.js";
import { heatOf } from "./heat.js";
import { HEIGHT, WIDTH } from "./line.js";

const SVG = "http://www.w3.org/2000/svg";
const NOTHING = "–";

/** What a row shows of one symbol, all as text. @typedef {Object<string, string>} Shown */

/**
 * @typedef {Object} Source
 * @property {import("./snapshot.js").Snapshot} snapshot
 * @property {number} now
 * @property {string} unit
 * @property {(?number)[]} volumes in this unit
 * @property {Map<string, string>} paths of the lines, by symbol
 */

/**
 * The text of a row. Pure.
 * @param {Source} source
 * @param {number} place
 * @returns {Shown}
 */
export function shownOf({ snapshot, now, volumes, paths }, place) {
  const { symbol, quote, price, change_24h_percent: change, low_24h: low, high_24h: high, rsi, whole_24h: whole } = snapshot.answer;
  const decimals = decimalsFor(price[place] ?? 0);
  const money = (/** @type {?number} */ value) => (value === null ? NOTHING : showPrice(value, decimals));
  const moved = change[place];
  const position = snapshot.position(place);
  const age = snapshot.age(place, now);
  const state = snapshot.rsiState(place, now);
  const heat = state === "ready" ? heatOf(rsi[place] ?? 50) : { side: "calm", percent: 0 };
  return {
    symbol: symbol[place],
    base: snapshot.base(place),
    quote: quote[place],
    price: money(price[place]),
    change: moved === null ? NOTHING : `${showDifference(moved, 2)} %`,
    direction: moved === null || Math.abs(moved) < 0.005 ? "flat" : moved > 0 ? "up" : "down",
    path: paths.get(symbol[place]) ?? "",
    low: money(low[place]),
    high: position === null ? "" : money(high[place]),
    at: position === null ? "" : `${Math.round(100 * position)}%`,
    rsi: rsi[place] === null ? NOTHING : (rsi[place] ?? 0).toFixed(1),
    rsiState: state,
    heat: `${heat.percent}%`,
    side: heat.side,
    volume: volumes[place] === null ? NOTHING : `${whole[place] ? "" : "≥ "}${showVolume(volumes[place] ?? 0)}`,
    age: age === null ? NOTHING : showAge(age),
    stale: String(snapshot.stale(place, now)),
  };
}

export class Cells {
  constructor() {
    this.position = -1;
    this.place = -1;
    /** @type {Shown} */
    this.shown = {};
    this.element = part("div", "row", "row");
    this.link = /** @type {HTMLAnchorElement} */ (make("a", ""));
    this.base = make("b", "");
    this.quote = make("small", "");
    this.link.append(this.base, this.quote);
    this.price = part("div", "price-cell", "cell");
    this.change = make("span", "");
    this.path = document.createElementNS(SVG, "path");
    this.low = make("span", "");
    this.high = make("span", "");
    this.track = make("i", "");
    this.rsi = make("span", "", "heat");
    this.doubt = make("span", "", "unseen");
    this.volume = part("div", "volume-cell", "cell");
    this.age = part("div", "age-cell", "cell");
    this.element.append(
      holding(part("div", "symbol-cell", "rowheader"), this.link),
      this.price,
      holding(part("div", "change-cell", "cell"), drawing(this.path), this.change),
      holding(part("div", "range-cell", "cell"), this.low, this.track, this.high),
      holding(part("div", "rsi-cell", "cell"), this.rsi, this.doubt),
      this.volume,
      this.age,
    );
    this.track.append(make("i", ""));
    this.track.setAttribute("aria-hidden", "true");
  }

  /** @param {Shown} now @param {number} place @param {boolean} ticks whether a price that has moved should be seen to */
  write(now, place, ticks) {
    const before = this.shown;
    const isSame = before.symbol === now.symbol;
    this.shown = now;
    this.place = place;
    const set = (/** @type {string} */ name, /** @type {(value: string) => void} */ apply) => {
      if (before[name] !== now[name]) apply(now[name]);
    };
    set("symbol", (symbol) => {
      this.link.href = `/chart?symbol=${encodeURIComponent(symbol)}`;
      this.link.removeAttribute("title");
    });
    for (const name of /** @type {const} */ (["base", "quote", "price", "change", "low", "high", "rsi", "volume", "age"])) {
      set(name, (text) => (this[name].textContent = text));
    }
    set("path", (path) => this.path.setAttribute("d", path));
    set("at", (at) => {
      this.track.hidden = at === "";
      this.track.style.setProperty("--at", at);
    });
    set("heat", (heat) => this.rsi.style.setProperty("--heat", heat));
    set("side", (side) => (this.rsi.dataset.side = side));
    set("rsiState", (state) => {
      this.rsi.dataset.state = state;
      this.doubt.textContent = state === "warming" ? ", still converging" : state === "old" ? ", of an old candle" : "";
    });
    set("direction", (direction) => (this.element.dataset.direction = direction));
    set("stale", (stale) => (this.element.dataset.stale = stale));
    if (ticks && isSame && before.price !== now.price) this.#tick(before.price, now.price);
    else if (!isSame) delete this.price.dataset.tick;
  }

  /** @param {string} before @param {string} now */
  #tick(before, now) {
    const number = (/** @type {string} */ text) => Number(text.replaceAll(",", ""));
    this.price.dataset.tick = number(now) > number(before) ? "up" : "down";
  }
}

/** All that is known of a symbol, for who rests on its row. @param {Source} source @param {number} place @returns {string} */
export function detailOf({ snapshot, now, unit, volumes }, place) {
  const { symbol, volume_24h: base, quote_volume_24h: own, whole_24h: whole, rsi, rsi_name: name, interval, rsi_time: closed, quote } = snapshot.answer;
  const shown = shownOf({ snapshot, now, unit, volumes, paths: new Map() }, place);
  const lines = [`${symbol[place]}: open its chart`];
  if (shown.at) lines.push(`24 h: low ${shown.low}, high ${shown.high}`);
  if (own[place] !== null) {
    const least = whole[place] ? "" : "at least, since candles are missing, ";
    const worth = quote[place] === unit || volumes[place] === null ? "" : `, now worth ${showVolume(volumes[place] ?? 0)} ${unit}`;
    lines.push(`24 h volume: ${least}${showVolume(base[place] ?? 0)} ${shown.base}, ${showVolume(own[place] ?? 0)} ${quote[place]}${worth}`);
  }
  if (rsi[place] !== null && name) {
    const doubt = { warming: ", still converging", old: ", no newer one is there", ready: "", none: "" }[snapshot.rsiState(place, now)];
    const when = new Date(closed[place] ?? 0).toISOString().slice(5, 16).replace("T", " ");
    lines.push(`${name.replace("rsi_", "RSI ")} of ${interval}: ${(rsi[place] ?? 0).toFixed(2)} at ${when} UTC${doubt}`);
  }
  return lines.join("\n");
}

/** @param {string} tag @param {string} className @param {string} role */
function part(tag, className, role) {
  const element = make(tag, "", className);
  element.setAttribute("role", role);
  return element;
}

/** @param {HTMLElement} element @param {...Node} children */
function holding(element, ...children) {
  element.append(...children);
  return element;
}

/** @param {SVGElement} path */
function drawing(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("class", "line");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}
