/** What the reader has chosen, as it stands in the link: only what differs from the defaults. Pure. */

/**
 * @typedef {Object} Choices
 * @property {string} find words, parted by spaces or commas: a symbol that holds any of them is found
 * @property {string} symbols those that are compared, parted by commas; empty for all
 * @property {string} interval of the candles
 * @property {number} candles of the window
 * @property {number} least the weakest correlation of a line
 */

export const INTERVALS = ["1m", "5m", "15m", "30m", "1h", "4h", "1d"];
export const CANDLES = [60, 120, 240, 500];
export const LEAST_LEAST = 0.2;
export const LEAST_MOST = 0.95;
const LEAST_STEP = 0.05;
const FIND_MOST = 400;
const SYMBOLS_MOST_CHARS = 8000;
const SYMBOLS = /^[\w\-.:]+(,[\w\-.:]+)*$/;

/** @type {Choices} */
export const DEFAULTS = { find: "", symbols: "", interval: "1m", candles: 120, least: 0.6 };

/** @param {string} search a link's part from ? on; what makes no sense in it is the default @returns {Choices} */
export function readChoices(search) {
  const asked = new URLSearchParams(search);
  const interval = asked.get("interval") ?? "";
  const candles = Number(asked.get("candles"));
  return {
    find: (asked.get("find") ?? "").slice(0, FIND_MOST),
    symbols: symbolsOf(asked.get("symbols") ?? ""),
    interval: INTERVALS.includes(interval) ? interval : DEFAULTS.interval,
    candles: CANDLES.includes(candles) ? candles : DEFAULTS.candles,
    least: leastOf(asked.get("least")),
  };
}

/** @param {Choices} choices @returns {string} a link's part from ? on; empty for the defaults */
export function writeChoices(choices) {
  const asked = new URLSearchParams();
  if (choices.find) asked.set("find", choices.find);
  if (choices.symbols) asked.set("symbols", choices.symbols);
  if (choices.interval !== DEFAULTS.interval) asked.set("interval", choices.interval);
  if (choices.candles !== DEFAULTS.candles) asked.set("candles", String(choices.candles));
  if (choices.least !== DEFAULTS.least) asked.set("least", String(choices.least));
  const text = asked.toString();
  return text && `?${text.replaceAll("%2C", ",")}`;
}

/** @param {string} text @returns {string} as the server takes it; empty if it makes no sense */
function symbolsOf(text) {
  const names = text.toUpperCase().slice(0, SYMBOLS_MOST_CHARS);
  return SYMBOLS.test(names) ? names : "";
}

/** @param {?string} text @returns {number} the nearest step that the slider has */
export function leastOf(text) {
  const asked = Number(text);
  if (!(asked >= LEAST_LEAST && asked <= LEAST_MOST)) return DEFAULTS.least;
  return Number((Math.round(asked / LEAST_STEP) * LEAST_STEP).toFixed(2));
}

/** @param {string} symbol @param {string} find @returns {boolean} whether any of the words stands in the symbol; all do where there are none */
export function isFound(symbol, find) {
  const words = find.toUpperCase().split(/[\s,]+/).filter(Boolean);
  return words.length === 0 || words.some((word) => symbol.includes(word));
}
