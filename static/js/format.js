/** Numbers, ages and times as a trader reads them. Pure. */

const LOCALE = "en-US";
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const compact = new Intl.NumberFormat(LOCALE, { notation: "compact", maximumSignificantDigits: 4 });

/**
 * Decimals that fit a price's magnitude, from 0.00001234 to 1,500,000,000; the exchange has no more than eight.
 * @param {number} price
 * @returns {number}
 */
export function decimalsFor(price) {
  const size = Math.abs(price);
  if (!(size > 0)) return 2;
  if (size >= 1e6) return 0;
  if (size >= 100) return 2;
  if (size >= 1) return 4;
  return Math.min(8, 4 - Math.floor(Math.log10(size)));
}

/**
 * @param {number} price
 * @param {number} [decimals] those of a price beside it; by default those that fit
 * @returns {string}
 */
export function showPrice(price, decimals = decimalsFor(price)) {
  return price.toLocaleString(LOCALE, { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/**
 * @param {number} difference
 * @param {number} decimals
 * @returns {string} with its sign, a true minus, not a hyphen; zero has none
 */
export function showDifference(difference, decimals) {
  const shown = Number(difference.toFixed(decimals));
  const sign = shown > 0 ? "+" : shown < 0 ? "−" : "";
  return sign + showPrice(Math.abs(shown), decimals);
}

/** @param {number} spread @param {number} mid @returns {string} in basis points, to two digits that say something */
export function showPoints(spread, mid) {
  return `${Number(((1e4 * spread) / mid).toPrecision(2))} bp`;
}

/** @param {number} volume @returns {string} */
export function showVolume(volume) {
  return volume === 0 ? "0" : compact.format(volume);
}

/** @param {number} ms an age; windows may end a little ahead of the clock, which is no age @returns {string} */
export function showAge(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** @param {number} ms since 1970 @returns {string} time of day, UTC, to a tenth of a second */
export function showTime(ms) {
  return new Date(ms).toISOString().slice(11, 21);
}

/** @param {number} ms since 1970 @returns {string} day and minute, UTC, as in "21 Nov 23:45" */
export function showMoment(ms) {
  const date = new Date(ms);
  return `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]} ${date.toISOString().slice(11, 16)}`;
}

const QUOTES = ["FDUSD", "USDT", "USDC", "TUSD", "BUSD", "USD1", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "JPY", "GBP", "AUD", "USD"];

/**
 * A symbol as base and quote, where its end is a known quote asset.
 * @param {string} symbol
 * @returns {{base: string, quote: string}}
 */
export function splitSymbol(symbol) {
  const quote = QUOTES.find((asset) => symbol.endsWith(asset) && symbol.length > asset.length) ?? "";
  return { base: symbol.slice(0, symbol.length - quote.length), quote };
}
