/** The chart: draws a series with plotly.js, shifts it with time, and tells where things are on the screen. */

import { decimalsFor } from "./format.js";
import { makeLayout, priceRange, timeRange, volumeRange } from "./layout.js";
import { Scroll } from "./scroll.js";
import { makeStretches, makeTraces, makeZones } from "./traces.js";

/** @typedef {import("./series.js").Series} Series */

const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: false, showTips: false };

/**
 * @typedef {Object} Plotly
 * @property {(element: HTMLElement, traces: Object[], layout: Object, config: Object) => Promise<any>} react
 */

export class Chart {
  /** @param {HTMLElement} element @param {Plotly} plotly */
  constructor(element, plotly) {
    this.element = element;
    this.plotly = plotly;
    this.scroll = new Scroll(element);
    /** @type {?[number, number]} */
    this.price = null;
    this.spanMs = 120_000;
    this.right = 0;
  }

  /** Forget the ranges of the symbol shown before. */
  reset() {
    this.price = null;
  }

  /**
   * Draw anew: when windows came, the size or the theme changed, or data became stale.
   * @param {Series} series
   * @param {{now: number, theme: import("./theme.js").Theme, stale: boolean}} view
   */
  draw(series, { now, theme, stale }) {
    this.spanMs = series.spanMs;
    const time = timeRange(now, this.spanMs);
    this.price = priceRange(series, time[0], this.price);
    const zones = makeZones(theme, series.last?.close ?? null);
    const layout = makeLayout({
      theme,
      width: this.element.clientWidth,
      height: this.element.clientHeight,
      spanMs: this.spanMs,
      time,
      price: this.price,
      volume: volumeRange(series, time[0]),
      decimals: decimalsFor(series.last?.close ?? 1),
      shapes: [...zones, ...makeStretches(series, theme, stale)],
    });
    this.plotly.react(this.element, makeTraces(series, theme), layout, CONFIG);
    this.right = time[1];
    this.scroll.drawn(time[1], this.plotBox().width / this.spanMs, zones.length);
  }

  /** @param {number} now shift what is drawn to this time */
  shift(now) {
    this.right = timeRange(now, this.spanMs)[1];
    this.scroll.to(this.right);
  }

  /** @returns {{left: number, top: number, width: number, height: number}} where the panes are, in the element */
  plotBox() {
    const size = /** @type {any} */ (this.element)._fullLayout?._size ?? { l: 0, t: 0, w: 0, h: 0 };
    return { left: size.l, top: size.t, width: size.w, height: size.h };
  }

  /** @param {number} x pixels from the element's left @returns {number} time there */
  timeAt(x) {
    const { left, width } = this.plotBox();
    return this.right - ((left + width - x) * this.spanMs) / Math.max(width, 1);
  }

  /** @param {number} time @returns {number} pixels from the element's left */
  xOf(time) {
    const { left, width } = this.plotBox();
    return left + width - ((this.right - time) * width) / this.spanMs;
  }

  /** @param {number} price @param {number[]} pane share of the height @returns {number} pixels from the element's top */
  yOfPrice(price, pane) {
    const { top, height } = this.plotBox();
    const [low, high] = this.price ?? [0, 1];
    const share = pane[0] + ((price - low) / (high - low)) * (pane[1] - pane[0]);
    return top + height * (1 - share);
  }

  /** @param {number[]} pane @returns {number} pixels from the element's top to the pane's top */
  topOf(pane) {
    const { top, height } = this.plotBox();
    return top + height * (1 - pane[1]);
  }
}
