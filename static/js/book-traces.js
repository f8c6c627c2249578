/** What plotly.js draws of spread and imbalance over time. Pure. */

import { stroke } from "./traces.js";

/** @typedef {import("./order-books.js").Features} Features */
/** @typedef {import("./theme.js").Theme} Theme */

export const BOOK_PANES = ["spread", "imbalance"];

/** @param {(Features | null)[]} features @returns {number} */
export function spreadMost(features) {
  return Math.max(0, ...features.map((record) => record?.spread ?? 0));
}

/** @param {(Features | null)[]} features in order; a null breaks the lines @param {Theme} theme @returns {Object[]} */
export function bookTraces(features, theme) {
  const x = features.map((record) => record?.E ?? null);
  const column = (/** @type {(record: Features) => ?number} */ of) => features.map((record) => (record ? of(record) : null));
  const steps = { shape: "hv" };
  const deep = column((record) => record.imbalance_20);
  const area = (/** @type {number} */ sign, /** @type {string} */ fillcolor) => {
    const y = deep.map((value) => (value === null ? null : sign > 0 ? Math.max(0, value) : Math.min(0, value)));
    return stroke(x, y, "y6", steps, { fill: "tozeroy", fillcolor });
  };
  return [
    stroke(x, column((record) => record.spread), "y5", { ...steps, color: theme["ema-2"], width: 1.5 }),
    area(1, theme["up-soft"]),
    area(-1, theme["down-soft"]),
    stroke(x, column((record) => record.imbalance), "y6", { ...steps, color: theme.muted, width: 1 }, { opacity: 0.75 }),
  ];
}
