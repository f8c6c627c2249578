/** How much colour an RSI gets. Pure. */

const CALM = 8; // this near to 50 there is nothing to see
const FULL = 32;
const STRONGEST = 46; // per cent of the colour: text on it keeps its contrast
const STEP = 2; // so that few changes are worth a write

export const HIGH = 70;
export const LOW = 30;

/**
 * @param {number} rsi
 * @returns {{side: "high" | "low" | "calm", percent: number}} red for a hot market, green for a cold one, as the chart's zones
 */
export function heatOf(rsi) {
  const distance = Math.abs(rsi - 50);
  const part = Math.min(1, Math.max(0, (distance - CALM) / (FULL - CALM)));
  const percent = STEP * Math.round((part * STRONGEST) / STEP);
  return { side: percent === 0 ? "calm" : rsi > 50 ? "high" : "low", percent };
}
