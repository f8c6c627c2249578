/** The order book beside the chart: its depth against price, its best levels as a ladder, and how old it is. */

import { DepthPlot } from "./depth-plot.js";
import { levelsOf, shortened } from "./depth.js";
import { decimalsFor, showAge, showPoints, showPrice, showVolume } from "./format.js";
import { byId, make } from "./readout.js";

/** @typedef {import("./order-books.js").OrderBook} OrderBook */
/** @typedef {import("./depth.js").Level} Level */

const EVERY_MS = 200; // an update each 100 ms is more than anybody reads
const WORDS = {
  asking: "Waiting for the order book",
  none: "No order book of this symbol. Start their feed by klinestream up --with books, and name the symbol in books.symbols.",
  there: "",
};

export class DepthPanel {
  constructor() {
    this.element = byId("book");
    this.plot = new DepthPlot(byId("depth"));
    this.rows = byId("ladder");
    this.drawnAt = -Infinity;
    this.dirty = true;
  }

  /** @param {boolean} shown */
  show(shown) {
    this.element.hidden = !shown;
    this.dirty = true;
  }

  /**
   * Draw what is new; nothing is done while it is hidden.
   * @param {import("./order-books.js").OrderBooks} books
   * @param {{time: number, now: number, staleAfterMs: number}} at `time` by the page's clock, `now` by the server's
   */
  draw(books, { time, now, staleAfterMs }) {
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
    this.plot.draw(bids, asks, newest.mid);
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
  put(quantity, level ? showVolume(level.quantity) : "");
  put(price, level ? shortened(level.priceText, decimalsFor(level.price)) : "");
  const share = `${(((level?.quantity ?? 0) / most) * 100).toFixed(1)}%`;
  const { style } = /** @type {HTMLElement} */ (quantity);
  if (style.getPropertyValue("--share") !== share) style.setProperty("--share", share);
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
  put(byId(id), text);
}

/** @param {Element} element @param {string} text */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
