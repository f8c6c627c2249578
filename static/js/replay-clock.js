/** The time of a replay: runs faster than the market's, within what is known. Pure. */

const ELAPSED_MOST_MS = 500; // a hidden page gets no frames: what nobody saw is not skipped
const EVERY_SPEED = [1, 10, 60, 600];

/** @typedef {{from: number, to: number}} Range */

/**
 * Speeds to choose from; for long candles also the one that shows a candle a second.
 * @param {?number} lengthMs of a candle
 * @returns {number[]}
 */
export function speedsFor(lengthMs) {
  const candle = (lengthMs ?? 0) / 1000;
  return candle > Math.max(...EVERY_SPEED) ? [...EVERY_SPEED, candle] : EVERY_SPEED;
}

/**
 * The speed to begin with: a candle a second at least.
 * @param {?number} lengthMs of a candle
 * @returns {number}
 */
export function usualSpeed(lengthMs) {
  const speeds = speedsFor(lengthMs);
  return speeds.find((speed) => speed >= (lengthMs ?? 0) / 1000) ?? speeds[0];
}

export class ReplayClock {
  /** @param {Range} range what is known @param {number} time where to begin */
  constructor(range, time) {
    this.range = range;
    this.time = time;
    this.speed = 1;
    /** @type {?number} when the last frame was, null while it stands */
    this.last = null;
    this.seek(time);
  }

  /** @returns {boolean} */
  get playing() {
    return this.last !== null;
  }

  /** @returns {boolean} whether all that is known has been shown */
  get done() {
    return this.time >= this.range.to;
  }

  /** @param {Range} range more may be known by now */
  within(range) {
    this.range = range;
    this.seek(this.time);
  }

  /** @param {number} time */
  seek(time) {
    this.time = Math.max(this.range.from, Math.min(this.range.to, time));
  }

  /** @param {number} at a steady clock's ms */
  play(at) {
    this.last = at;
  }

  pause() {
    this.last = null;
  }

  /**
   * Go on to the end of the step that the time lies in.
   * @param {number} lengthMs
   */
  step(lengthMs) {
    this.seek((Math.floor(this.time / lengthMs) + 1) * lengthMs);
  }

  /** @param {number} at a steady clock's ms @returns {number} the replay's time then; at its end it stands */
  tick(at) {
    if (this.last === null) return this.time;
    // The first frame may have begun before the play.
    const elapsed = Math.max(0, Math.min(ELAPSED_MOST_MS, at - this.last));
    this.seek(this.time + elapsed * this.speed);
    this.last = this.done ? null : at;
    return this.time;
  }
}
