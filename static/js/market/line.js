/** A day's line in a few pixels. Pure. */

export const WIDTH = 96;
export const HEIGHT = 22;
const MARGIN = 2;
const MOST = 100;

/**
 * @param {?(?number)[]} parts of the line's range, 0 to 100 each; null where there is none
 * @returns {string} an SVG path, broken where something is missing
 */
export function pathOf(parts) {
  if (!parts) return "";
  const step = (WIDTH - 2 * MARGIN) / (parts.length - 1);
  let path = "";
  let drawing = false;
  parts.forEach((part, i) => {
    if (part !== null) {
      const x = MARGIN + i * step;
      const y = MARGIN + (1 - part / MOST) * (HEIGHT - 2 * MARGIN);
      path += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    }
    drawing = part !== null;
  });
  return path;
}
