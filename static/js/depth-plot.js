/**
 * The depth of an order book against price: two areas of steps that meet at the mid.
 *
 * It changes many times a second, and is far too simple to be laid out by plotly.js each time, which takes a frame and more.
 */

import { stepsOf, ticksOf } from "./depth.js";
import { decimalsFor, showPrice, showVolume } from "./format.js";

/** @typedef {import("./depth.js").Level} Level */

const SVG = "http://www.w3.org/2000/svg";
const ROOM = 1.08; // above the highest step

export class DepthPlot {
  /** @param {HTMLElement} place empty */
  constructor(place) {
    const drawing = document.createElementNS(SVG, "svg");
    // Its own measure: prices from -1 to 1 around the mid, totals from 0 upwards to 1. What it is drawn to stretches it.
    drawing.setAttribute("viewBox", `-1 ${-ROOM} 2 ${ROOM}`);
    drawing.setAttribute("preserveAspectRatio", "none");
    const path = (/** @type {string} */ name) => {
      const element = document.createElementNS(SVG, "path");
      element.setAttribute("class", name);
      drawing.append(element);
      return element;
    };
    this.grid = path("depth-grid");
    this.mid = path("depth-mid");
    this.sides = [path("depth-bids"), path("depth-asks")];
    this.labels = document.createElement("div");
    place.replaceChildren(drawing, this.labels);
  }

  /** @param {Level[]} bids @param {Level[]} asks @param {?number} mid null while a side is empty: then the other's best is the middle */
  draw(bids, asks, mid) {
    const levels = [...bids, ...asks];
    const middle = mid ?? levels[0]?.price ?? 0;
    const far = Math.max(0, ...levels.map(({ price }) => Math.abs(price - middle))) || 1;
    const most = Math.max(0, ...levels.map(({ total }) => total)) || 1;
    [bids, asks].forEach((side, i) => this.sides[i].setAttribute("d", outline(side, (price) => (price - middle) / far, most)));
    this.mid.setAttribute("d", mid === null ? "" : `M0 0V${-ROOM}`);
    const totals = ticksOf(most);
    this.grid.setAttribute("d", totals.map((total) => `M-1 ${-total / most}H1`).join(""));
    const decimals = decimalsFor(middle);
    this.#label([
      ...totals.map((total) => ({ text: showVolume(total), style: `right: 4px; bottom: calc(24px + (100% - 24px) * ${total / most / ROOM})` })),
      { text: showPrice(middle - far, decimals), style: "left: 8px; bottom: 4px" },
      { text: showPrice(middle, decimals), style: "left: 50%; bottom: 4px; transform: translateX(-50%)" },
      { text: showPrice(middle + far, decimals), style: "right: 8px; bottom: 4px" },
    ]);
  }

  /** @param {{text: string, style: string}[]} wanted */
  #label(wanted) {
    while (this.labels.children.length > wanted.length) this.labels.lastElementChild?.remove();
    while (this.labels.children.length < wanted.length) this.labels.append(document.createElement("span"));
    wanted.forEach(({ text, style }, i) => {
      const label = /** @type {HTMLElement} */ (this.labels.children[i]);
      if (label.textContent !== text) label.textContent = text;
      if (label.dataset.style !== style) label.style.cssText = label.dataset.style = style;
    });
  }
}

/** @param {Level[]} side @param {(price: number) => number} place @param {number} most @returns {string} a path, closed along the axis */
function outline(side, place, most) {
  const { x, y } = stepsOf(side);
  if (x.length === 0) return "";
  const steps = x.slice(1).map((price, i) => `H${place(price)}V${-y[i + 1] / most}`);
  return `M${place(x[0])} 0${steps.join("")}V0Z`;
}
