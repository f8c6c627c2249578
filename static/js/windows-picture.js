/** What the chart shows of sliding windows. Pure. */

import { gapBands } from "./bands.js";
import { BOOK_PANES, bookTraces, spreadMost } from "./book-traces.js";
import { extentOf } from "./series.js";
import { breakBands, makeZones, staleBand, warmingBands } from "./shades.js";
import { makeTraces, warmingUp } from "./traces.js";

/** @typedef {import("./series.js").Series} Series */
/** @typedef {import("./chart.js").Picture} Picture */

const OTHERS = ["volume", "rsi"]; // all that windows have themselves

/**
 * @param {Object} shown
 * @param {Series} shown.drawn windows in view, and some more on both sides
 * @param {Series} shown.inView
 * @param {import("./series.js").Window | undefined} shown.last the newest one
 * @param {Set<string>} shown.panes
 * @param {(import("./order-books.js").Features | null)[]} shown.books of the time drawn; empty where there are none, or nobody wants them
 * @param {import("./gaps.js").Gap[]} shown.gaps
 * @param {?number} shown.staleFrom since when there is no new data, null if there is
 * @param {import("./theme.js").Theme} theme
 * @returns {Picture}
 */
export function windowsPicture({ drawn, inView, last, panes, books, gaps, staleFrom }, theme) {
  const windows = inView.windows;
  const others = [...OTHERS.filter((name) => panes.has(name)), ...(books.length ? BOOK_PANES : [])];
  return {
    others,
    dated: false,
    extent: windows.length ? extentOf(windows) : null,
    volumeMost: Math.max(0, ...windows.map((window) => window.volume)),
    macd: [0, 0],
    spreadMost: spreadMost(books),
    level: last?.close ?? null,
    paint: ({ msPerPx, panes: places }) => ({
      traces: [...makeTraces(drawn, theme, others, last ?? null), ...(books.length ? bookTraces(books, theme) : [])],
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
