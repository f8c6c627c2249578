/** Shapes under the drawing: zones and levels that stand still, and bands that move with time. Pure. */

import { borders } from "./layout.js";

/** @typedef {import("./theme.js").Theme} Theme */
/** @typedef {import("./layout.js").Panes} Panes */
/** @typedef {{from: number, to: number}} Stretch */

const FAR_MS = 3_600_000_000; // a shape that ends this far past the newest data ends past every view
const LABEL_LEAST_PX = 44; // narrower stretches have no room for a word
const LABEL_TOP_PX = 34; // below the legend
const LETTER_PX = 3; // half a letter's width: an upright label turns about its middle
const BAND_LEAST_PX = 3; // a second is nothing in a view of days, and must be seen nevertheless

/**
 * Shapes that stand still: the zones of the RSI, the zero of the MACD, lines between the panes, and the level of the last price.
 * @param {Theme} theme
 * @param {Panes} panes
 * @param {?number} last
 * @returns {Object[]}
 */
export function makeZones(theme, panes, last) {
  const across = { layer: "below", xref: "paper", x0: 0, x1: 1 };
  const zone = (/** @type {number} */ y0, /** @type {number} */ y1, /** @type {string} */ fillcolor) => ({
    ...across, type: "rect", yref: "y3", y0, y1, fillcolor, line: { width: 0 },
  });
  const level = (/** @type {number} */ y, yref = "y3", color = theme["zone-line"]) => ({
    ...across, type: "line", yref, y0: y, y1: y, line: { color, width: 1, dash: "4px,4px" },
  });
  const border = (/** @type {number} */ y) => ({ ...across, type: "line", yref: "paper", y0: y, y1: y, line: { color: theme.edge, width: 1 } });
  const rsi = panes.rsi ? [zone(70, 100, theme["zone-high"]), zone(30, 70, theme.zone), zone(0, 30, theme["zone-low"]), level(70), level(30)] : [];
  const macd = panes.macd ? [{ ...level(0, "y4"), line: { color: theme["zone-line"], width: 1 }, opacity: 0.5 }] : [];
  const even = panes.imbalance ? [{ ...level(0, "y6"), line: { color: theme["zone-line"], width: 1 }, opacity: 0.5 }] : [];
  return [...borders(panes).map(border), ...rsi, ...macd, ...even, ...(last === null ? [] : [level(last, "y", theme.accent)])];
}

/**
 * A stretch of time over all panes.
 * @param {Stretch} stretch
 * @param {string} fillcolor
 * @param {number} msPerPx
 * @param {Object} [label]
 */
export function band({ from, to }, fillcolor, msPerPx, label = {}) {
  const least = BAND_LEAST_PX * msPerPx;
  const half = Math.max(to - from, least) / 2;
  const middle = (from + to) / 2;
  return { type: "rect", layer: "below", xref: "x", x0: middle - half, x1: middle + half, yref: "paper", y0: 0, y1: 1, fillcolor, line: { width: 0 }, label };
}

/** @param {number} newest when the newest data ended @param {Theme} theme */
export function staleBand(newest, theme) {
  return band({ from: newest, to: newest + FAR_MS }, theme.stale, 0);
}

/**
 * Stretches in which there is nothing.
 * @param {Stretch[]} stretches
 * @param {Theme} theme
 * @param {number} msPerPx
 */
export function breakBands(stretches, theme, msPerPx) {
  return stretches.map((stretch) => band(stretch, theme.gap, msPerPx, upright(`no data for ${spanOf(stretch.to - stretch.from)}`, stretch, msPerPx, theme)));
}

/**
 * Stretches in which a pane's values have not converged.
 * @param {Stretch[]} stretches
 * @param {"y3" | "y4"} yref
 * @param {[number, number]} range of the pane
 * @param {Theme} theme
 * @param {number} msPerPx
 */
export function warmingBands(stretches, yref, range, theme, msPerPx) {
  return stretches.map(({ from, to }) => {
    const text = (to - from) / msPerPx < LABEL_LEAST_PX ? "" : "warming up";
    const label = { text, textposition: "bottom left", padding: 5, font: { size: 11, color: theme.muted } };
    const [y0, y1] = range;
    return { type: "rect", layer: "below", xref: "x", x0: from, x1: to, yref, y0, y1, fillcolor: theme.warming, line: { width: 0 }, label };
  });
}

/** @param {string} text @param {Stretch} stretch @param {number} msPerPx @param {Theme} theme @returns {Object} a label that runs upwards in a band */
export function upright(text, { from, to }, msPerPx, theme) {
  const fits = (to - from) / msPerPx >= LABEL_LEAST_PX / 2;
  return { text: fits ? text : "", textposition: "top center", textangle: -90, padding: LABEL_TOP_PX + LETTER_PX * text.length, font: { size: 11, color: theme.muted } };
}

/** @param {number} ms @returns {string} a length of time, roughly */
export function spanOf(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}
