/** The order book beside the chart: its depth against price, its best levels as a ladder, and how old it is. */

import { levelsOf, shortened, stepsOf } from "./depth.js";
import { decimalsFor, showAge, showPoints, showPrice, showVolume } from "./format.js";
import { byId, make } from "./readout.js";
import { stroke } from "./traces.js";

/** @typedef {import("./order-books.js").OrderBook} OrderBook */
/** @typedef {import("./depth.js").Level} Level */
/** @typedef {import("./theme.js").Theme} Theme */

const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: false, showTips: false, staticPlot: true };
const EVERY_MS = 200; // an update each 100 ms is more than anybody reads
const WORDS = {
  asking: "Waiting for the order book",
  none: "No order book of this symbol. Start their feed by klinestream up --with books, and name the symbol in books.symbols.",
  there: "",
};

export class DepthPanel {
  /** @param {import("./chart.js").Plotly | undefined} plotly */
  constructor(plotly) {
    this.plotly = plotly;
    this.element = byId("book");
    this.plot = byId("depth");
    this.rows = byId("ladder");
    this.drawnAt = -Infinity;
    this.dirty = true;
    new ResizeObserver(() => (this.dirty = true)).observe(this.plot);
  }

  /** @param {boolean} shown */
  show(shown) {
    this.element.hidden = !shown;
    this.dirty = true;
  }

  /**
   * Draw what is new; nothing is done while it is hidden.
   * @param {import("./order-books.js").OrderBooks} books
   * @param {{time: number, now: number, staleAfterMs: number, theme: Theme}} at `time` by the page's clock, `now` by the server's
   */
  draw(books, { time, now, staleAfterMs, theme }) {
    if (this.element.hidden) return;
    const { newest, state } = books;
    const age = newest === null ? null : now - newest.E;
    const stale = age !== null && age > staleAfterMs;
    this.element.dataset.state = newest === null ? "none" : stale ? "stale" : "fresh";
    write("book-age", age === null ? "–" : `${stale ? "stale, " : ""}${showAge(age)}`);
    write("book-note", newest ? "" : WORDS[state]);
    byId("book-note").hidden = newest !== null;
    byId("book-body").hidden = newest === null;
    if (!this.dirty || newest === null || time - this.drawnAt < EVERY_MS) return;
    this.dirty = false;
    this.drawnAt = time;
    const [bids, asks] = [levelsOf(newest.bids), levelsOf(newest.asks)];
    showFigures(newest);
    this.#ladder(bids, asks);
    this.#depth(bids, asks, newest, theme);
  }

  /** @param {Level[]} bids @param {Level[]} asks @param {OrderBook} book @param {Theme} theme */
  #depth(bids, asks, { mid }, theme) {
    const { clientWidth: width, clientHeight: height } = this.plot;
    const most = Math.max(0, ...[...bids, ...asks].map(({ total }) => total));
    const far = Math.max(0, ...[...bids, ...asks].map(({ price }) => Math.abs(price - (mid ?? price))));
    const side = (/** @type {Level[]} */ levels, /** @type {string} */ ink) => {
      const { x, y } = stepsOf(levels);
      return stroke(x, y, "y", { shape: "hv", width: 1.6, color: theme[ink] }, { fill: "tozeroy", fillcolor: theme[`${ink}-pale`] });
    };
    const axis = { gridcolor: theme.grid, zeroline: false, fixedrange: true, tickfont: { size: 11, color: theme.muted } };
    const middle = mid === null ? [] : [{ type: "line", layer: "below", xref: "x", yref: "paper", x0: mid, x1: mid, y0: 0, y1: 1, line: { color: theme["zone-line"], width: 1, dash: "4px,4px" } }];
    this.plotly?.react(this.plot, [side(bids, "up"), side(asks, "down")], {
      width, height, autosize: false, showlegend: false, hovermode: false, dragmode: false, shapes: middle,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: theme.font, color: theme.text }, margin: { l: 8, r: 42, t: 6, b: 24 },
      // The middle stays in the middle, so that it is the sides that are compared.
      xaxis: { ...axis, ...(mid === null ? {} : { range: [mid - far * 1.03, mid + far * 1.03] }), nticks: 4, tickformat: `,.${decimalsFor(mid ?? 1)}f` },
      yaxis: { ...axis, side: "right", range: [0, most * 1.08 || 1], nticks: 5, tickformat: most >= 1000 ? "" : "~g", exponentformat: "B" },
    }, CONFIG);
  }

  /** @param {Level[]} bids @param {Level[]} asks */
  #ladder(bids, asks) {
    const count = Math.max(bids.length, asks.length);
    while (this.rows.children.length > count) this.rows.lastElementChild?.remove();
    while (this.rows.children.length < count) this.rows.append(row());
    const most = Math.max(0, ...[...bids, ...asks].map(({ quantity }) => quantity)) || 1;
    [...this.rows.children].forEach((element, i) => {
      const [bidQuantity, bid, ask, askQuantity] = element.children;
      showSide(bidQuantity, bid, bids[i], most);
      showSide(askQuantity, ask, asks[i], most);
    });
  }
}

/** @returns {HTMLElement} */
function row() {
  const element = make("tr", "");
  element.append(make("td", "", "bid quantity"), make("td", "", "bid"), make("td", "", "ask"), make("td", "", "ask quantity"));
  return element;
}

/** @param {Element} quantity @param {Element} price @param {Level | undefined} level @param {number} most */
function showSide(quantity, price, level, most) {
  quantity.textContent = level ? showVolume(level.quantity) : "";
  price.textContent = level ? shortened(level.priceText, decimalsFor(level.price)) : "";
  /** @type {HTMLElement} */ (quantity).style.setProperty("--share", `${((level?.quantity ?? 0) / most) * 100}%`);
}

/** @param {OrderBook} book */
function showFigures({ spread, mid, microprice, imbalance_20: imbalance }) {
  const decimals = decimalsFor(mid ?? 1);
  write("book-spread", spread === null || mid === null ? "–" : `${showPrice(spread, Math.max(decimals, spread < 0.01 ? 8 : 2))} · ${showPoints(spread, mid)}`);
  write("book-micro", microprice === null ? "–" : showPrice(microprice, decimals));
  write("book-imbalance", imbalance === null ? "–" : `${imbalance < 0 ? "−" : "+"}${Math.abs(imbalance).toFixed(2)}`);
  byId("book-imbalance").dataset.direction = (imbalance ?? 0) > 0 ? "up" : (imbalance ?? 0) < 0 ? "down" : "flat";
}

/** @param {string} id @param {string} text */
function write(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}
