/** A short word about what has just been done, which goes away by itself. */

const SHOWN_MS = 2600;

let timer = 0;

/** @param {string} text */
export function say(text) {
  const element = /** @type {HTMLElement} */ (document.getElementById("said"));
  element.textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => (element.textContent = ""), SHOWN_MS);
}
