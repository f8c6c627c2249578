/** What is to be seen of the store's data: in this view, up to this time. */

import { candlesPicture } from "./candles-picture.js";
import { decimalsFor, showMoment, showPrice, showTime } from "./format.js";
import { clearLegends, showBookLegends, showCandleLegends, showWindowLegends } from "./legends.js";
import { quoteOfCandles, quoteOfWindows } from "./quotes.js";
import { candleRows, shownNames, windowRows } from "./rows.js";
import { spanOf } from "./shades.js";
import { namesOf } from "./studies.js";
import { windowsPicture } from "./windows-picture.js";

/** @typedef {import("./candles.js").Candle} Candle */
/** @typedef {import("./series.js").Window} Window */

const BESIDE_LIVE = 0.06; // so much is drawn left and right of a live view, share of it
const BESIDE_MOVED = 0.4; // and of one that the reader drags

export class Scene {
  /**
   * @param {import("./store.js").Store} store
   * @param {import("./view.js").View} view
   * @param {import("./state.js").Choices} choices
   */
  constructor(store, view, choices) {
    this.store = store;
    this.view = view;
    this.choices = choices;
    this.moment = ""; // of which the legends tell
    /** @type {?Candle} the candle in progress as it was when the reader paused */
    this.held = null;
    view.onChange(() => (this.held = view.paused ? (this.held ?? store.candles?.current ?? null) : null));
  }

