/** The graph as one answer of the server gave it, and what follows from it. A symbol is known by its place. Pure. */

import { LENGTH_MS } from "../intervals.js";
import { splitSymbol } from "../format.js";

export const COLOURS = 8; // more can't be told apart; smaller groups are grey

/**
 * What /api/v1/correlations answers: see docs/rest.md.
 * @typedef {Object} Answer
 * @property {number} server_time
 * @property {string} interval
 * @property {number} candles
 * @property {number} least
 * @property {number} common_least
 * @property {boolean} candles_read
 * @property {?number} from
 * @property {?number} time
 * @property {{symbol: string[], group: (?string)[], x: (?number)[], y: (?number)[], volatility: (?number)[], degree: number[], candles: number[], returns: number[]}} nodes
 * @property {{a: string[], b: string[], r: number[], observations: number[], z: number[]}} edges
 */

/** @typedef {{a: number, b: number, r: number, observations: number, z: number}} Edge */
/** @typedef {{name: string, count: number}} Group */
/** @typedef {{title: string, text: string, kind: "all" | "some"}} Notice */

const STALE_MS = 15_000; // after a candle's end until the next one is there

export class Model {
  /** @param {Answer} answer */
  constructor(answer) {
    this.answer = answer;
    const { symbol, group } = answer.nodes;
    this.count = symbol.length;
    this.bases = symbol.map((name) => splitSymbol(name).base);
    const places = new Map(symbol.map((name, place) => [name, place]));
    const { a, b, r, observations, z } = answer.edges;
    /** @type {Edge[]} */
    this.edges = r.map((value, i) => ({ a: places.get(a[i]) ?? 0, b: places.get(b[i]) ?? 0, r: value, observations: observations[i], z: z[i] }));
    /** @type {Group[]} largest first */
    this.groups = groupsOf(group);
    const colours = new Map(this.groups.slice(0, COLOURS).map(({ name }, i) => [name, i]));
    /** @type {number[]} of each symbol the number of its colour; -1 for grey */
    this.colours = group.map((name) => (name === null ? -1 : (colours.get(name) ?? -1)));
  }

  /** @param {number} place @returns {Edge[]} the symbol's edges, strongest first */
  partners(place) {
    return this.edges.filter(({ a, b }) => a === place || b === place);
  }

  /** @param {number} now @returns {?number} ms, from the newest candle's end */
  age(now) {
    return this.answer.time === null ? null : now - this.answer.time;
  }

  /** @param {number} now @returns {boolean} whether the next candle should be there */
  stale(now) {
    const age = this.age(now);
    return age !== null && age > LENGTH_MS[this.answer.interval] + STALE_MS;
  }

  /** @returns {number} symbols with too few candles for any correlation */
  get tooShort() {
    return this.answer.nodes.returns.filter((count) => count < this.answer.common_least).length;
  }

  /** @returns {?Notice} what stands where there is nothing to see, or too little */
  get notice() {
    const { nodes, interval, common_least: common, candles_read: read, least } = this.answer;
    if (this.answer.time === null) return { kind: "all", title: read ? "No candle has closed yet" : "Candles are still being read", text: "The graph appears by itself." };
    if (this.tooShort === this.count) {
      const most = Math.max(...nodes.candles);
      const text = `A correlation needs ${common} returns, each from one candle of ${interval} to the very next; the symbol with most candles has ${most}.`;
      const title = most > common ? "Too many candles are missing" : `Needs ${common + 1} closed candles, has ${most}`;
      return { kind: "all", title, text: read ? text : `${text} Candles are still being read.` };
    }
    if (this.edges.length === 0) return { kind: "some", title: `No pair reaches ${least.toFixed(2)}`, text: "Ask for less, or for another window." };
    return null;
  }
}

/** @param {(?string)[]} names @returns {Group[]} */
function groupsOf(names) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const name of names) if (name !== null) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => ({ name, count })).sort((one, other) => other.count - one.count || (one.name < other.name ? -1 : 1));
}
