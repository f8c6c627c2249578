/** Gaps of the feed as bands over the chart, and in words. Pure. */

import { meaningOf } from "./gaps.js";
import { band, spanOf, upright } from "./shades.js";

/** @typedef {import("./gaps.js").Gap} Gap */
/** @typedef {import("./theme.js").Theme} Theme */

const BANDS_MOST = 100;
const WORDS = {
  open: { band: "gap, still open", key: "still open", fill: "gap-open" },
  lost: { band: "gap, nobody has it", key: "that nobody has", fill: "gap-lost" },
  refilled: { band: "refilled", key: "refilled", fill: "gap-refilled" },
  repaired: { band: "repaired", key: "repaired later", fill: "gap-repaired" },
};
/** @typedef {keyof typeof WORDS} Meaning */

/**
 * @param {Gap[]} gaps those in view
 * @param {Theme} theme
 * @param {number} msPerPx
 * @returns {Object[]}
 */
export function gapBands(gaps, theme, msPerPx) {
  return joined(gaps, msPerPx).slice(-BANDS_MOST).map(({ meaning, ...stretch }) => {
    const words = WORDS[meaning];
    return band(stretch, theme[words.fill], msPerPx, upright(words.band, stretch, msPerPx, theme));
  });
}

/**
 * What the bands in view mean, a line for each kind.
 * @param {Gap[]} gaps those in view
 * @returns {{meaning: Meaning, text: string}[]}
 */
export function gapWords(gaps) {
  return /** @type {Meaning[]} */ (Object.keys(WORDS)).flatMap((meaning) => {
    const some = gaps.filter((gap) => meaningOf(gap.state) === meaning);
    if (some.length === 0) return [];
    const total = some.reduce((sum, gap) => sum + gap.to - gap.from, 0);
    return [{ meaning, text: `${some.length === 1 ? "1 gap" : `${some.length} gaps`} ${WORDS[meaning].key}, ${spanOf(total)}` }];
  });
}

/**
 * Gaps that would be drawn over each other, as one.
 * @param {Gap[]} gaps
 * @param {number} msPerPx
 * @returns {{meaning: Meaning, from: number, to: number}[]}
 */
function joined(gaps, msPerPx) {
  /** @type {{meaning: Meaning, from: number, to: number}[]} */
  const found = [];
  for (const { state, from, to } of [...gaps].sort((a, b) => a.from - b.from)) {
    const meaning = meaningOf(state);
    const before = found.findLast((each) => each.meaning === meaning);
    if (before && from - before.to < 2 * msPerPx) before.to = Math.max(before.to, to);
    else found.push({ meaning, from, to });
  }
  return found;
}
