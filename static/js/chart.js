/** The chart: draws a picture with plotly.js, shifts it with time, and tells where things are on the screen. */

import { decimalsFor } from "./format.js";
import { arrange, macdRange, makeLayout, margins, priceMargin, priceRange, volumeRange } from "./layout.js";
import { Scroll } from "./scroll.js";

/**
 * @typedef {{msPerPx: number, pricePerPx: number, panes: import("./layout.js").Panes}} Scale
 *
 * @typedef {Object} Picture
 * @property {string[]} others the panes besides the price
 * @property {boolean} dated whether times need their day
 * @property {?[number, number]} extent least and greatest price in view
 * @property {number} volumeMost
 * @property {[number, number]} macd least and greatest value
 * @property {number} [spreadMost] the greatest spread in view
 * @property {?number} level the last price
 * @property {(scale: Scale) => {traces: Object[], still: Object[], moving: Object[], marks: import("./markers.js").Mark[]}} paint
 *
 * @typedef {Object} Plotly
 * @property {(element: HTMLElement, traces: Object[], layout: Object, config: Object) => Promise<any>} react
 */

const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: false, showTips: false };

export class Chart {
  /** @param {HTMLElement} element @param {Plotly} plotly @param {HTMLElement} beside what moves with the drawing and is not part of it */
  constructor(element, plotly, beside) {
    this.element = element;
    this.plotly = plotly;
    this.scroll = new Scroll(element, beside);
    /** @type {?[number, number]} */
    this.price = null;
    /** @type {import("./layout.js").Panes} */
    this.panes = arrange([], 1);
    this.spanMs = 1;
    this.right = 0;
  }

  /** Forget the ranges of what was shown before. */
  reset() {
    this.price = null;
  }

  /**
   * Draw anew: when data came, the size or the theme changed, or the view left what is drawn.
   * @param {Picture} picture
   * @param {{right: number, spanMs: number, theme: import("./theme.js").Theme}} view
   * @returns {import("./markers.js").Mark[]} the signals drawn
   */
  draw(picture, { right, spanMs, theme }) {
    const { clientWidth: width, clientHeight: height } = this.element;
    this.spanMs = spanMs;
    this.right = right;
    this.price = priceRange(picture.extent, this.price);
    const decimals = decimalsFor(picture.level ?? 1);
    const room = height - margins(picture.dated);
    this.panes = arrange(picture.others, room);
    const scale = this.#scale(Math.max(1, width - priceMargin(width, decimals, this.price[1])), Math.max(1, room));
    const { traces, still, moving, marks } = picture.paint(scale);
    const layout = makeLayout({
      theme, width, height, dated: picture.dated, time: [right - spanMs, right], panes: this.panes, price: this.price,
      volume: volumeRange(picture.volumeMost), macd: macdRange(picture.macd), spread: volumeRange(picture.spreadMost ?? 0), decimals, shapes: [...still, ...moving],
    });
    this.plotly.react(this.element, traces, layout, CONFIG);
    this.scroll.drawn(right, 1 / this.msPerPx(), still.length);
    return marks;
  }

  /** @param {number} right shift what is drawn so that this is its right edge */
  shift(right) {
    this.right = right;
    this.scroll.to(right);
  }

  /** @returns {number} how far what is drawn has been shifted since, share of the view */
  shifted() {
    return Math.abs(this.right - this.scroll.drawnAt) / this.spanMs;
  }

  /** @returns {number} time of a pixel */
  msPerPx() {
    return this.spanMs / Math.max(1, this.plotBox().width);
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

  /** @param {number} price @returns {number} pixels from the element's top */
  yOfPrice(price) {
    const { top, height } = this.plotBox();
    const [bottom, upper] = this.panes.price;
    const [low, high] = this.price ?? [0, 1];
    return top + height * (1 - bottom - ((price - low) / (high - low)) * (upper - bottom));
  }

  /** @param {number} price @returns {boolean} whether it lies in the pane */
  shows(price) {
    return this.price !== null && price >= this.price[0] && price <= this.price[1];
  }

  /** @param {number} y pixels from the element's top @returns {?number} the price there, null outside the pane */
  priceAt(y) {
    const { top, height } = this.plotBox();
    const [bottom, upper] = this.panes.price;
    const [low, high] = this.price ?? [0, 1];
    const share = (1 - (y - top) / Math.max(height, 1) - bottom) / (upper - bottom);
    return share < 0 || share > 1 ? null : low + share * (high - low);
  }

  /** @param {string} pane @returns {?number} pixels from the element's top to the pane's top, null if it isn't there */
  topOf(pane) {
    const { top, height } = this.plotBox();
    return this.panes[pane] ? top + height * (1 - this.panes[pane][1]) : null;
  }

  /** @returns {number} pixels from the element's top to the lower end of the price's pane */
  bottomOfPrice() {
    const { top, height } = this.plotBox();
    return top + height * (1 - this.panes.price[0]);
  }

  /** @param {number} width @param {number} height pixels of the panes @returns {Scale} */
  #scale(width, height) {
    const [low, high] = this.price ?? [0, 1];
    const [bottom, upper] = this.panes.price;
    return { msPerPx: this.spanMs / width, pricePerPx: (high - low) / (height * (upper - bottom)), panes: this.panes };
  }
}