  /**
   * @param {number} now
   * @param {boolean} stale
   * @param {import("./theme.js").Theme} theme
   * @returns {import("./chart.js").Picture}
   */
  picture(now, stale, theme) {
    const { candles, newest } = this.store;
    const { panes, show, signals } = this.choices;
    const beside = this.view.spanMs * (this.view.live ? BESIDE_LIVE : BESIDE_MOVED);
    const [from, to] = [this.view.left(now), this.view.right(now)];
    const common = { panes, gaps: this.store.gaps.between(from - beside, to + beside), staleFrom: stale ? newest : null };
    if (!candles) {
      const books = panes.has("book") ? this.store.books.between(from - beside, Math.min(to + beside, this.view.until ?? Infinity)) : [];
      return windowsPicture({ ...common, books, drawn: this.#windows(from - beside, to + beside), inView: this.#windows(from, to), last: this.#lastWindow() }, theme);
    }
    const { until } = this.view;
    return candlesPicture({
      ...common, show, lengthMs: candles.lengthMs, last: this.#lastCandle(),
      drawn: this.#candles(from - beside, to + beside), inView: this.#candles(from, to),
      studies: candles.studied(from - beside, to + beside, until), signals: signals ? candles.signalled(from, to, until) : [],
    }, theme);
  }

  /** @param {number} now @returns {?import("./readout.js").Quote} */
  quote(now) {
    const [from, to] = [this.view.left(now), this.view.right(now)];
    const { candles, interval } = this.store;
    if (!candles) return quoteOfWindows(this.#windows(from, to).windows, this.#lastWindow());
    const last = this.#lastCandle();
    return quoteOfCandles(interval, this.#candles(from, to), last, last && candles.studies.at(last.t));
  }

  /**
   * Write the legends of the moment pointed at, or else the newest in view.
   * @param {?number} time pointed at
   * @param {boolean} again whether the data may have changed, so that the same moment is written again
   * @returns {?{time: number, text: string}} the moment pointed at
   */
  point(time, again) {
    return this.store.candles ? this.#pointCandle(time, again) : this.#pointWindow(time, again);
  }

  /** @param {number} now @returns {import("./gaps.js").Gap[]} */
  gapsInView(now) {
    return this.store.gaps.between(this.view.left(now), this.view.right(now));
  }

  /** @returns {number} the time of the newest record that is shown: it changes when there is something else to draw */
  shownTo() {
    return (this.store.candles ? this.#lastCandle()?.t : this.#lastWindow()?.window_end) ?? 0;
  }

  /** @param {number} price @returns {string} */
  priceText(price) {
    return showPrice(price, decimalsFor(this.#lastCandle()?.close ?? this.#lastWindow()?.close ?? price));
  }

  /** @param {?number} level the last price @returns {string} the chart for those who can't see it */
  words(level) {
    const { symbol, interval } = this.store;
    const what = interval === "windows" ? `Price of ${symbol}` : `Candles of ${interval} of ${symbol}`;
    const panes = [...this.choices.panes].join(", ");
    return `${what}, ${level === null ? "no data" : `now ${showPrice(level)}`}${panes && `, with ${panes}`}, over ${spanOf(this.view.spanMs)}`;
  }

  /** @param {number} now @returns {import("./rows.js").Table} what is in view */
  rows(now) {
    const [from, to] = [this.view.left(now), this.view.right(now)];
    const { candles, symbol, interval } = this.store;
    if (!candles) return windowRows(symbol, this.#windows(from, to).windows);
    const studies = candles.studied(from, to, this.view.until);
    const names = shownNames(namesOf(candles.studies.records), new Set([...this.choices.show, ...this.choices.panes]));
    return candleRows(symbol, interval, this.#candles(from, to), studies, names);
  }

  /** @param {?number} time @param {boolean} again */
  #pointWindow(time, again) {
    const { windows } = this.store;
    const pointed = time === null ? undefined : this.#windows(-Infinity, Infinity).at(time + windows.slideMs() / 2);
    const window = pointed ?? this.#windows(-Infinity, this.view.right()).last;
    const timed = pointed !== undefined || !this.view.live;
    this.#write(`${window?.window_end} ${timed}`, again, () => window && this.#writeWindow(window, timed));
    return pointed ? { time: pointed.window_end, text: showTime(pointed.window_end) } : null;
  }

  /** @param {Window} window @param {boolean} timed */
  #writeWindow(window, timed) {
    showWindowLegends(window, timed);
    const book = timed ? this.store.books.features.at(window.window_end) : this.store.books.features.last;
    if (this.choices.panes.has("book") && book) showBookLegends(book);
  }

  /** @param {?number} time @param {boolean} again */
  #pointCandle(time, again) {
    const candles = /** @type {import("./candles.js").Candles} */ (this.store.candles);
    const pointed = time === null ? undefined : this.#candles(time, time).at(-1);
    const newest = this.view.live ? this.#lastCandle() : this.#candles(this.view.left(), this.view.right()).at(-1);
    const candle = pointed ?? newest;
    const study = candle && candles.studies.at(candle.t);
    // The newest candle has its indicators a moment after itself: until then those before it stand.
    const known = pointed === undefined || pointed.provisional || study?.t === candle?.t;
    const timed = pointed !== undefined || !this.view.live;
    this.#write(`${candle?.t} ${timed}`, again, () => candle && showCandleLegends(candle, known ? study : undefined, { timed, show: this.choices.show }));
    return pointed ? { time: pointed.t + candles.lengthMs / 2, text: showMoment(pointed.t) } : null;
  }

  /** @param {string} moment @param {boolean} again @param {() => void} write */
  #write(moment, again, write) {
    if (!again && moment === this.moment) return;
    this.moment = moment;
    clearLegends();
    write();
  }

  /** @param {number} from @param {number} to */
  #windows(from, to) {
    return this.store.windows.part(from, Math.min(to, this.view.until ?? Infinity));
  }

  /** @returns {Window | undefined} */
  #lastWindow() {
    return this.store.windows.at(this.view.until ?? Infinity);
  }

  /** @param {number} from @param {number} to @returns {Candle[]} */
  #candles(from, to) {
    return this.store.candles?.shown(from, to, this.view.until, this.#inProgress()) ?? [];
  }

  /** @returns {Candle | undefined} */
  #lastCandle() {
    const { candles } = this.store;
    return this.#inProgress() ?? candles?.candles.at((this.view.until ?? Infinity) - candles.lengthMs);
  }

  /** @returns {?Candle} */
  #inProgress() {
    return this.view.until === null ? (this.store.candles?.current ?? null) : this.held;
  }
}
