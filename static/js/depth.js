/** What stands in an order book's levels. Pure. */

/**
 * @typedef {Object} Level
 * @property {string} priceText as the exchange writes it
 * @property {number} price
 * @property {number} quantity
 * @property {number} total of this level and all better ones
 */

/** @param {[string, string][]} side best first @returns {Level[]} */
export function levelsOf(side) {
  let total = 0;
  return side.map(([priceText, text]) => {
    const quantity = Number(text);
    total += quantity;
    return { priceText, price: Number(priceText), quantity, total };
  });
}

/**
 * A side's depth against price: how much stands between the best price and this one. Drawn as steps, sideways first.
 * @param {Level[]} levels
 * @returns {{x: number[], y: number[]}}
 */
export function stepsOf(levels) {
  const best = levels.slice(0, 1);
  return { x: [...best, ...levels].map(({ price }) => price), y: [...best.map(() => 0), ...levels.map(({ total }) => total)] };
}

/**
 * Where lines are drawn below a greatest value: a step of 1, 2 or 5 times a power of ten, three to six of them.
 * @param {number} most above 0
 * @returns {number[]}
 */
export function ticksOf(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [0.2, 0.5, 1, 2].map((factor) => factor * power).find((wide) => most / wide < 7) ?? power;
  return Array.from({ length: Math.floor(most / step) }, (_, i) => Number(((i + 1) * step).toPrecision(12)));
}

/** @param {string} text a price with eight decimals @param {number} decimals @returns {string} never fewer digits than say something */
export function shortened(text, decimals) {
  const [whole, rest = ""] = text.split(".");
  const significant = rest.replace(/0+$/, "").length;
  const kept = Math.max(Math.min(decimals, rest.length), significant);
  return `${Number(whole).toLocaleString("en-US")}${kept ? `.${rest.slice(0, kept)}` : ""}`;
}
