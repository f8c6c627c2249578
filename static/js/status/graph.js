/** The pipeline as nodes and the ways between them, from one answer of the server. Pure. */

import { condition, CONDITIONS, leader, OPTIONAL, PLACED, sum } from "./answer.js";
import { showCount, showMs, showRate, showSpan } from "./format.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").Part} Part */
/** @typedef {ReturnType<typeof condition>} Condition */
/**
 * @typedef {Object} Node
 * @property {string} id its place in the diagram
 * @property {string} title
 * @property {Condition} condition
 * @property {string} word what a person reads for it
 * @property {string} reason why it isn't running; empty if it is
 * @property {[string, string][]} lines what is read first of it: name and value
 * @property {Part | undefined} part what is told of it
 * @property {boolean} [topic]
 * @property {boolean} [further] whether the diagram has no place of its own for it
 */
/** @typedef {{from: string, to: string, per_s: ?number, broken: boolean, beside: boolean}} Edge */

const CANDLE_TOPICS = ["crypto_candles", "crypto_indicators", "crypto_signals", "crypto_candles_provisional"];
/** @type {[string, string, boolean][]} from, to, and whether it is beside the main way */
const WAYS = [
  ["exchange", "producer", false],
  ["producer", "klines", false],
  ["klines", "windows", false],
  ["klines", "candles", false],
  ["windows", "averages", false],
  ["candles", "series", false],
  ["averages", "server", false],
  ["series", "server", false],
  ["server", "page", false],
  ["producer", "history", true],
  ["history", "candles", true],
  ["history", "repair", true],
  ["repair", "series", true],
  ["series", "alerts", true],
];

/** @param {Answer} answer @returns {Node[]} in the order in which the data flows */
export function nodesOf(answer) {
  const producer = leader(answer, "producer");
  const server = leader(answer, "server");
  return [
    exchange(answer),
    node("producer", "Producer", producer, [
      ["out", showRate(producer?.per_s)],
      ["ack, p95", showMs(producer?.latency.published_to_acknowledged?.p95_ms)],
      ["symbols", showCount(producer?.figures.symbols)],
    ]),
    topic(answer, "klines", "crypto_kline_data", ["crypto_kline_data"]),
    job(answer, "windows", windowsJob(answer)),
    job(answer, "candles", "candles"),
    topic(answer, "averages", windowsTopic(answer), [windowsTopic(answer)]),
    topic(answer, "series", "crypto_candles …", CANDLE_TOPICS),
    node("server", "Server", server, [
      ["in", showRate(server?.per_s)],
      ["late, p50", showMs(server?.latency.kline_close_to_held?.p50_ms)],
      ["data age", showSpan(server?.age_s)],
    ]),
    page(server),
    history(answer),
    repair(answer),
    alerts(answer),
    ...further(answer),
  ];
}

/** @param {Answer} answer @returns {string} windows come from klines, or from trades */
function windowsTopic(answer) {
  return answer.topics.find((flow) => flow.topic === "crypto_trade_windows")?.topic ?? "crypto_data_aggregated";
}

/** @param {Answer} answer @returns {string} the job that makes them */
function windowsJob(answer) {
  return windowsTopic(answer) === "crypto_trade_windows" ? "trade_windows" : "windows";
}

/** @param {Answer} answer @param {Part} part @returns {boolean} whether the diagram has a place for it */
function isPlaced(answer, part) {
  return part.kind === "job" ? [windowsJob(answer), "candles"].includes(part.name) : PLACED.has(part.kind);
}

/** @param {Answer} answer @returns {Node[]} parts that the diagram doesn't know: those that run, or did */
function further(answer) {
  return answer.parts.filter((part) => !isPlaced(answer, part) && condition(part) !== "unknown").map((part) => ({
    ...node(`part-${part.name}`, titleOf(part), part, [
      ["rate", showRate(part.per_s)],
      ["waiting", showCount(part.behind)],
      ["age", showSpan(part.age_s)],
    ]),
    further: true,
  }));
}

/** @param {Part} part @returns {string} */
function titleOf(part) {
  if (part.kind === "job") return `jobs/${part.name}`;
  const name = part.name.replace("-", " ");
  return name.charAt(0).toUpperCase() + name.slice(1);
}

/** @param {Answer} answer @param {Node[]} nodes @returns {Edge[]} */
export function edgesOf(answer, nodes) {
  const conditionOf = Object.fromEntries(nodes.map((one) => [one.id, one.condition]));
  const rates = ratesOf(answer);
  return WAYS.map(([from, to, beside]) => ({
    from,
    to,
    per_s: rates[`${from} ${to}`] ?? null,
    broken: [from, to].some((end) => conditionOf[end] === "away"),
    beside,
  }));
}

