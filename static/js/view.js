/**
 * Which time is shown: the live edge, or a place that the reader has gone to. Pure, but for the clock it is given.
 *
 *     live ──pan──► panned        the edge stays where it was put, data goes on
 *       │◄──────────┘             panning past the live edge, or goLive
 *       ├──pause──► paused        nothing later than the pause is shown
 *       └──replayTo─► replay      nothing later than the replay's time is shown
 */

const LEAD_SHARE = 0.035; // room right of now, so that the line's tip doesn't touch the axis
const KEPT_SHARE = 0.25; // so much of the view stays within the known data

export class View {
  /** @param {() => number} clock by the server's time @param {import("./intervals.js").Limits} limits */
  constructor(clock, limits) {
    this.clock = clock;
    this.limits = limits;
    this.spanMs = limits.spanMs;
    /** @type {?number} the right edge, null at the live edge */
    this.end = null;
    /** @type {?number} nothing after this time is shown */
    this.until = null;
    this.replaying = false;
    /** @type {?number} where the known data begins */
    this.oldest = null;
    /** @type {(() => void)[]} */
    this.listeners = [];
  }

  /** @param {() => void} changed called after each change but the passing of time */
  onChange(changed) {
    this.listeners.push(changed);
  }

  /** @returns {boolean} whether the right edge is now, with all that is known */
  get live() {
    return this.end === null && this.until === null;
  }

  /** @returns {boolean} */
  get paused() {
    return this.until !== null && !this.replaying;
  }

  /** @param {number} [now] @returns {number} time at the right edge */
  right(now = this.clock()) {
    return this.end ?? this.#edge(now);
  }

  /** @param {number} [now] @returns {number} time at the left edge */
  left(now = this.clock()) {
    return this.right(now) - this.spanMs;
  }

  /** Another interval: other limits, its own span, the live edge. @param {import("./intervals.js").Limits} limits @param {?number} [spanMs] */
  adopt(limits, spanMs = null) {
    this.limits = limits;
    this.spanMs = this.#clamped(spanMs ?? limits.spanMs);
    this.oldest = null;
    this.goLive();
  }

  /** @param {number} ms to later times, or negative to earlier ones */
  pan(ms) {
    this.#put(this.right() + ms);
  }

  /**
   * @param {number} factor below 1 shows less time
   * @param {?number} [anchor] the time that stays where it is; the right edge by default
   */
  zoom(factor, anchor = null) {
    const span = this.#clamped(this.spanMs * factor);
    const right = this.right();
    const share = anchor === null ? 0 : (right - anchor) / this.spanMs;
    this.spanMs = span;
    // A live view stays live: the edge is what its reader follows.
    if (this.end === null || anchor === null) this.#changed();
    else this.#put(anchor + share * span);
  }

  /** @param {?number} spanMs null for the interval's own */
  show(spanMs) {
    this.spanMs = this.#clamped(spanMs ?? this.limits.spanMs);
    this.#changed();
  }

  /** Follow the newest data. */
  goLive() {
    this.end = null;
    this.until = null;
    this.replaying = false;
    this.#changed();
  }

  /** Hold what is shown, and show nothing later. */
  pause() {
    const now = this.clock();
    this.end = this.right(now);
    this.until ??= now;
    this.replaying = false;
    this.#changed();
  }

  /** @param {number} time the right edge */
  goTo(time) {
    this.#put(time);
  }

  /** Show the oldest that is known. */
  goOldest() {
    if (this.oldest !== null) this.#put(this.oldest + this.spanMs);
  }

  /** @param {?number} time shows what was known then; null ends the replay */
  replayTo(time) {
    if (time === null) return this.goLive();
    this.until = time;
    this.end = this.#edge(time);
    this.replaying = true;
    this.#changed();
  }

  /** @param {number} right */
  #put(right) {
    const edge = this.#edge(this.until ?? this.clock());
    const least = this.oldest === null ? -Infinity : this.oldest + this.spanMs * KEPT_SHARE;
    const end = Math.max(right, Math.min(least, edge));
    if (end >= edge && this.until === null) return this.goLive();
    this.end = Math.min(end, edge);
    this.#changed();
  }

  /** @param {number} now @returns {number} where the right edge is if this is the newest time */
  #edge(now) {
    return now + this.spanMs * LEAD_SHARE + this.limits.aheadMs;
  }

  /** @param {number} spanMs */
  #clamped(spanMs) {
    return Math.min(this.limits.mostMs, Math.max(this.limits.leastMs, spanMs));
  }

  #changed() {
    for (const changed of this.listeners) changed();
  }
}
