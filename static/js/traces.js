/** What plotly.js draws of one symbol's windows, and the outlines that all drawings are made of. Pure. */

import { isOfTrades } from "./series.js";

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./series.js").Window} Window */
/** @typedef {import("./theme.js").Theme} Theme */

const SECOND_MS = 1000;

/**
 * Columns by time; a null between two runs breaks the lines there, and so does a window over trades that holds none. Of windows that
 * hold the same klines the first stands for all: drawn twice, every second would be a step.
 * @param {Series} series
 */
export function columns(series) {
  const broken = series.broken();
  /** @type {Object<string, any[]>} */
  const table = { time: [], close: [], average: [], vwap: [], low: [], high: [], volume: [], bought: [], rising: [], ready: [], warming: [] };
  const put = (/** @type {Object<string, any>} */ row) => Object.keys(table).forEach((name) => table[name].push(row[name] ?? null));
  let rising = true;
  series.windows.forEach((window, i) => {
    const before = series.windows[i - 1];
    if (broken[i]) put({ time: before.window_end + 1 });
    const starts = i === 0 || broken[i];
    if (!starts && sameKlines(before, window)) return;
    // An unchanged price keeps its direction.
    if (starts || window.close !== before.close) rising = starts || window.close > before.close;
    put({
      time: window.window_end,
      close: window.close,
      average: window.average_price,
      vwap: window.average_by_volume,
      low: window.low,
      high: window.high,
      volume: window.volume,
      bought: window.buy_volume,
      rising,
      ready: window.rsi_ready ? window.rsi : null,
      // The first ready value ends the dashed line too, so that both lines meet.
      warming: !window.rsi_ready || (!starts && !before.rsi_ready) ? window.rsi : null,
    });
  });
  return table;
}

/** @param {Window} before @param {Window} window @returns {boolean} klines end with a second: none has ended since */
function sameKlines(before, window) {
  if (isOfTrades(window)) return false;
  const ended = Math.floor(before.window_end / SECOND_MS) === Math.floor(window.window_end / SECOND_MS);
  return ended && before.points === window.points && before.average_price === window.average_price;
}

/**
 * A line, or with a fill an area.
 * @param {(number | null)[]} x
 * @param {(number | null)[]} y
 * @param {string} yaxis
 * @param {Object} style of the line, which has no width without one
 * @param {Object} [more]
 */
export function stroke(x, y, yaxis, style, more = {}) {
  return { type: "scatter", mode: "lines", x, y, yaxis, line: { width: 0, ...style }, connectgaps: false, hoverinfo: "skip", ...more };
}

/**
 * @param {Series} series
 * @param {Theme} theme
 * @param {string[]} panes those besides the price
 * @param {?Window} last the newest window, if its point should be marked
 * @returns {Object[]}
 */
export function makeTraces(series, theme, panes, last) {
  const table = columns(series);
  const { time, close, average, vwap, low, high, ready, warming } = table;
  const line = (/** @type {any[]} */ y, /** @type {string} */ yaxis, /** @type {Object} */ style, more = {}) => stroke(time, y, yaxis, style, more);
  const edge = outline(time, low, high);
  const rsi = [line(warming, "y3", { color: theme.rsi, width: 1.4, dash: "2px,3px" }, { opacity: 0.65 }), line(ready, "y3", { color: theme.rsi, width: 1.8 })];
  return [
    line(edge.y, "y", {}, { x: edge.x, fill: "toself", fillcolor: theme["accent-soft"] }),
    // The price on top: where a market is quiet both lines are one.
    line(average, "y", { color: theme.average, width: 1.4 }),
    ...(isOfTrades(series.last) ? [line(vwap, "y", { color: theme["vwap-1"], width: 1.4, dash: "5px,2px" })] : []),
    line(close, "y", { color: theme.accent, width: 2 }),
    ...(panes.includes("volume") ? volumeBars(table, series, theme) : []),
    ...(panes.includes("rsi") ? rsi : []),
    ...(last && last === series.last ? [tip(time, close, theme)] : []),
  ];
}