/** @param {Answer} answer @returns {Object<string, ?number>} records a second by way */
function ratesOf(answer) {
  const topics = Object.fromEntries(answer.topics.map((flow) => [flow.topic, flow.per_s]));
  const [producer, server] = [leader(answer, "producer"), leader(answer, "server")];
  const [windows, candles] = [windowsJob(answer), "candles"].map((name) => answer.parts.find((part) => part.name === name));
  const series = sum(CANDLE_TOPICS.map((name) => topics[name]));
  const fetched = leader(answer, "history")?.per_s ?? null;
  const repaired = leader(answer, "repair")?.per_s ?? null;
  return {
    "exchange producer": leader(answer, "exchange")?.per_s ?? null,
    "producer klines": producer?.per_s ?? null,
    "klines windows": windows?.per_s ?? null,
    "klines candles": candles?.per_s ?? null,
    "windows averages": windows?.figures.results_per_s ?? null,
    "candles series": series,
    "averages server": server?.per_s ?? null,
    "series server": series,
    "server page": server?.figures.sent_per_s ?? null,
    "producer history": fetched,
    "history candles": fetched,
    "history repair": repaired,
    "repair series": repaired,
    "series alerts": leader(answer, "alerts")?.per_s ?? null,
  };
}

/**
 * @param {string} id
 * @param {string} title
 * @param {Part | undefined} part
 * @param {[string, string][]} lines
 * @returns {Node}
 */
function node(id, title, part, lines) {
  const found = condition(part);
  const word = part && !(OPTIONAL.has(part.kind) && found === "unknown") ? CONDITIONS[found] : "not set up";
  return { id, title, condition: found, word, reason: part ? part.reason || part.faults.join("; ") : "The server knows of none", lines, part };
}

/** @param {Answer} answer @returns {Node} */
function exchange(answer) {
  const part = leader(answer, "exchange");
  return node("exchange", "Exchange", part, [
    ["frames", showRate(part?.per_s)],
    ["newest", showSpan(part?.age_s)],
    ["websockets", showCount(part?.figures.connections)],
  ]);
}

/** @param {Answer} answer @param {string} id its place @param {string} name @returns {Node} */
function job(answer, id, name) {
  const part = answer.parts.find((one) => one.name === name);
  const point = part?.checkpoint;
  return node(id, `jobs/${name}`, part, [
    ["in", showRate(part?.per_s)],
    ["behind", showCount(part?.behind)],
    ["saved in", showMs(point?.duration_ms)],
  ]);
}

/** @param {Answer} answer @param {string} id @param {string} title @param {string[]} names @returns {Node} */
function topic(answer, id, title, names) {
  const broker = leader(answer, "broker");
  const flows = answer.topics.filter((flow) => names.includes(flow.topic));
  const lines = /** @type {[string, string][]} */ ([
    ["records", showRate(sum(flows.map((flow) => flow.per_s)))],
    ["unread", showCount(sum(flows.map((flow) => flow.behind)))],
  ]);
  return { ...node(id, title, broker, lines), topic: true };
}

/** @param {Part | undefined} server @returns {Node} the browsers, as the server sees them */
function page(server) {
  const figures = server?.figures ?? {};
  return {
    ...node("page", "Page", server, [
      ["open", showCount(figures.clients)],
      ["updates", showRate(figures.sent_per_s)],
      ["sent in", showMs(server?.latency.published_to_sent?.p95_ms)],
    ]),
    word: figures.clients ? "connected" : "nobody looks",
    reason: "",
  };
}

/** @param {Answer} answer @returns {Node} */
function history(answer) {
  const part = leader(answer, "history");
  return node("history", "History", part, [
    ["fetched", showCount(part?.figures.candles)],
    ["needed", showCount(part?.behind)],
  ]);
}

/** @param {Answer} answer @returns {Node} */
function repair(answer) {
  const part = leader(answer, "repair");
  return node("repair", "Repair", part, [
    ["repaired", showCount(sum([part?.figures.windows, part?.figures.candles]))],
    ["waiting", showCount(part?.behind)],
  ]);
}

/** @param {Answer} answer @returns {Node} */
function alerts(answer) {
  const part = leader(answer, "alerts");
  return node("alerts", "Alerts", part, [
    ["posted", showCount(part?.figures.posted)],
    ["waiting", showCount(part?.behind)],
  ]);
}
