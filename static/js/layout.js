/** The chart's panes, axes and ranges. Pure. */

/** @typedef {import("./theme.js").Theme} Theme */
/** @typedef {Object<string, [number, number]>} Panes name of a pane → its share of the height, from the bottom */

export const AXES = { price: "y", volume: "y2", rsi: "y3", macd: "y4", spread: "y5", imbalance: "y6" };
const WEIGHTS = { price: 5.4, volume: 1.5, rsi: 2.3, macd: 2.3, spread: 1.2, imbalance: 1.6 };
const PANE_GAP_PX = 23; // room for the legend above a pane
const MARGIN_SHARE = { above: 0.2, below: 0.12 }; // the legend stands above
const SHRINK_BELOW = 0.55; // the axis narrows only when the data needs little of it: one that follows each tick is hard to read
const HOUR_MS = 3_600_000;
const TICK_STEPS_MS = [
  1000, 2000, 5000, 10000, 15000, 30000, 60000, 120000, 300000, 600000, 900000, 1800000, HOUR_MS, 2 * HOUR_MS, 4 * HOUR_MS, 6 * HOUR_MS, 12 * HOUR_MS,
  24 * HOUR_MS, 48 * HOUR_MS, 168 * HOUR_MS, 336 * HOUR_MS, 720 * HOUR_MS, 2160 * HOUR_MS,
];
const TICK_LEAST_PX = 84;
const MARGIN = { top: 8, bottom: 30, bottomWithDate: 40 };

/**
 * Where the panes lie: the price first, the others below it in a fixed order.
 * @param {string[]} others which panes there are besides the price
 * @param {number} height pixels of all of them
 * @returns {Panes}
 */
export function arrange(others, height) {
  const names = /** @type {(keyof typeof WEIGHTS)[]} */ (["price", ...["volume", "rsi", "macd", "spread", "imbalance"].filter((name) => others.includes(name))]);
  const gap = Math.min(0.06, PANE_GAP_PX / Math.max(height, 1));
  const total = names.reduce((sum, name) => sum + WEIGHTS[name], 0);
  const room = 1 - gap * (names.length - 1);
  /** @type {Panes} */
  const panes = {};
  let top = 1;
  for (const name of names) {
    const bottom = top - (room * WEIGHTS[name]) / total;
    panes[name] = [Math.max(0, bottom), top];
    top = bottom - gap;
  }
  return panes;
}

/** @param {Panes} panes @returns {number[]} where lines between the panes lie, share of the height */
export function borders(panes) {
  const [, ...others] = Object.values(panes);
  const bottoms = Object.values(panes).map(([bottom]) => bottom);
  return others.map(([, top], i) => bottoms[i] - (bottoms[i] - top) * 0.14);
}

/**
 * The price range that shows an extent; the one shown before, as long as it still serves.
 * @param {?[number, number]} extent least and greatest price
 * @param {?[number, number]} before
 * @returns {[number, number]}
 */
export function priceRange(extent, before) {
  if (extent === null) return before ?? [0, 1];
  const [low, high] = extent;
  // A flat series is a line in the middle, not noise blown up; the cheapest coins move by steps of 1e-8.
  const least = Math.max(Math.abs(high) * 2e-5, 4e-8);
  const room = Math.max(high - low, least);
  if (before && low >= before[0] && high <= before[1] && room >= SHRINK_BELOW * (before[1] - before[0])) return before;
  const middle = (low + high) / 2;
  return [middle - room * (0.5 + MARGIN_SHARE.below), middle + room * (0.5 + MARGIN_SHARE.above)];
}

/** @param {number} most the greatest volume @returns {[number, number]} */
export function volumeRange(most) {
  return [0, most > 0 ? most * 1.25 : 1];
}

/** @param {[number, number]} extent least and greatest value; zero is always in view @returns {[number, number]} */
export function macdRange([low, high]) {
  const [bottom, top] = [Math.min(0, low), Math.max(0, high)];
  const room = (top - bottom) * 0.12 || 1;
  return [bottom - room, top + room];
}

