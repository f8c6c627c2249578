/** Counts, rates, sizes and times as an operator reads them; what isn't known is a dash. Pure. */

const LOCALE = "en-US";
export const UNKNOWN = "–";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 3 });

/** @typedef {?number | undefined} Known */

/** @param {Known} value @returns {value is number} */
const isKnown = (value) => value !== null && value !== undefined;

/** @param {Known} count @returns {string} with all digits below ten thousand */
export function showCount(count) {
  if (!isKnown(count)) return UNKNOWN;
  return Math.abs(count) < 10_000 ? whole.format(count) : compact.format(count);
}

/** @param {Known} perSecond @returns {string} */
export function showRate(perSecond) {
  if (!isKnown(perSecond)) return UNKNOWN;
  if (perSecond === 0) return "0/s";
  if (perSecond < 0.095) return `${perSecond < 0.0095 ? "<0.01" : perSecond.toFixed(2)}/s`;
  return perSecond < 9.95 ? `${perSecond.toFixed(1)}/s` : `${showCount(Math.round(perSecond))}/s`;
}

/** @param {Known} ms a latency @returns {string} */
export function showMs(ms) {
  if (!isKnown(ms)) return UNKNOWN;
  if (ms >= 9950) return `${Math.round(ms / 1000)} s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 9.95 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

const GREATEST_MS = 10_000; // the last bound of every histogram

/** @param {Known} ms a percentile @returns {string} what lies beyond the histogram's last bound is only known to be no less */
export function showPercentile(ms) {
  return isKnown(ms) && ms >= GREATEST_MS ? "≥ 10 s" : showMs(ms);
}

/** @param {Known} seconds a span of time @returns {string} */
export function showSpan(seconds) {
  if (!isKnown(seconds)) return UNKNOWN;
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** @param {Known} bytes @returns {string} */
export function showBytes(bytes) {
  if (!isKnown(bytes)) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB"];
  let size = bytes;
  let unit = 0;
  while (size >= 999.5 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 9.95 && unit ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** @param {Known} share of one processor core @returns {string} */
export function showShare(share) {
  if (!isKnown(share)) return UNKNOWN;
  return `${share < 0.0995 ? (100 * share).toFixed(1) : Math.round(100 * share)} %`;
}

/** @param {number} ms since 1970 @param {number} now the same @returns {string} */
export function showAgo(ms, now) {
  const seconds = Math.max(0, now - ms) / 1000;
  return seconds < 1 ? "now" : `${seconds < 10 ? `${Math.round(seconds)} s` : showSpan(seconds)} ago`;
}

/** @param {number} ms since 1970 @returns {string} time of day, UTC */
export function showTime(ms) {
  return new Date(ms).toISOString().slice(11, 19);
}
