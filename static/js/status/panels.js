/** The panels below the diagram: latency, checkpoints, gaps, faults, and every part in a table. */

import { condition, CONDITIONS } from "./answer.js";
import { WAYS } from "./details.js";
import { byId, make, sync, syncFigures, syncRows, write } from "./dom.js";
import { showWorkflows } from "./workflows.js";
import { showAgo, showBytes, showCount, showMs, showPercentile, showRate, showShare, showSpan, showTime } from "./format.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").Gaps} Gaps */
/** @typedef {import("./answer.js").Latency} Latency */

const SHORTEST_MS = 1;
const LONGEST_MS = 10_000;
const GAP_STATES = /** @type {const} */ (["detected", "deferred", "refilled", "repaired", "unfillable"]);
const GAP_NAMES = { detected: "open", deferred: "deferred", refilled: "refilled", repaired: "repaired", unfillable: "unfillable" };

/** @param {Answer} answer */
export function showPanels(answer) {
  showLatencies(answer);
  showCheckpoints(answer);
  showGaps(answer.gaps, answer.server_time);
  showFaults(answer);
  showParts(answer);
  showWorkflows(answer);
}

/** @param {Answer} answer */
function showLatencies(answer) {
  const found = answer.parts.flatMap((part) => Object.entries(part.latency).map(([way, latency]) => ({ key: `${part.name} ${way}`, way, latency, title: titleOf(part, way) })));
  const rows = Object.keys(WAYS).flatMap((way) => found.filter((one) => one.way === way));
  syncRows(byId("latencies"), rows.map(({ key, title, latency }) => ({
    key,
    cells: [title, showPercentile(latency.p50_ms), showPercentile(latency.p95_ms), showPercentile(latency.p99_ms), bar(latency)],
  })));
  const over = Math.max(0, ...answer.parts.map((part) => (Object.keys(part.latency).length ? (part.over_s ?? 0) : 0)));
  write(byId("latency-note"), `Over the last ${showSpan(over)}, from the parts’ histograms. Bars: p50 to p99, from 1 ms to 10 s.`);
}

/** @param {import("./answer.js").Part} part @param {string} way @returns {string} */
function titleOf(part, way) {
  const title = /** @type {Object<string, string>} */ (WAYS)[way];
  return part.kind === "feed" ? title.replace("Kline", `${part.name.replace("-", " ")}: record`) : title;
}

/** @param {Latency} latency @returns {HTMLElement} from p50 to p99, with p95 marked; on a scale of powers of ten */
function bar(latency) {
  const track = make("span", { class: "spread", "aria-hidden": "true" });
  const { p50_ms: low, p95_ms: most, p99_ms: high } = latency;
  if (low === null || most === null || high === null) return track;
  const [begin, mark, end] = [low, most, high].map(place);
  const span = make("i");
  span.style.left = `${begin}%`;
  span.style.width = `${Math.max(1, end - begin)}%`;
  const tick = make("b");
  tick.style.left = `${mark}%`;
  track.append(span, tick);
  return track;
}

/** @param {number} ms @returns {number} percent of the scale */
function place(ms) {
  const bounded = Math.min(LONGEST_MS, Math.max(SHORTEST_MS, ms));
  return (100 * Math.log10(bounded / SHORTEST_MS)) / Math.log10(LONGEST_MS / SHORTEST_MS);
}

/** @param {Answer} answer */
function showCheckpoints(answer) {
  const jobs = answer.parts.filter((part) => part.kind === "job");
  syncRows(byId("checkpoints"), jobs.map(({ name, figures, checkpoint: point }) => ({
    key: name,
    cells: [`jobs/${name}`, showSpan(point?.age_s), showBytes(point?.bytes), showMs(point?.duration_ms), showCount(point?.completed), showShare(figures.busy)],
  })));
}

/** @param {Gaps} gaps @param {number} now */
function showGaps(gaps, now) {
  const alarming = { detected: "troubled", deferred: "troubled", unfillable: "away", refilled: "", repaired: "" };
  syncFigures(byId("gap-counts"), GAP_STATES.map((state) => [GAP_NAMES[state], showCount(gaps[state])]), GAP_STATES.map((state) => (gaps[state] ? alarming[state] : "")));
  const none = gaps.newest.length === 0;
  write(byId("gaps-note"), gaps.fault ? `The ledger can’t be read: ${gaps.fault}.` : none ? "The ledger holds none: no second was ever missing." : "");
  byId("gaps-note").hidden = !gaps.fault && !none;
  sync(byId("gaps"), gaps.newest, (gap) => gap.gap, entry, (element, gap) => {
    const how = gap.reason ? `, ${gap.reason}` : gap.source && gap.source !== "none" ? `, from ${gap.source}` : "";
    showEntry(element, { state: { unfillable: "away", detected: "troubled", deferred: "troubled" }[gap.state] ?? "running", title: `${gap.s} · ${gap.seconds} s`,
      text: `${/** @type {Object<string, string>} */ (GAP_NAMES)[gap.state] ?? gap.state}${how}`, time: gap.from, now });
  });
}

/** @param {Answer} answer */
function showFaults(answer) {
  const note = byId("faults-note");
  note.hidden = answer.faults.length > 0;
  write(note, "None since the server began to look.");
  sync(byId("faults"), answer.faults, (fault) => `${fault.part} ${fault.time} ${fault.text.replace(/\d/g, "")}`, entry, (element, fault) => {
    showEntry(element, { state: fault.over ? "unknown" : "away", title: fault.part, text: `${fault.text}${fault.over ? " · over" : ""}`, time: fault.time, now: answer.server_time });
  });
}

/** @returns {HTMLElement} */
const entry = () => make("li", {}, make("i", { "aria-hidden": "true" }), make("b"), make("span"), make("time"));

/** @param {HTMLElement} element @param {{state: string, title: string, text: string, time: number, now: number}} told */
function showEntry(element, { state, title, text, time, now }) {
  const [, name, words, when] = element.children;
  element.dataset.state = state;
  write(name, title);
  write(words, text);
  write(when, showAgo(time, now));
  when.setAttribute("datetime", new Date(time).toISOString());
  when.setAttribute("title", `${showTime(time)} UTC`);
}

/** @param {Answer} answer */
function showParts(answer) {
  syncRows(byId("parts"), answer.parts.map((part) => ({
    key: part.name,
    state: condition(part),
    cells: [
      part.kind === "job" ? `jobs/${part.name}` : part.name,
      stateCell(CONDITIONS[condition(part)], part.reason || part.faults.join("; ")),
      showSpan(part.up_s),
      showCount(part.restarts),
      showRate(part.per_s),
      showCount(part.behind),
      showSpan(part.age_s),
      showCount(part.dead_letters),
      showBytes(part.memory_bytes),
      showShare(part.cpu),
    ],
  })));
}

/** @param {string} state @param {string} reason @returns {HTMLElement} */
function stateCell(state, reason) {
  const cell = make("span", { class: "state" }, make("i", { "aria-hidden": "true" }), make("span", {}, state));
  if (reason) cell.append(make("small", {}, reason));
  return cell;
}
