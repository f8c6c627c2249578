/** Lines between boxes, with round corners. Pure. */

/** @typedef {{left: number, top: number, width: number, height: number}} Box */

const ROUND = 9;
const LEVEL = 6; // cards side by side differ by some pixels in height: no reason for a kink

/**
 * The path of a way: from the right to the left side where there is room between, else from bottom to top or top to bottom.
 * @param {Box} from
 * @param {Box} to
 * @returns {string} as an SVG path has it
 */
export function pathBetween(from, to) {
  const [right, left] = [from.left + from.width, to.left];
  if (left - right > 4) return sideways(right, middle(from), left, middle(to), Math.min(14, (left - right) / 2));
  const [bottom, top] = [from.top + from.height, to.top];
  if (top >= bottom) return upright(centre(from), bottom, centre(to), top);
  return upright(centre(from), from.top, centre(to), to.top + to.height);
}

/**
 * From a box's lower side to the left side of one below it, or from a right side to the lower side of one above.
 * @param {Box} from
 * @param {Box} to
 * @returns {string}
 */
export function pathAround(from, to) {
  if (middle(to) > from.top + from.height) {
    const [x, y] = [centre(from), from.top + from.height];
    return `M${x} ${y}V${middle(to) - ROUND}Q${x} ${middle(to)} ${x + ROUND} ${middle(to)}H${to.left}`;
  }
  const [x, y] = [centre(to), middle(from)];
  return `M${from.left + from.width} ${y}H${x - ROUND}Q${x} ${y} ${x} ${y - ROUND}V${to.top + to.height}`;
}

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 @param {number} before the end it turns @returns {string} */
function sideways(x1, y1, x2, y2, before) {
  if (Math.abs(y2 - y1) < LEVEL) return `M${x1} ${y1}H${x2}`;
  const turn = x2 - before;
  const round = Math.min(ROUND, before, Math.abs(y2 - y1) / 2);
  const down = Math.sign(y2 - y1) * round;
  return `M${x1} ${y1}H${turn - round}Q${turn} ${y1} ${turn} ${y1 + down}V${y2 - down}Q${turn} ${y2} ${turn + round} ${y2}H${x2}`;
}

/** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 @returns {string} */
function upright(x1, y1, x2, y2) {
  if (Math.abs(x2 - x1) < 1) return `M${x1} ${y1}V${y2}`;
  const turn = (y1 + y2) / 2;
  const round = Math.min(ROUND, Math.abs(y2 - y1) / 2, Math.abs(x2 - x1) / 2);
  const [down, aside] = [Math.sign(y2 - y1) * round, Math.sign(x2 - x1) * round];
  return `M${x1} ${y1}V${turn - down}Q${x1} ${turn} ${x1 + aside} ${turn}H${x2 - aside}Q${x2} ${turn} ${x2} ${turn + down}V${y2}`;
}

/** @param {Box} box @returns {number} */
const middle = (box) => box.top + box.height / 2;

/** @param {Box} box @returns {number} */
const centre = (box) => box.left + box.width / 2;