/**
 * Volume in two colours: of windows over klines whether the price rose or fell, of those over trades what takers bought, and above it
 * what they sold. Where a source doesn't tell who took, the bar is grey.
 * @param {Object<string, any[]>} table
 * @param {Series} series
 * @param {Theme} theme
 */
function volumeBars({ time, volume, bought, rising }, series, theme) {
  const ofTrades = isOfTrades(series.last);
  const half = (ofTrades ? series.slideMs() : Math.max(series.slideMs(), SECOND_MS)) * 0.39;
  const bar = (/** @type {(number | null)[]} */ values, /** @type {string} */ fillcolor, /** @type {(number | null)[]} */ from = []) => {
    const some = bars(time, values, half, from);
    return stroke(some.x, some.y, "y2", {}, { fill: from.length ? "toself" : "tozeroy", fillcolor });
  };
  const [up, down] = [theme["up-soft"], theme["down-soft"]];
  if (!ofTrades) return [true, false].map((way) => bar(volume.map((value, i) => (rising[i] === way ? value : null)), way ? up : down));
  const known = volume.map((value, i) => (bought[i] === null ? null : value));
  const unknown = volume.map((value, i) => (bought[i] === null ? value : null));
  return [bar(bought, up), bar(known, down, bought), bar(unknown, theme["zone-line"])];
}

/** @param {number[]} time @param {number[]} close @param {Theme} theme @returns {Object} the end of the price line, marked */
function tip(time, close, theme) {
  const marker = { size: 8, color: theme.accent, line: { width: 2, color: theme.surface } };
  return { type: "scatter", mode: "markers", x: time.slice(-1), y: close.slice(-1), yaxis: "y", hoverinfo: "skip", cliponaxis: false, marker };
}

/**
 * The area between two lines as closed outlines, one a run: plotly's own fill between lines knows no gaps.
 * @param {number[]} time
 * @param {(number | null)[]} low
 * @param {(number | null)[]} high
 * @returns {{x: (number | null)[], y: (number | null)[]}}
 */
export function outline(time, low, high) {
  /** @type {{x: (number | null)[], y: (number | null)[]}} */
  const edge = { x: [], y: [] };
  let from = 0;
  for (let to = 0; to <= time.length; to += 1) {
    if (to < time.length && low[to] !== null) continue;
    edge.x.push(...time.slice(from, to), ...time.slice(from, to).reverse(), null);
    edge.y.push(...low.slice(from, to), ...high.slice(from, to).reverse(), null);
    from = to + 1;
  }
  return edge;
}

/**
 * Bars as one line that rises from zero and falls back: plotly's own bars are an element each, and cost more than all the
 * rest of a drawing.
 * @param {number[]} time
 * @param {(number | null)[]} values
 * @param {number} half half of a bar's width, ms
 * @param {(number | null)[]} [from] where each bar begins, if not at zero: then each is an outline of its own
 * @returns {{x: (number | null)[], y: (number | null)[]}}
 */
export function bars(time, values, half, from = []) {
  /** @type {{x: (number | null)[], y: (number | null)[]}} */
  const line = { x: [], y: [] };
  values.forEach((value, i) => {
    if (value === null) return;
    const low = from[i] ?? 0;
    line.x.push(time[i] - half, time[i] - half, time[i] + half, time[i] + half);
    line.y.push(low, value, value, low);
    if (from.length) {
      line.x.push(time[i] - half, null);
      line.y.push(low, null);
    }
  });
  return line;
}

/** @param {Series} series @returns {{from: number, to: number}[]} where the RSI is there or due, but has not converged */
export function warmingUp(series) {
  const broken = series.broken();
  /** @type {{from: number, to: number}[]} */
  const found = [];
  series.windows.forEach((window, i) => {
    if (window.rsi_ready) return;
    const current = found.at(-1);
    if (current && !broken[i] && !series.windows[i - 1]?.rsi_ready) current.to = window.window_end;
    else found.push({ from: window.window_end, to: window.window_end });
  });
  return found;
}
