/** Signals: drawn as triangles, and named when pointed at or focused. */

import { showMoment } from "./format.js";
import { byId, make } from "./readout.js";

/** @typedef {import("./candles.js").Signal} Signal */
/** @typedef {import("./candles.js").Candle} Candle */
/** @typedef {import("./theme.js").Theme} Theme */

const DISTANCE_PX = 13;
const NAMED_MOST = 60; // each is a stop of the Tab key

/** @typedef {{signal: Signal, x: number, y: number}} Mark */

/**
 * Where the signals of some candles stand: buys below, sells above; a second one at the same place further out. Pure.
 * @param {Signal[]} signals
 * @param {Candle[]} candles
 * @param {number} lengthMs
 * @param {number} pricePerPx
 * @returns {Mark[]}
 */
export function placeSignals(signals, candles, lengthMs, pricePerPx) {
  const byTime = new Map(candles.map((candle) => [candle.t, candle]));
  /** @type {Map<string, number>} */
  const taken = new Map();
  return signals.map((signal) => {
    const place = `${signal.t}${signal.side}`;
    const nth = (taken.get(place) ?? 0) + 1;
    taken.set(place, nth);
    const candle = byTime.get(signal.t);
    const buys = signal.side === "buy";
    const edge = (buys ? candle?.low : candle?.high) ?? signal.price;
    return { signal, x: signal.t + lengthMs / 2, y: edge + (buys ? -1 : 1) * nth * DISTANCE_PX * pricePerPx };
  });
}

/**
 * @param {Mark[]} marks
 * @param {Theme} theme
 * @returns {Object[]}
 */
export function signalTraces(marks, theme) {
  const ink = (/** @type {Signal} */ { state, side }) => (state === "withdrawn" ? theme.muted : side === "buy" ? theme.up : theme.down);
  const symbol = (/** @type {Signal} */ { state, side }) => `triangle-${side === "buy" ? "up" : "down"}${state === "withdrawn" ? "-open" : ""}`;
  return [{
    type: "scatter", mode: "markers", yaxis: "y", hoverinfo: "skip", cliponaxis: true, name: "signals",
    x: marks.map(({ x }) => x), y: marks.map(({ y }) => y),
    marker: {
      size: 11, symbol: marks.map(({ signal }) => symbol(signal)), color: marks.map(({ signal }) => ink(signal)), line: { width: 1.2, color: theme.surface },
    },
  }];
}

/** @param {Signal} signal @returns {{title: string, text: string, time: string}} */
export function wordsOf(signal) {
  const side = signal.side === "buy" ? "Buy" : "Sell";
  return { title: signal.state === "withdrawn" ? `${side}, withdrawn` : side, text: signal.reason, time: `${showMoment(signal.T + 1)} UTC` };
}

/** Buttons that lie over the triangles, so that pointer, finger and keyboard reach each signal's reason. */
export class SignalButtons {
  constructor() {
    this.layer = byId("signals");
    this.note = byId("signal-note");
    /** @type {Map<string, HTMLElement>} */
    this.buttons = new Map();
    for (const type of ["pointerover", "focusin", "click"]) {
      this.layer.addEventListener(type, (event) => this.#tell(/** @type {HTMLElement} */ (event.target)));
    }
    for (const type of ["pointerout", "focusout"]) this.layer.addEventListener(type, () => (this.note.hidden = true));
    this.layer.addEventListener("keydown", (event) => event.key === "Escape" && (this.note.hidden = true));
  }

  /**
   * @param {(Mark & {left: number, top: number})[]} marks in view, with their places in pixels
   */
  show(marks) {
    const wanted = new Map(marks.slice(-NAMED_MOST).map((mark) => [mark.signal.id, mark]));
    for (const [id, button] of this.buttons) if (!wanted.has(id)) this.#drop(id, button);
    for (const [id, mark] of wanted) this.#put(this.buttons.get(id) ?? this.#add(id), mark);
  }

  /** @param {string} id */
  #add(id) {
    const button = make("button", "", "signal");
    button.setAttribute("type", "button");
    this.buttons.set(id, button);
    this.layer.append(button);
    return button;
  }

  /** @param {string} id @param {HTMLElement} button */
  #drop(id, button) {
    if (button.contains(document.activeElement)) this.note.hidden = true;
    button.remove();
    this.buttons.delete(id);
  }

  /** @param {HTMLElement} button @param {Mark & {left: number, top: number}} mark */
  #put(button, { signal, left, top }) {
    const { title, text, time } = wordsOf(signal);
    button.style.left = `${left.toFixed(1)}px`;
    button.style.top = `${top.toFixed(1)}px`;
    button.dataset.side = signal.state === "withdrawn" ? "none" : signal.side;
    button.dataset.title = title;
    button.dataset.text = text;
    button.dataset.time = time;
    button.setAttribute("aria-label", `${title}: ${text}, ${time}`);
  }

  /** @param {HTMLElement} target */
  #tell(target) {
    const { title, text, time, side } = target.dataset;
    if (!title) return;
    this.note.replaceChildren(make("strong", title), make("span", text ?? ""), make("small", time ?? ""));
    this.note.dataset.side = side;
    this.note.hidden = false;
    const area = this.layer.getBoundingClientRect();
    const chart = /** @type {HTMLElement} */ (this.layer.parentElement).getBoundingClientRect();
    const place = target.getBoundingClientRect();
    const half = this.note.offsetWidth / 2 + 8;
    const middle = place.left + place.width / 2 - chart.left;
    this.note.style.left = `${Math.min(chart.width - half, Math.max(half, middle))}px`;
    const above = place.top - chart.top - this.note.offsetHeight - 6;
    this.note.style.top = `${above > area.top - chart.top ? above : place.bottom - chart.top + 6}px`;
  }
}
