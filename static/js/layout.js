/** The chart's panes, axes and ranges. Pure. */

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./theme.js").Theme} Theme */

export const PANES = { price: [0.46, 1], volume: [0.27, 0.42], rsi: [0, 0.23] };
const LEAD_SHARE = 0.035; // room right of now, so that the line's tip doesn't touch the axis
const MARGIN_SHARE = 0.12;
const SHRINK_BELOW = 0.55; // the axis narrows only when the data needs little of it: one that follows each tick is hard to read
const TICK_STEPS_MS = [5000, 10000, 15000, 30000, 60000, 120000, 300000, 600000, 900000];
const TICK_LEAST_PX = 84;

/** @param {number} now @param {number} spanMs @returns {[number, number]} the time shown */
export function timeRange(now, spanMs) {
  const end = now + spanMs * LEAD_SHARE;
  return [end - spanMs, end];
}

/**
 * The price range that shows all windows from a time on; the one shown before, as long as it still serves.
 * @param {Series} series
 * @param {number} from
 * @param {?[number, number]} before
 * @returns {[number, number]}
 */
export function priceRange(series, from, before) {
  const shown = series.windows.filter((window) => window.window_end >= from);
  if (shown.length === 0) return before ?? [0, 1];
  const low = Math.min(...shown.map((window) => window.low));
  const high = Math.max(...shown.map((window) => window.high));
  // A flat series is a line in the middle, not noise blown up; the cheapest coins move by steps of 1e-8.
  const least = Math.max(Math.abs(high) * 2e-5, 4e-8);
  const room = Math.max(high - low, least);
  if (before && low >= before[0] && high <= before[1] && room >= SHRINK_BELOW * (before[1] - before[0])) return before;
  const middle = (low + high) / 2;
  const half = room * (0.5 + MARGIN_SHARE);
  return [middle - half, middle + half];
}

/** @param {Series} series @param {number} from @returns {[number, number]} */
export function volumeRange(series, from) {
  const most = Math.max(0, ...series.windows.filter((window) => window.window_end >= from).map((window) => window.volume));
  return [0, most > 0 ? most * 1.25 : 1];
}

/**
 * @param {Object} view
 * @param {Theme} view.theme
 * @param {number} view.width pixels
 * @param {number} view.height pixels
 * @param {number} view.spanMs
 * @param {[number, number]} view.time
 * @param {[number, number]} view.price
 * @param {[number, number]} view.volume
 * @param {number} view.decimals
 * @param {Object[]} view.shapes
 * @returns {Object}
 */
export function makeLayout({ theme, width, height, spanMs, time, price, volume, decimals, shapes }) {
  const narrow = width < 600;
  const right = Math.max(narrow ? 58 : 66, 22 + 7.2 * decimals + 7.2 * Math.max(1, Math.log10(Math.abs(price[1]) || 1)) * 1.3);
  const axis = { gridcolor: theme.grid, zeroline: false, fixedrange: true, tickfont: { size: 11.5, color: theme.muted } };
  const yaxis = { ...axis, side: "right", tickformat: "" };
  return {
    width, height, autosize: false,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: theme.font, color: theme.text },
    margin: { l: 0, r: Math.round(right), t: 8, b: 30 }, showlegend: false, hovermode: false, dragmode: false, shapes,
    xaxis: { ...axis, type: "date", range: time, anchor: "y3", tickformat: "%H:%M:%S", tick0: 0, dtick: tickStep(width - right, spanMs), ticks: "" },
    yaxis: { ...yaxis, domain: PANES.price, range: price, tickformat: `,.${decimals}f`, nticks: 8 },
    yaxis2: { ...yaxis, domain: PANES.volume, range: volume, nticks: 4, tickformat: volume[1] >= 1000 ? "" : "~g", exponentformat: "B" },
    yaxis3: { ...yaxis, domain: PANES.rsi, range: [0, 100], tickvals: [30, 50, 70] },
  };
}

/** @param {number} width @param {number} spanMs @returns {number} */
function tickStep(width, spanMs) {
  const least = (spanMs * TICK_LEAST_PX) / Math.max(width, 1);
  return TICK_STEPS_MS.find((step) => step >= least) ?? 1_800_000;
}
