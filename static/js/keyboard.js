/** Keys for what the toolbar does, and more. */

import { INTERVALS } from "./link.js";

/**
 * @typedef {"back" | "forward" | "farBack" | "farForward" | "nearer" | "wider" | "oldest" | "live" | "pause" | "replay" | "theme" | "export" | "help" | "escape"} Name
 * @typedef {{name: Name | "interval" | "search", of?: string}} Command `of` is the interval, or what the search begins with
 */

/** @type {Object<string, Name>} */
const NAMES = {
  ArrowLeft: "back", ArrowRight: "forward", "+": "nearer", "=": "nearer", "-": "wider", "_": "wider", Home: "oldest", End: "live", " ": "pause",
  r: "replay", t: "theme", e: "export", "?": "help", Escape: "escape",
};
const REPEATED = new Set(["back", "forward", "farBack", "farForward", "nearer", "wider"]);
const OF_A_LIST = new Set(["ArrowLeft", "ArrowRight", "Home", "End", "+", "-", "=", "_", " "]); // within an open panel or a slider

/**
 * What a key means. Pure.
 * @param {{key: string, shiftKey?: boolean}} event
 * @returns {?Command}
 */
export function commandOf({ key, shiftKey = false }) {
  if (shiftKey && key === "ArrowLeft") return { name: "farBack" };
  if (shiftKey && key === "ArrowRight") return { name: "farForward" };
  const name = NAMES[key.length === 1 ? key.toLowerCase() : key];
  if (name) return { name };
  if (/^[1-8]$/.test(key)) return { name: "interval", of: INTERVALS[Number(key) - 1] };
  if (key === "/") return { name: "search", of: "" };
  if (/^[a-z]$/i.test(key)) return { name: "search", of: key.toUpperCase() };
  return null;
}

/** @type {?Element} a button that was clicked keeps the focus, but its reader thinks of the chart */
let clicked = null;

/** @param {(command: Command) => void} run */
export function listen(run) {
  document.addEventListener("pointerdown", ({ target }) => (clicked = target instanceof Element ? target.closest("button, input") : null));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Tab") clicked = null;
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing || taken(event)) return;
    const command = commandOf(event);
    if (!command || (event.repeat && !REPEATED.has(command.name))) return;
    // Escape closes panels too, by the browser itself.
    if (command.name !== "escape") event.preventDefault();
    run(command);
  });
}

/** @param {KeyboardEvent} event @returns {boolean} whether what has the focus needs the key itself */
function taken({ key, target }) {
  if (document.querySelector("dialog[open]")) return true;
  const panel = document.querySelector(":popover-open");
  if (panel && (OF_A_LIST.has(key) || key === "Escape")) return true;
  // What a dialog that has just closed held keeps the focus until the next frame.
  if (!(target instanceof Element) || !target.checkVisibility()) return false;
  if (target.matches("input[type=range]")) return OF_A_LIST.has(key) && key !== " ";
  if (target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")) return true;
  return key === " " && target !== clicked && target.matches("button, input");
}
