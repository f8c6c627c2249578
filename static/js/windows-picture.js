/** What the chart shows of sliding windows. Pure. */

import { gapBands } from "./bands.js";
import { breakBands, makeZones, staleBand, warmingBands } from "./shades.js";
import { makeTraces, warmingUp } from "./traces.js";

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./chart.js").Picture} Picture */

const OTHERS = ["volume", "rsi"]; // all that windows have

/**
 * @param {Object} shown
 * @param {Series} shown.drawn windows in view, and some more on both sides
 * @param {Series} shown.inView
 * @param {import("./series.js").Window | undefined} shown.last the newest one
 * @param {Set<string>} shown.panes
 * @param {import("./gaps.js").Gap[]} shown.gaps
 * @param {?number} shown.staleFrom since when there is no new data, null if there is
 * @param {import("./theme.js").Theme} theme
 * @returns {Picture}
 */
export function windowsPicture({ drawn, inView, last, panes, gaps, staleFrom }, theme) {
  const windows = inView.windows;
  const others = OTHERS.filter((name) => panes.has(name));
  return {
    others,
    dated: false,
    extent: windows.length ? [Math.min(...windows.map((window) => window.low)), Math.max(...windows.map((window) => window.high))] : null,
    volumeMost: Math.max(0, ...windows.map((window) => window.volume)),
    macd: [0, 0],
    level: last?.close ?? null,
    paint: ({ msPerPx, panes: places }) => ({
      traces: makeTraces(drawn, theme, others, last ?? null),
      still: makeZones(theme, places, last?.close ?? null),
      moving: [
        ...gapBands(gaps, theme, msPerPx),
        ...breakBands(drawn.breaks(), theme, msPerPx),
        ...(places.rsi ? warmingBands(warmingUp(drawn), "y3", [0, 100], theme, msPerPx) : []),
        ...(staleFrom === null ? [] : [staleBand(staleFrom, theme)]),
      ],
      marks: [],
    }),
  };
}
