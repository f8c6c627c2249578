/** What the chart shows of candles. Pure. */

import { gapBands } from "./bands.js";
import { candleTraces, volumeTraces } from "./candle-traces.js";
import { missing } from "./candles.js";
import { macdRange } from "./layout.js";
import { placeSignals, signalTraces } from "./markers.js";
import { macdExtent, macdTraces, overlayTraces, rsiTraces } from "./overlays.js";
import { breakBands, makeZones, staleBand, warmingBands } from "./shades.js";
import { membersOf, namesOf, warmingUp } from "./studies.js";

/** @typedef {import("./candles.js").Candle} Candle */
/** @typedef {import("./candles.js").Study} Study */
/** @typedef {import("./chart.js").Picture} Picture */
/** @typedef {import("./theme.js").Theme} Theme */

const OTHERS = ["volume", "rsi", "macd"];

/**
 * @typedef {Object} Shown
 * @property {number} lengthMs
 * @property {Candle[]} drawn candles in view, and some more on both sides
 * @property {Candle[]} inView
 * @property {Study[]} studies of those drawn
 * @property {import("./candles.js").Signal[]} signals of those in view
 * @property {Candle | undefined} last the newest one
 * @property {Set<string>} show overlays
 * @property {Set<string>} panes
 * @property {import("./gaps.js").Gap[]} gaps
 * @property {?number} staleFrom since when there is no new data, null if there is
 */

/** @param {Shown} shown @param {Theme} theme @returns {Picture} */
export function candlesPicture(shown, theme) {
  const { lengthMs, drawn, inView, studies, last, show, panes } = shown;
  const source = { studies, names: namesOf(studies), lengthMs, theme };
  const others = OTHERS.filter((name) => panes.has(name));
  const macd = macdExtent({ ...source, studies: others.includes("macd") ? within(studies, inView) : [] });
  return {
    others,
    dated: true,
    extent: extentOf(inView, show.has("bollinger") ? within(studies, inView) : [], source.names),
    volumeMost: Math.max(0, ...inView.map((candle) => candle.volume)),
    macd,
    level: last?.close ?? null,
    paint: (scale) => {
      const marks = placeSignals(shown.signals, inView, lengthMs, scale.pricePerPx);
      return {
        traces: [
          ...overlayTraces(source, show),
          ...candleTraces(drawn, lengthMs, scale, theme),
          ...(scale.panes.volume ? volumeTraces(drawn, lengthMs, theme) : []),
          ...(scale.panes.rsi ? rsiTraces(source) : []),
          ...(scale.panes.macd ? macdTraces(source) : []),
          ...(marks.length ? signalTraces(marks, theme) : []),
        ],
        still: makeZones(theme, scale.panes, last?.close ?? null),
        moving: [...stretches(shown, source, scale, macd), ...(shown.staleFrom === null ? [] : [staleBand(shown.staleFrom, theme)])],
        marks,
      };
    },
  };
}

/** @param {Shown} shown @param {import("./overlays.js").Source} source @param {import("./chart.js").Scale} scale @param {[number, number]} macd */
function stretches({ drawn, gaps, lengthMs }, { studies, names, theme }, { msPerPx, panes }, macd) {
  const warming = (/** @type {string} */ family, /** @type {"y3" | "y4"} */ yref, /** @type {[number, number]} */ range) => {
    const [first] = membersOf(family, names);
    return first ? warmingBands(warmingUp(studies, first.name, lengthMs), yref, range, theme, msPerPx) : [];
  };
  return [
    ...gapBands(gaps, theme, msPerPx),
    ...breakBands(missing(drawn), theme, msPerPx),
    ...(panes.rsi ? warming("rsi", "y3", [0, 100]) : []),
    ...(panes.macd ? warming("macd", "y4", macdRange(macd)) : []),
  ];
}

/**
 * @param {Candle[]} candles
 * @param {Study[]} studies those whose Bollinger bands should be in view too
 * @param {string[]} names
 * @returns {?[number, number]}
 */
function extentOf(candles, studies, names) {
  if (candles.length === 0) return null;
  const bands = membersOf("bollinger", names).flatMap(({ rest }) => [`bollinger_lower_${rest}`, `bollinger_upper_${rest}`]);
  const others = studies.flatMap(({ values }) => bands.map((name) => values[name] ?? null)).filter((value) => value !== null);
  const low = Math.min(...candles.map((candle) => candle.low), ...others);
  return [low, Math.max(...candles.map((candle) => candle.high), ...others)];
}

/** @param {Study[]} studies @param {Candle[]} candles @returns {Study[]} those of the candles' time */
function within(studies, candles) {
  const [first, last] = [candles[0]?.t ?? Infinity, candles.at(-1)?.t ?? -Infinity];
  return studies.filter(({ t }) => t >= first && t <= last);
}