/** @param {number} width @param {number} decimals @param {number} price @returns {number} pixels for the prices at the right */
export function priceMargin(width, decimals, price) {
  const digits = 7.2 * decimals + 9.4 * Math.max(1, Math.log10(Math.abs(price) || 1));
  return Math.round(Math.max(width < 600 ? 58 : 66, 22 + digits));
}

/** @param {boolean} dated whether days are told below the hours @returns {number} pixels of the panes' height that the margins take */
export function margins(dated) {
  return MARGIN.top + (dated ? MARGIN.bottomWithDate : MARGIN.bottom);
}

/**
 * @param {Object} view
 * @param {Theme} view.theme
 * @param {number} view.width pixels
 * @param {number} view.height pixels
 * @param {boolean} view.dated whether the interval is one of candles, whose times need days
 * @param {[number, number]} view.time
 * @param {Panes} view.panes
 * @param {[number, number]} view.price
 * @param {[number, number]} view.volume
 * @param {[number, number]} view.macd
 * @param {[number, number]} view.spread
 * @param {number} view.decimals
 * @param {Object[]} view.shapes
 * @returns {Object}
 */
export function makeLayout({ theme, width, height, dated, time, panes, price, volume, macd, spread, decimals, shapes }) {
  const right = priceMargin(width, decimals, price[1]);
  const axis = { gridcolor: theme.grid, zeroline: false, fixedrange: true, ticklabeloverflow: "allow", tickfont: { size: 11.5, color: theme.muted } };
  const yaxis = { ...axis, side: "right", tickformat: "" };
  const step = tickStep(width - right, time[1] - time[0]);
  const lowest = /** @type {keyof typeof AXES} */ (Object.keys(panes).at(-1));
  const values = {
    yaxis: { ...yaxis, range: price, tickformat: `,.${decimals}f`, nticks: 8 },
    yaxis2: { ...yaxis, range: volume, nticks: 4, tickformat: volume[1] >= 1000 ? "" : "~g", exponentformat: "B" },
    yaxis3: { ...yaxis, range: [0, 100], tickvals: [30, 50, 70] },
    yaxis5: { ...yaxis, range: spread, nticks: 4, tickformat: "~g" },
    yaxis6: { ...yaxis, range: [-1, 1], tickvals: [-0.5, 0, 0.5] },
    yaxis4: { ...yaxis, range: macd, nticks: 5, tickformat: "~g" },
  };
  const shown = Object.entries(panes).map(([name, domain]) => {
    const axisName = /** @type {keyof typeof values} */ (AXES[/** @type {keyof typeof AXES} */ (name)].replace("y", "yaxis"));
    return [axisName, { ...values[axisName], domain }];
  });
  return {
    width, height, autosize: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: theme.font, color: theme.text },
    margin: { l: 0, r: right, t: MARGIN.top, b: dated ? MARGIN.bottomWithDate : MARGIN.bottom }, showlegend: false, hovermode: false, dragmode: false, shapes,
    xaxis: { ...axis, type: "date", range: time, anchor: AXES[lowest], tickformat: tickFormat(dated, step), tick0: 0, dtick: step, ticks: "" },
    ...Object.fromEntries(shown),
  };
}

/** @param {boolean} dated @param {number} step @returns {string} the second line stands only where it changes */
function tickFormat(dated, step) {
  if (!dated) return "%H:%M:%S";
  return step < 24 * HOUR_MS ? "%H:%M\n%e %b" : "%e %b\n%Y";
}

/** @param {number} width @param {number} spanMs @returns {number} */
function tickStep(width, spanMs) {
  const least = (spanMs * TICK_LEAST_PX) / Math.max(width, 1);
  return TICK_STEPS_MS.find((step) => step >= least) ?? /** @type {number} */ (TICK_STEPS_MS.at(-1));
}
