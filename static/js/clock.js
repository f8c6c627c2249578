/** The server's clock, as well as it can be known here; steady even if this machine's clock is set. */

const SAMPLES_MOST = 30;

export class Clock {
  /** @param {() => number} steady milliseconds of a clock that never jumps */
  constructor(steady = () => performance.now()) {
    this.steady = steady;
    /** @type {number[]} */
    this.offsets = [];
    this.offset = Date.now() - steady();
  }

  /**
   * Take a time from the server. A message only ever comes late, so the greatest offset is the truest.
   * @param {number} serverTime
   */
  hear(serverTime) {
    this.offsets.push(serverTime - this.steady());
    if (this.offsets.length > SAMPLES_MOST) this.offsets.shift();
    this.offset = Math.max(...this.offsets);
  }

  /** @returns {number} milliseconds since 1970 by the server's clock */
  now() {
    return this.steady() + this.offset;
  }
}
