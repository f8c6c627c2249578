/** What the reader should know first: whether all is well, and the few numbers that tell it. Pure. */

import { condition, leader, OPTIONAL, sum } from "./answer.js";
import { showCount, showPercentile, showRate, showSpan } from "./format.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").Part} Part */
/** @typedef {{state: "running" | "troubled" | "away", title: string, text: string}} Verdict */
/** @typedef {{name: string, value: string, state: string}} Tile */

const STALE_S = 5;

/** @param {Answer} answer @returns {Verdict} */
export function verdictOf(answer) {
  const parts = answer.parts.filter((part) => part.state !== "unknown" || !OPTIONAL.has(part.kind));
  const away = parts.filter((part) => part.state === "away");
  const others = parts.filter((part) => part.state !== "away" && condition(part) !== "running");
  if (away.length) return { state: "away", title: `${listed(away)} ${away.length > 1 ? "are" : "is"} away`, text: reasons(away) };
  if (others.length) return { state: "troubled", title: `${listed(others)}: ${others.length > 1 ? "not all is well" : worded(others[0])}`, text: reasons(others) };
  const gaps = sum([answer.gaps.detected, answer.gaps.deferred]) ?? 0;
  return { state: "running", title: `All ${parts.length} parts run`, text: gaps ? `${showCount(gaps)} gaps of the feed are being filled.` : "No gap of the feed is open." };
}

/** @param {Answer} answer @returns {Tile[]} */
export function tilesOf(answer) {
  const [producer, server] = [leader(answer, "producer"), leader(answer, "server")];
  const close = server?.latency.kline_close_to_held;
  const age = server?.age_s ?? null;
  const open = sum([answer.gaps.detected, answer.gaps.deferred]);
  const lost = answer.gaps.unfillable;
  const letters = sum(answer.parts.map((part) => part.dead_letters));
  const restarts = sum(answer.parts.map((part) => part.restarts));
  return [
    { name: "Klines", value: showRate(producer?.per_s), state: "" },
    { name: "Close to server, p50", value: showPercentile(close?.p50_ms), state: "" },
    { name: "p99", value: showPercentile(close?.p99_ms), state: "" },
    { name: "Data age", value: showSpan(age), state: age !== null && age > STALE_S ? "troubled" : "" },
    { name: "Gaps open", value: showCount(open), state: open ? "troubled" : "" },
    { name: "Unfillable", value: showCount(lost), state: lost ? "troubled" : "" },
    { name: "Dead letters", value: showCount(letters), state: letters ? "troubled" : "" },
    { name: "Restarts", value: showCount(restarts), state: "" },
  ];
}

/** @param {Part[]} parts @returns {string} */
function listed(parts) {
  const names = parts.map((part) => part.name);
  const text = names.length > 3 ? `${names.slice(0, 2).join(", ")} and ${names.length - 2} others` : names.join(names.length > 2 ? ", " : " and ");
  return capital(text);
}

/** @param {Part} part @returns {string} */
const worded = (part) => (condition(part) === "troubled" ? "in trouble" : part.state);

/** @param {Part[]} parts @returns {string} */
function reasons(parts) {
  return `${capital([...new Set(parts.map((part) => part.reason || part.faults.join("; ")))].filter(Boolean).slice(0, 3).join("; "))}.`;
}

/** @param {string} text @returns {string} */
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
