/** Indicators over the price and in their own panes; what has not converged is dashed and paler. Pure. */

import { lineOf, membersOf, OVERLAYS } from "./studies.js";
import { bars, outline, stroke } from "./traces.js";

/** @typedef {import("./candles.js").Study} Study */
/** @typedef {import("./theme.js").Theme} Theme */

const WARMING = { dash: "2px,3px" };
const WARMING_OPACITY = 0.65;

/** @typedef {{studies: Study[], names: string[], lengthMs: number, theme: Theme}} Source */

/**
 * The overlays that are there of those wanted, each with its colour's name.
 * @param {Set<string>} wanted families
 * @param {string[]} names of all indicators
 * @returns {{family: string, name: string, label: string, ink: string, rest: string}[]}
 */
export function overlaysOf(wanted, names) {
  return OVERLAYS.filter((family) => wanted.has(family)).flatMap((family) =>
    membersOf(family, names).map((member, i) => ({ family, ...member, ink: family === "bollinger" ? "bollinger" : `${family}-${(i % 2) + 1}` })),
  );
}

/**
 * @param {Source} source
 * @param {Set<string>} wanted families
 * @returns {Object[]}
 */
export function overlayTraces(source, wanted) {
  return overlaysOf(wanted, source.names).flatMap(({ family, name, ink, rest }) =>
    family === "bollinger" ? bollinger(source, rest) : study(source, name, "y", { color: source.theme[ink], width: 1.4 }),
  );
}

/** @param {Source} source @returns {Object[]} every RSI there is */
export function rsiTraces(source) {
  const inks = ["rsi", "accent", "average"];
  return membersOf("rsi", source.names).flatMap(({ name }, i) => study(source, name, "y3", { color: source.theme[inks[i % inks.length]], width: 1.6 }));
}

/** @param {Source} source @returns {Object[]} the first MACD: two lines, and their distance as bars */
export function macdTraces(source) {
  const [first] = membersOf("macd", source.names);
  if (!first) return [];
  const { studies, lengthMs, theme } = source;
  const histogram = (/** @type {string} */ fillcolor, /** @type {(value: number) => boolean} */ wanted, /** @type {boolean} */ ready) => {
    const name = `macd_histogram_${first.rest}`;
    const some = studies.filter((each) => each.unready.includes(name) !== ready && each.values[name] != null && wanted(/** @type {number} */ (each.values[name])));
    const { x, y } = bars(some.map((each) => each.t + lengthMs / 2), some.map((each) => each.values[name]), 0.34 * lengthMs);
    return x.length ? [stroke(x, y, "y4", {}, { fill: "tozeroy", fillcolor })] : [];
  };
  const up = (/** @type {number} */ value) => value >= 0;
  const down = (/** @type {number} */ value) => value < 0;
  return [
    ...histogram(theme["up-soft"], up, true), ...histogram(theme["down-soft"], down, true),
    ...histogram(theme["up-pale"], up, false), ...histogram(theme["down-pale"], down, false),
    ...study(source, first.name, "y4", { color: theme.accent, width: 1.6 }),
    ...study(source, `macd_signal_${first.rest}`, "y4", { color: theme.average, width: 1.4 }),
  ];
}

/** @param {Source} source @returns {[number, number]} least and greatest value in the MACD's pane, zero too */
export function macdExtent({ studies, names }) {
  const [first] = membersOf("macd", names);
  const of = first ? [first.name, `macd_signal_${first.rest}`, `macd_histogram_${first.rest}`] : [];
  const values = studies.flatMap((study) => of.map((name) => study.values[name] ?? 0));
  return [Math.min(0, ...values), Math.max(0, ...values)];
}

/** @param {Source} source @param {string} name @param {string} yaxis @param {Object} style @returns {Object[]} one line, or two */
function study({ studies, lengthMs }, name, yaxis, style) {
  const { x, ready, warming, warms } = lineOf(studies, name, lengthMs);
  const dashed = warms ? [stroke(x, warming, yaxis, { ...style, ...WARMING }, { opacity: WARMING_OPACITY, name: `${name} warming up` })] : [];
  return [...dashed, stroke(x, ready, yaxis, style, { name })];
}

/** @param {Source} source @param {string} rest of the name @returns {Object[]} the band, its edges and its middle */
function bollinger(source, rest) {
  const { studies, lengthMs, theme } = source;
  const upper = lineOf(studies, `bollinger_upper_${rest}`, lengthMs);
  const lower = lineOf(studies, `bollinger_lower_${rest}`, lengthMs);
  const edge = outline(upper.x, lower.ready, upper.ready);
  const style = { color: theme.bollinger, width: 1 };
  return [
    stroke(edge.x, edge.y, "y", {}, { fill: "toself", fillcolor: theme["bollinger-soft"] }),
    ...["upper", "lower"].flatMap((name) => study(source, `bollinger_${name}_${rest}`, "y", style)),
    ...study(source, `bollinger_middle_${rest}`, "y", { ...style, dash: "6px,4px" }),
  ];
}
