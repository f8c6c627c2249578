/**
 * Moves what has been drawn along the time axis, as time passes or the reader drags it.
 *
 * A plotly.relayout takes 5 to 15 ms with these panes, too much for each frame. So plotly draws once for each batch of
 * data, and in between the layers that lie along the time axis are translated, which takes a fraction of a millisecond.
 */

const LAYERS = [".overplot > g > g", ".xaxislayer-below", ".xaxislayer-above", ".gridlayer > .x", ".shapelayer > g"].join(",");

export class Scroll {
  /** @param {HTMLElement} plot @param {HTMLElement} beside moves with the drawing */
  constructor(plot, beside) {
    this.plot = plot;
    this.beside = beside;
    /** @type {(SVGElement | HTMLElement)[]} */
    this.layers = [];
    this.drawnAt = 0;
    this.pxPerMs = 0;
  }

  /**
   * Start from what plotly has just drawn.
   * @param {number} time the right end of the time axis
   * @param {number} pxPerMs
   * @param {number} still how many shapes, the first ones, don't move with time
   */
  drawn(time, pxPerMs, still) {
    this.drawnAt = time;
    this.pxPerMs = pxPerMs;
    const layers = /** @type {SVGElement[]} */ ([...this.plot.querySelectorAll(LAYERS)]);
    this.layers = [...layers.filter((layer) => !(layer.dataset.index && Number(layer.dataset.index) < still)), this.beside];
    this.to(time);
  }

  /** @param {number} time what the right end of the time axis should be now */
  to(time) {
    const shift = `translateX(${((this.drawnAt - time) * this.pxPerMs).toFixed(2)}px)`;
    for (const layer of this.layers) layer.style.transform = shift;
  }
}
