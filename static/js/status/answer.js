/** What `/api/v1/pipeline` answers; docs/rest.md tells of each field. */

/** @typedef {"running" | "restarting" | "away" | "unknown"} State */
/** @typedef {{count: number, p50_ms: ?number, p95_ms: ?number, p99_ms: ?number}} Latency */
/** @typedef {{age_s: ?number, bytes: ?number, duration_ms: ?number, completed: number, failed: number}} Checkpoint */
/**
 * @typedef {Object} Part
 * @property {string} name
 * @property {string} kind
 * @property {State} state
 * @property {string} reason
 * @property {string[]} faults
 * @property {?number} up_s
 * @property {?number} restarts
 * @property {?number} over_s
 * @property {?number} per_s
 * @property {?number} behind
 * @property {?number} age_s
 * @property {?number} dead_letters
 * @property {?number} memory_bytes
 * @property {?number} cpu
 * @property {Object<string, Latency>} latency
 * @property {?Checkpoint} checkpoint
 * @property {Object<string, ?number>} figures
 */
/** @typedef {{topic: string, per_s: ?number, behind: ?number}} Flow */
/** @typedef {{gap: string, s: string, state: string, from: number, to: number, seconds: number, source: string, reason: string, time: number}} Gap */
/** @typedef {{fault: ?string, detected: ?number, deferred: ?number, unfillable: ?number, refilled: ?number, repaired: ?number, newest: Gap[]}} Gaps */
/** @typedef {{part: string, time: number, text: string, over: boolean}} Fault */
/** @typedef {"waiting" | "running" | "done" | "kept" | "failed" | "stopped" | "replaced"} Reached */
/** @typedef {{name: string, state: Reached, attempt: number, started: ?number, ended: ?number, text: string}} WorkflowStep */
/** @typedef {{workflow: string, run: string, state: Reached, started: number, told: number, ended: ?number, text: string, steps: WorkflowStep[]}} WorkflowRun */
/** @typedef {{server_time: number, parts: Part[], topics: Flow[], gaps: Gaps, faults: Fault[], workflows: WorkflowRun[]}} Answer */

/** @param {Answer} answer @param {string} name @returns {Part | undefined} */
export const partOf = (answer, name) => answer.parts.find((part) => part.name === name);

/** @param {Answer} answer @param {string} kind @returns {Part[]} */
export const partsOf = (answer, kind) => answer.parts.filter((part) => part.kind === kind);

/**
 * The part that stands for all of its kind: the one that is best off, since each of them does the whole work.
 * @param {Answer} answer
 * @param {string} kind
 * @returns {Part | undefined}
 */
export function leader(answer, kind) {
  const order = ["running", "restarting", "away", "unknown"];
  return [...partsOf(answer, kind)].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state))[0];
}

/** @param {Part | undefined} part @returns {State | "troubled"} troubled: it runs, and says that something is wrong */
export function condition(part) {
  if (!part) return "unknown";
  return part.state === "running" && part.faults.length ? "troubled" : part.state;
}

/** Kinds of parts that need not be there. */
export const OPTIONAL = new Set(["alerts", "archive", "proof", "feed", "ingest", "postgres", "workflow"]);

/** Kinds of parts that the diagram has a place for; others get a card below it. */
export const PLACED = new Set(["exchange", "producer", "broker", "flink", "job", "history", "repair", "alerts", "server"]);

/** What a person reads for each condition. */
export const CONDITIONS = { running: "running", troubled: "in trouble", restarting: "restarting", away: "away", unknown: "unknown" };

/** @param {(?number | undefined)[]} values @returns {?number} their sum, null if none is known */
export function sum(values) {
  const known = values.filter((value) => typeof value === "number");
  return known.length ? known.reduce((total, value) => total + value, 0) : null;
}
