/**
 * Which indicators there are, by their names in the records: their periods are settings of the server's. Pure.
 *
 * @typedef {Object} Family
 * @property {RegExp} pattern
 * @property {(parts: string[]) => string} label
 */

/** @type {Object<string, Family>} */
const FAMILIES = {
  sma: { pattern: /^sma_(\d+)$/, label: ([period]) => `SMA ${period}` },
  ema: { pattern: /^ema_(\d+)$/, label: ([period]) => `EMA ${period}` },
  vwap: { pattern: /^vwap_(\d+|session)$/, label: ([period]) => (period === "session" ? "VWAP of the day" : `VWAP ${period}`) },
  bollinger: { pattern: /^bollinger_upper_(.+)$/, label: ([rest]) => `Bollinger ${rest.replace("_", " ")}` },
  rsi: { pattern: /^rsi_(\d+)$/, label: ([period]) => `RSI ${period}` },
  macd: { pattern: /^macd_(\d+_\d+_\d+)$/, label: ([rest]) => `MACD ${rest.replaceAll("_", " ")}` },
};

/** The families drawn over the price, in the order of the menu. */
export const OVERLAYS = ["sma", "ema", "bollinger", "vwap"];

/**
 * The members of a family among some names.
 * @param {string} family
 * @param {string[]} names
 * @returns {{name: string, label: string, rest: string}[]} `rest` is what comes after the family's name
 */
export function membersOf(family, names) {
  const { pattern, label } = FAMILIES[family];
  return names.flatMap((name) => {
    const [found, ...parts] = pattern.exec(name) ?? [];
    return found === undefined ? [] : [{ name, label: label(parts), rest: parts[0] }];
  });
}

/** @param {import("./candles.js").Study[]} studies @returns {string[]} names of the values that the newest one has */
export function namesOf(studies) {
  return Object.keys(studies.at(-1)?.values ?? {});
}

/**
 * One indicator by time, in two lines: what has converged, and what has not; a null breaks both between runs.
 * @param {import("./candles.js").Study[]} studies in order
 * @param {string} name
 * @param {number} lengthMs
 * @returns {{x: number[], ready: (number | null)[], warming: (number | null)[], warms: boolean}}
 */
export function lineOf(studies, name, lengthMs) {
  const line = { x: /** @type {number[]} */ ([]), ready: /** @type {(number | null)[]} */ ([]), warming: /** @type {(number | null)[]} */ ([]), warms: false };
  const put = (/** @type {number} */ x, /** @type {?number} */ ready, /** @type {?number} */ warming) => {
    line.x.push(x);
    line.ready.push(ready);
    line.warming.push(warming);
  };
  let wasReady = true;
  studies.forEach((study, i) => {
    const before = studies[i - 1];
    const starts = before === undefined || before.since !== study.since || study.t > before.t + lengthMs;
    if (starts && before) put(before.t + lengthMs, null, null);
    const value = study.values[name] ?? null;
    const ready = !study.unready.includes(name);
    // The first ready value ends the dashed line too, so that both lines meet.
    put(study.t + lengthMs / 2, ready ? value : null, !ready || (!starts && !wasReady) ? value : null);
    if (!ready && value !== null) line.warms = true;
    wasReady = ready;
  });
  return line;
}

/**
 * Stretches in which a value is due or there but has not converged.
 * @param {import("./candles.js").Study[]} studies in order
 * @param {string} name
 * @param {number} lengthMs
 * @returns {{from: number, to: number}[]}
 */
export function warmingUp(studies, name, lengthMs) {
  /** @type {{from: number, to: number}[]} */
  const found = [];
  for (const study of studies) {
    if (!study.unready.includes(name)) continue;
    const current = found.at(-1);
    if (current && current.to === study.t) current.to = study.t + lengthMs;
    else found.push({ from: study.t, to: study.t + lengthMs });
  }
  return found;
}
