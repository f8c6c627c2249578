/** Where each symbol stands on the screen: the server's places fitted into a frame, and pushed apart where they overlap. Pure. */

const MARGIN = 42;
const GAP = 5;
const ROUNDS = 80;
const PUSHED_MOST = 600; // more symbols are drawn where they are: each round looks at every two of them
const RADIUS_LEAST = 4.5;
const RADIUS_DEGREE = 1.7;
const RADIUS_MOST = 15;

/** @typedef {{x: number, y: number, radius: number}} Spot */

/** @param {number} degree @param {number} count of all symbols @returns {number} pixels */
export function radiusOf(degree, count) {
  const scale = count > 400 ? 0.55 : count > 150 ? 0.75 : 1;
  return Math.min(RADIUS_MOST, RADIUS_LEAST + RADIUS_DEGREE * Math.sqrt(degree) * 1.4) * scale;
}

/**
 * @param {{x: (?number)[], y: (?number)[], degree: number[]}} nodes
 * @param {number} width pixels
 * @param {number} height of the frame above the legend
 * @returns {(?Spot)[]} null for a symbol without a place
 */
export function spotsOf(nodes, width, height) {
  const count = nodes.x.length;
  /** @type {(?Spot)[]} */
  const spots = nodes.x.map((x, i) => {
    const y = nodes.y[i];
    return x === null || y === null ? null : { x, y: -y, radius: radiusOf(nodes.degree[i], count) };
  });
  const there = /** @type {Spot[]} */ (spots.filter((spot) => spot !== null));
  spread(there, "x", MARGIN, width - MARGIN);
  spread(there, "y", MARGIN, height - MARGIN);
  if (there.length <= PUSHED_MOST) for (let round = 0; round < ROUNDS && push(there, width, height); round += 1);
  return spots;
}

/**
 * Half by distance, half by rank: symbols that hardly move with others crowd in the middle, and a few far ones would leave the frame empty.
 * @param {Spot[]} spots @param {"x" | "y"} axis @param {number} from @param {number} to
 */
function spread(spots, axis, from, to) {
  const values = spots.map((spot) => spot[axis]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const order = spots.map((_, i) => i).sort((i, j) => values[i] - values[j] || i - j);
  order.forEach((i, rank) => {
    const far = high > low ? (values[i] - low) / (high - low) : 0.5;
    const ranked = spots.length > 1 ? rank / (spots.length - 1) : 0.5;
    spots[i][axis] = from + (to - from) * (far + ranked) * 0.5;
  });
}

/** @param {Spot[]} spots @param {number} width @param {number} height @returns {boolean} whether any two overlapped */
function push(spots, width, height) {
  let moved = false;
  for (let i = 0; i < spots.length; i += 1) {
    for (let j = i + 1; j < spots.length; j += 1) {
      const [one, other] = [spots[i], spots[j]];
      const wanted = one.radius + other.radius + GAP + 8;
      const [dx, dy] = [other.x - one.x || 0.01, other.y - one.y || 0.01];
      const apart = Math.hypot(dx, dy);
      if (apart >= wanted) continue;
      const step = (wanted - apart) / apart / 2;
      one.x -= dx * step;
      one.y -= dy * step;
      other.x += dx * step;
      other.y += dy * step;
      moved = true;
    }
  }
  for (const spot of spots) {
    spot.x = Math.min(width - MARGIN / 2, Math.max(MARGIN / 2, spot.x));
    spot.y = Math.min(height - MARGIN / 2, Math.max(MARGIN / 2, spot.y));
  }
  return moved;
}

/** @param {(?Spot)[]} spots @param {number} x @param {number} y @param {number} reach pixels beyond its edge @returns {number} the nearest one there, -1 for none */
export function spotAt(spots, x, y, reach) {
  let [found, least] = [-1, Infinity];
  spots.forEach((spot, i) => {
    if (!spot) return;
    const away = Math.hypot(spot.x - x, spot.y - y) - spot.radius;
    if (away <= reach && away < least) [found, least] = [i, away];
  });
  return found;
}
