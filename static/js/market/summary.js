/** The market in one line: how many rise and fall, and how many are hot, cold or stale. */

import { byId } from "../readout.js";
import { HIGH, LOW } from "./heat.js";

/** @typedef {{up: number, down: number, flat: number, high: number, low: number, stale: number}} Counts */

/**
 * Pure.
 * @param {import("./snapshot.js").Snapshot} snapshot
 * @param {number[]} places
 * @param {number} now
 * @returns {Counts} an RSI counts if it is ready
 */
export function countsOf(snapshot, places, now) {
  const { change_24h_percent: change, rsi } = snapshot.answer;
  const counts = { up: 0, down: 0, flat: 0, high: 0, low: 0, stale: 0 };
  for (const place of places) {
    const moved = change[place];
    if (moved !== null) counts[moved > 0 ? "up" : moved < 0 ? "down" : "flat"] += 1;
    if (snapshot.rsiState(place, now) === "ready") {
      const value = rsi[place] ?? 50;
      if (value >= HIGH) counts.high += 1;
      else if (value <= LOW) counts.low += 1;
    }
    if (snapshot.stale(place, now)) counts.stale += 1;
  }
  return counts;
}

/** @param {Counts} counts @param {number} shown @param {number} all */
export function showSummary(counts, shown, all) {
  const write = (/** @type {string} */ id, /** @type {string} */ text) => {
    if (byId(id).textContent !== text) byId(id).textContent = text;
  };
  const number = (/** @type {number} */ value) => value.toLocaleString("en-US");
  write("count", shown === all ? `${number(all)} symbols` : `${number(shown)} of ${number(all)} symbols`);
  write("up-count", number(counts.up));
  write("down-count", number(counts.down));
  write("high-count", number(counts.high));
  write("low-count", number(counts.low));
  write("stale-count", `${number(counts.stale)} stale`);
  byId("stale-count").hidden = counts.stale === 0;
  for (const name of /** @type {const} */ (["up", "flat", "down"])) byId(`breadth-${name}`).style.flexGrow = String(counts[name]);
  byId("breadth").setAttribute("aria-label", `Over 24 hours ${counts.up} rose, ${counts.down} fell, ${counts.flat} stand where they were`);
}
