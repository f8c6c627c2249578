/** Candles and their volume as few filled outlines: plotly's own candlesticks are several elements each. Pure. */

import { bars, stroke } from "./traces.js";

/** @typedef {import("./candles.js").Candle} Candle */
/** @typedef {import("./theme.js").Theme} Theme */

const BODY_SHARE = 0.34; // half of a body's width, share of the interval
const WICK_PX = 0.6; // half of a wick's width
const THIN_PX = 3; // a candle narrower than this is its wick alone
const BODY_LEAST_PX = 1; // a candle that closed where it opened is a line, not nothing

/** @typedef {{msPerPx: number, pricePerPx: number}} Scale */

/** @param {Candle} candle @returns {boolean} one that closed where it opened counts as up */
export const isUp = (candle) => candle.close >= candle.open;

/**
 * Traces of the price: whole candles, incomplete ones paler with a mark, the one in progress hollow.
 * @param {Candle[]} candles in order
 * @param {number} lengthMs
 * @param {Scale} scale
 * @param {Theme} theme
 * @returns {Object[]}
 */
export function candleTraces(candles, lengthMs, scale, theme) {
  const drawn = (/** @type {boolean} */ up, /** @type {boolean} */ complete) => {
    const some = candles.filter((candle) => !candle.provisional && isUp(candle) === up && candle.complete === complete);
    const { x, y } = bodies(some, lengthMs, scale);
    const colour = up ? "up" : "down";
    const [fillcolor, name] = complete ? [theme[colour], `whole ${colour}`] : [theme[`${colour}-soft`], `incomplete ${colour}`];
    return stroke(x, y, "y", {}, { fill: "toself", fillcolor, name });
  };
  const incomplete = candles.filter((candle) => !candle.complete);
  const current = candles.filter((candle) => candle.provisional);
  return [
    drawn(true, true), drawn(false, true),
    ...(incomplete.length ? [drawn(true, false), drawn(false, false), marks(incomplete, lengthMs, scale, theme)] : []),
    ...current.flatMap((candle) => hollow(candle, lengthMs, scale, theme)),
  ];
}

/**
 * Candles as one line. Each rises from the lowest price of all to the candle and comes back the same way, so that what
 * joins them has no area.
 * @param {Candle[]} candles
 * @param {number} lengthMs
 * @param {Scale} scale
 * @returns {{x: number[], y: number[]}}
 */
export function bodies(candles, lengthMs, { msPerPx, pricePerPx }) {
  /** @type {{x: number[], y: number[]}} */
  const line = { x: [], y: [] };
  const floor = Math.min(...candles.map((candle) => candle.low));
  const wick = WICK_PX * msPerPx;
  const half = lengthMs < THIN_PX * msPerPx ? wick : Math.max(wick, BODY_SHARE * lengthMs);
  for (const candle of candles) {
    const middle = candle.t + lengthMs / 2;
    const [below, above] = bodyOf(candle, pricePerPx);
    const [left, right, thinLeft, thinRight] = [middle - half, middle + half, middle - wick, middle + wick];
    line.x.push(thinLeft, thinLeft, thinLeft, left, left, thinLeft, thinLeft, thinRight, thinRight, right, right, thinRight, thinRight, thinLeft, thinLeft);
    line.y.push(floor, candle.low, below, below, above, above, candle.high, candle.high, above, above, below, below, candle.low, candle.low, floor);
  }
  return line;
}

/** @param {Candle} candle @param {number} pricePerPx @returns {[number, number]} lower and upper end of the body */
function bodyOf({ open, close }, pricePerPx) {
  const least = (BODY_LEAST_PX * pricePerPx) / 2;
  const [below, above] = [Math.min(open, close), Math.max(open, close)];
  return above - below >= 2 * least ? [below, above] : [(below + above) / 2 - least, (below + above) / 2 + least];
}

/** @param {Candle} candle @param {number} lengthMs @param {Scale} scale @param {Theme} theme @returns {Object[]} its body as an outline, its wicks apart */
function hollow(candle, lengthMs, scale, theme) {
  const colour = isUp(candle) ? "up" : "down";
  const middle = candle.t + lengthMs / 2;
  const half = Math.max(BODY_SHARE * lengthMs, 1.5 * scale.msPerPx);
  const [below, above] = bodyOf(candle, scale.pricePerPx);
  const line = { color: theme[colour], width: 1.4 };
  return [
    stroke([middle, middle, null, middle, middle], [candle.low, below, null, above, candle.high], "y", line, { name: "in progress" }),
    stroke([middle - half, middle - half, middle + half, middle + half, middle - half], [below, above, above, below, below], "y", line, {
      fill: "toself", fillcolor: theme[`${colour}-pale`], name: "in progress",
    }),
  ];
}

/** @param {Candle[]} candles @param {number} lengthMs @param {Scale} scale @param {Theme} theme */
function marks(candles, lengthMs, { pricePerPx }, theme) {
  return {
    type: "scatter", mode: "markers", yaxis: "y", hoverinfo: "skip", name: "incomplete",
    x: candles.map((candle) => candle.t + lengthMs / 2), y: candles.map((candle) => candle.low - 9 * pricePerPx),
    marker: { symbol: "diamond-open", size: 6, color: theme.warn, line: { width: 1.4 } },
  };
}

/**
 * @param {Candle[]} candles
 * @param {number} lengthMs
 * @param {Theme} theme
 * @returns {Object[]}
 */
export function volumeTraces(candles, lengthMs, theme) {
  const bar = (/** @type {string} */ fillcolor, /** @type {(candle: Candle) => boolean} */ wanted) => {
    const some = candles.filter(wanted);
    const { x, y } = bars(some.map((candle) => candle.t + lengthMs / 2), some.map((candle) => candle.volume), BODY_SHARE * lengthMs);
    return stroke(x, y, "y2", {}, { fill: "tozeroy", fillcolor });
  };
  const current = candles.filter((candle) => candle.provisional);
  return [
    bar(theme["up-soft"], (candle) => !candle.provisional && isUp(candle)),
    bar(theme["down-soft"], (candle) => !candle.provisional && !isUp(candle)),
    ...current.map((candle) => bar(theme[isUp(candle) ? "up-pale" : "down-pale"], (each) => each === candle)),
  ];
}
