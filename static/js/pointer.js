/** The crosshair: where the reader points, in time. */

import { byId } from "./readout.js";
import { showTime } from "./format.js";

export class Pointer {
  /** @param {HTMLElement} area @param {() => void} moved */
  constructor(area, moved) {
    /** @type {?number} pixels from the area's left */
    this.x = null;
    const move = (/** @type {PointerEvent} */ event) => {
      this.x = event.clientX - area.getBoundingClientRect().left;
      moved();
    };
    const leave = () => {
      this.x = null;
      moved();
    };
    area.addEventListener("pointermove", move);
    area.addEventListener("pointerdown", move);
    area.addEventListener("pointerleave", leave);
    area.addEventListener("pointercancel", leave);
  }

  /**
   * @param {?{x: number, height: number, time: number}} place of the window pointed at; null for none
   */
  show(place) {
    const line = byId("crosshair");
    line.hidden = place === null;
    if (place === null) return;
    line.style.transform = `translateX(${place.x.toFixed(1)}px)`;
    line.style.height = `${place.height}px`;
    byId("crosshair-time").textContent = showTime(place.time);
  }
}
