/** What the reader has chosen, as it stands in the link: only what differs from the defaults. Pure. */

/**
 * @typedef {Object} Choices
 * @property {string} find words, parted by spaces or commas: a symbol that holds any of them is shown
 * @property {string} quote a quote asset, or "" for all
 * @property {string} interval of the RSI
 * @property {string} sort a column's name
 * @property {boolean} descending
 */

export const INTERVALS = ["1m", "5m", "15m", "30m", "1h", "4h", "1d"];

/** Columns by which can be sorted, and whether a reader wants the greatest first. @type {Object<string, boolean>} */
export const DESCENDING_FIRST = { symbol: false, price: true, change: true, range: true, rsi: true, volume: true, age: true };

/** @type {Choices} */
export const DEFAULTS = { find: "", quote: "", interval: "1h", sort: "volume", descending: true };

const FIND_MOST = 400; // a list of one's own may stand in a link

/** @param {string} search a link's part from ? on; what makes no sense in it is the default @returns {Choices} */
export function readChoices(search) {
  const asked = new URLSearchParams(search);
  const interval = asked.get("interval") ?? "";
  const sort = asked.get("sort") ?? "";
  const sorted = Object.hasOwn(DESCENDING_FIRST, sort) ? sort : DEFAULTS.sort;
  const direction = asked.get("dir");
  return {
    find: (asked.get("find") ?? "").slice(0, FIND_MOST),
    quote: (asked.get("quote") ?? "").toUpperCase().slice(0, FIND_MOST),
    interval: INTERVALS.includes(interval) ? interval : DEFAULTS.interval,
    sort: sorted,
    descending: direction === "asc" ? false : direction === "desc" ? true : DESCENDING_FIRST[sorted],
  };
}

/** @param {Choices} choices @returns {string} a link's part from ? on; empty for the defaults */
export function writeChoices(choices) {
  const asked = new URLSearchParams();
  if (choices.find) asked.set("find", choices.find);
  if (choices.quote) asked.set("quote", choices.quote);
  if (choices.interval !== DEFAULTS.interval) asked.set("interval", choices.interval);
  if (choices.sort !== DEFAULTS.sort) asked.set("sort", choices.sort);
  if (choices.descending !== DESCENDING_FIRST[choices.sort]) asked.set("dir", choices.descending ? "desc" : "asc");
  const text = asked.toString();
  return text && `?${text}`;
}

/** The choices after a column's head was pressed: its own first direction, then the other one. @param {Choices} choices @param {string} column @returns {Choices} */
export function sortedBy(choices, column) {
  const descending = choices.sort === column ? !choices.descending : DESCENDING_FIRST[column];
  return { ...choices, sort: column, descending };
}
