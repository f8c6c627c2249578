/** What plotly.js draws: traces and shapes of one symbol's windows. Pure. */

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./series.js").Window} Window */
/** @typedef {import("./theme.js").Theme} Theme */

const SECOND_MS = 1000;
const FAR_MS = 3_600_000; // a shape that ends this far past the newest window ends past every view
const LABEL_LEAST_MS = 6000; // narrower stretches have no room for a word

/**
 * Columns by time; a null between two runs breaks the lines there. Of windows that hold the same klines the first stands
 * for all: drawn twice, every second would be a step.
 * @param {Series} series
 */
export function columns(series) {
  const broken = series.broken();
  /** @type {Object<string, any[]>} */
  const table = { time: [], close: [], average: [], low: [], high: [], volume: [], rising: [], ready: [], warming: [] };
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
      low: window.low,
      high: window.high,
      volume: window.volume,
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
  const ended = Math.floor(before.window_end / SECOND_MS) === Math.floor(window.window_end / SECOND_MS);
  return ended && before.points === window.points && before.average_price === window.average_price;
}

/** @param {Series} series @param {Theme} theme @returns {Object[]} */
export function makeTraces(series, theme) {
  const { time, close, average, low, high, volume, rising, ready, warming } = columns(series);
  const line = (/** @type {any[]} */ y, /** @type {string} */ yaxis, /** @type {Object} */ style, more = {}) => ({
    type: "scatter", mode: "lines", x: time, y, yaxis, line: { width: 0, ...style }, connectgaps: false, hoverinfo: "skip", ...more,
  });
  const edge = outline(time, low, high);
  return [
    line(edge.y, "y", {}, { x: edge.x, fill: "toself", fillcolor: theme["accent-soft"] }),
    // The price on top: where a market is quiet both lines are one.
    line(average, "y", { color: theme.average, width: 1.4 }),
    line(close, "y", { color: theme.accent, width: 2 }),
    ...[true, false].map((up) => {
      const some = bars(time, volume.map((value, i) => (rising[i] === up ? value : null)), Math.max(series.slideMs(), SECOND_MS) * 0.39);
      return line(some.y, "y2", {}, { x: some.x, fill: "tozeroy", fillcolor: up ? theme["up-soft"] : theme["down-soft"] });
    }),
    line(warming, "y3", { color: theme.rsi, width: 1.4, dash: "2px,3px" }, { opacity: 0.65 }),
    line(ready, "y3", { color: theme.rsi, width: 1.8 }),
    {
      type: "scatter", mode: "markers", x: time.slice(-1), y: close.slice(-1), yaxis: "y", hoverinfo: "skip", cliponaxis: false,
      marker: { size: 8, color: theme.accent, line: { width: 2, color: theme.surface } },
    },
  ];
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
 * @returns {{x: number[], y: number[]}}
 */
export function bars(time, values, half) {
  /** @type {{x: number[], y: number[]}} */
  const line = { x: [], y: [] };
  values.forEach((value, i) => {
    if (value === null) return;
    line.x.push(time[i] - half, time[i] - half, time[i] + half, time[i] + half);
    line.y.push(0, value, value, 0);
  });
  return line;
}

/**
 * Shapes that stand still: the zones of the RSI, lines between the panes, and the level of the last price.
 * @param {Theme} theme
 * @param {?number} last
 * @returns {Object[]}
 */
export function makeZones(theme, last) {
  const zone = (/** @type {number} */ y0, /** @type {number} */ y1, /** @type {string} */ fillcolor) => ({
    type: "rect", layer: "below", xref: "paper", x0: 0, x1: 1, yref: "y3", y0, y1, fillcolor, line: { width: 0 },
  });
  const level = (/** @type {number} */ y, yref = "y3", color = theme["zone-line"]) => ({
    type: "line", layer: "below", xref: "paper", x0: 0, x1: 1, yref, y0: y, y1: y, line: { color, width: 1, dash: "4px,4px" },
  });
  const price = last === null ? [] : [level(last, "y", theme.accent)];
  const border = (/** @type {number} */ y) => ({
    type: "line", layer: "below", xref: "paper", x0: 0, x1: 1, yref: "paper", y0: y, y1: y, line: { color: theme.edge, width: 1 },
  });
  return [border(0.452), border(0.262), zone(70, 100, theme["zone-high"]), zone(30, 70, theme.zone), zone(0, 30, theme["zone-low"]), level(70), level(30), ...price];
}

/**
 * Shapes that move with time: breaks between runs, the RSI that warms up, data that has become stale.
 * @param {Series} series
 * @param {Theme} theme
 * @param {boolean} stale
 * @returns {Object[]}
 */
export function makeStretches(series, theme, stale) {
  const stretch = (/** @type {number} */ from, /** @type {number} */ to, /** @type {string} */ fillcolor, /** @type {string} */ text, y = {}) => ({
    type: "rect", layer: "below", xref: "x", x0: from, x1: to, yref: "paper", y0: 0, y1: 1, fillcolor, line: { width: 0 },
    label: { text: to - from < LABEL_LEAST_MS ? "" : text, textposition: "top left", padding: 6, font: { size: 11, color: theme.muted } }, ...y,
  });
  const shapes = series.breaks().map(({ from, to }) => stretch(from, to, theme.gap, "no data", { label: gapLabel(to - from, theme) }));
  for (const { from, to } of warmingUp(series)) {
    shapes.push(stretch(from, to, theme.warming, "warming up", { yref: "y3", y0: 0, y1: 100, label: warmingLabel(to - from, theme) }));
  }
  if (stale && series.last) shapes.push(stretch(series.last.window_end, series.last.window_end + FAR_MS, theme.stale, ""));
  return shapes;
}

/** @param {Series} series @returns {{from: number, to: number}[]} where the RSI is there or due, but has not converged */
function warmingUp(series) {
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

/** @param {number} ms @param {Theme} theme */
function gapLabel(ms, theme) {
  const text = ms < LABEL_LEAST_MS ? "" : `no data for ${(ms / 1000).toFixed(0)} s`;
  return { text, textposition: "middle center", textangle: -90, font: { size: 11, color: theme.muted } };
}

/** @param {number} ms @param {Theme} theme */
function warmingLabel(ms, theme) {
  return { text: ms < LABEL_LEAST_MS ? "" : "warming up", textposition: "bottom left", padding: 5, font: { size: 11, color: theme.muted } };
}
