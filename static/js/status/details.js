/** All that is known of one part, for the reader who wants more than its card. Pure. */

import { showBytes, showCount, showMs, showRate, showShare, showSpan, UNKNOWN } from "./format.js";

/** @typedef {import("./answer.js").Part} Part */

/** Ways whose time the parts measure, as a person calls them. */
export const WAYS = {
  published_to_acknowledged: "Kline sent to Kafka → acknowledged",
  kline_close_to_held: "Kline closes → its windows are at the server",
  published_to_sent: "Window published → sent to a browser",
  http_request: "REST request → answered",
};

/** @type {Object<string, (value: ?number) => string>} figures that are no counts */
const FORMATS = {
  clock_offset_s: showSpan,
  rest_closed_s: showSpan,
  busy: showShare,
  back_pressure: showShare,
  results_per_s: showRate,
  sent_per_s: showRate,
  requests_per_s: showRate,
};

/** @type {Object<string, string>} */
const NAMES = {
  clock_offset_s: "exchange's clock ahead",
  rest_closed_s: "REST closed for",
  rest_weight: "REST weight this minute",
  rest_waiting: "REST requests waiting",
  results_per_s: "results",
  sent_per_s: "updates sent",
  requests_per_s: "REST requests",
  too_old: "too old to repair",
};

/** @param {Part} part @returns {[string, string][]} name and value of all that it tells */
export function figuresOf(part) {
  /** @type {[string, string][]} */
  const common = [
    ["up for", showSpan(part.up_s)],
    ["restarts", showCount(part.restarts)],
    ["rate", showRate(part.per_s)],
    ["behind", showCount(part.behind)],
    ["data age", showSpan(part.age_s)],
    ["dead letters", showCount(part.dead_letters)],
    ["memory", showBytes(part.memory_bytes)],
    ["CPU", showShare(part.cpu)],
  ];
  const own = Object.entries(part.figures).map(([name, value]) => /** @type {[string, string]} */ ([NAMES[name] ?? name.replaceAll("_", " "), (FORMATS[name] ?? showCount)(value)]));
  const latencies = Object.entries(part.latency).map(([way, found]) => /** @type {[string, string]} */ ([`${way.replaceAll("_", " ")}, p99`, showMs(found.p99_ms)]));
  return [...common, ...checkpointOf(part), ...latencies, ...own].filter(([, value]) => value !== UNKNOWN);
}

/** @param {Part} part @returns {[string, string][]} */
function checkpointOf(part) {
  const point = part.checkpoint;
  if (!point) return [];
  return [
    ["checkpoint's age", showSpan(point.age_s)],
    ["checkpoint's size", showBytes(point.bytes)],
    ["checkpoint took", showMs(point.duration_ms)],
    ["checkpoints done", showCount(point.completed)],
    ["checkpoints failed", showCount(point.failed)],
  ];
}

/** @param {Part} part @returns {string} what it says of itself in a sentence */
export function sentenceOf(part) {
  if (part.reason) return `${capital(part.state)}: ${part.reason}.`;
  if (part.faults.length) return `Running, and it says: ${part.faults.join("; ")}.`;
  return part.over_s === null ? "Running." : `Running. Rates and percentiles are over the last ${showSpan(part.over_s)}.`;
}

/** @param {string} text @returns {string} */
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
