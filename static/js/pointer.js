/** What the reader's pointer does: points at a moment, drags the time, zooms with wheel or two fingers. */

import { byId } from "./readout.js";

const DRAG_LEAST_PX = 4;
const WHEEL_LINE_PX = 16;
const WHEEL_ZOOM = 0.0016;
const PINCH_ZOOM = 0.012; // a trackpad's pinch comes as a wheel with Ctrl, in small steps

/**
 * @typedef {Object} Moves
 * @property {() => void} pointed
 * @property {(px: number) => void} dragged to the right
 * @property {(factor: number, x: number) => void} zoomed below 1 shows less; x stays where it is
 */

export class Pointer {
  /** @param {HTMLElement} area @param {Moves} moves */
  constructor(area, moves) {
    this.area = area;
    this.moves = moves;
    /** @type {?number} pixels from the area's left */
    this.x = null;
    /** @type {?number} pixels from the area's top */
    this.y = null;
    /** @type {Map<number, {x: number, from: number}>} pointers that are down */
    this.down = new Map();
    this.dragging = false;
    area.addEventListener("pointermove", (event) => this.#move(event));
    area.addEventListener("pointerdown", (event) => this.#press(event));
    for (const type of ["pointerup", "pointercancel"]) area.addEventListener(type, (event) => this.#release(/** @type {PointerEvent} */ (event)));
    area.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && !this.dragging && this.#point(null, null));
    area.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    // A finger's crosshair stays until something else is touched.
    addEventListener("pointerdown", (event) => area.contains(/** @type {Node} */ (event.target)) || this.#point(null, null));
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.button !== 0) return;
    const { x } = this.#place(event);
    this.down.set(event.pointerId, { x, from: x });
    if (event.pointerType === "mouse") this.#at(event);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const held = this.down.get(event.pointerId);
    if (!held) return this.#at(event);
    const { x } = this.#place(event);
    if (this.down.size > 1) this.#pinch(event.pointerId, x);
    else if (this.dragging || Math.abs(x - held.from) >= DRAG_LEAST_PX) this.#drag(event, x - held.x);
    else return;
    held.x = x;
  }

  /** @param {PointerEvent} event @param {number} px */
  #drag(event, px) {
    if (!this.dragging) this.area.setPointerCapture(event.pointerId);
    this.#dragging(true);
    if (event.pointerType === "mouse") this.#at(event);
    else this.#point(null, null);
    this.moves.dragged(px);
  }

  /** @param {number} id of the finger that moved @param {number} x where it is now */
  #pinch(id, x) {
    this.#dragging(true);
    const other = [...this.down].find(([each]) => each !== id)?.[1].x ?? x;
    const before = this.down.get(id)?.x ?? x;
    const factor = Math.max(20, Math.abs(before - other)) / Math.max(20, Math.abs(x - other));
    this.moves.zoomed(factor, (x + other) / 2);
    this.moves.dragged((x - before) / 2);
  }

  /** @param {PointerEvent} event */
  #release(event) {
    const tapped = this.down.delete(event.pointerId) && !this.dragging && event.type === "pointerup";
    if (tapped && event.pointerType !== "mouse") this.#at(event);
    if (this.down.size === 0) this.#dragging(false);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_LINE_PX : 1;
    const [dx, dy] = event.shiftKey && !event.deltaX ? [event.deltaY, 0] : [event.deltaX, event.deltaY];
    if (Math.abs(dx) > Math.abs(dy)) this.moves.dragged(-dx * unit);
    else this.moves.zoomed(Math.exp(dy * unit * (event.ctrlKey ? PINCH_ZOOM : WHEEL_ZOOM)), this.#place(event).x);
  }

  /** @param {MouseEvent} event */
  #at(event) {
    const { x, y } = this.#place(event);
    this.#point(x, y);
  }

  /** @param {?number} x @param {?number} y */
  #point(x, y) {
    if (this.x === x && this.y === y) return;
    this.x = x;
    this.y = y;
    this.moves.pointed();
  }

  /** @param {MouseEvent} event @returns {{x: number, y: number}} pixels in the area */
  #place(event) {
    const { left, top } = this.area.getBoundingClientRect();
    return { x: event.clientX - left - this.area.clientLeft, y: event.clientY - top - this.area.clientTop };
  }

  /** @param {boolean} dragging */
  #dragging(dragging) {
    this.dragging = dragging;
    this.area.dataset.dragging = String(dragging);
  }
}

/**
 * @param {?{x: number, height: number, time: string}} moment of what is pointed at; null for none
 * @param {?{y: number, width: number, price: string}} level that is pointed at
 */
export function showCrosshair(moment, level) {
  const line = byId("crosshair");
  line.hidden = moment === null;
  if (moment) {
    line.style.transform = `translateX(${moment.x.toFixed(1)}px)`;
    line.style.height = `${moment.height}px`;
    byId("crosshair-time").textContent = moment.time;
  }
  const across = byId("crosshair-level");
  across.hidden = level === null;
  if (level) {
    across.style.transform = `translateY(${level.y.toFixed(1)}px)`;
    across.style.width = `${level.width}px`;
    byId("crosshair-price").textContent = level.price;
  }
}
