/** The page's colours, from its style sheet, for what is drawn by plotly.js. */

const NAMES = ["surface", "grid", "edge", "text", "muted", "accent", "accent-soft", "average", "up", "down", "up-soft", "down-soft", "rsi", "zone",
  "zone-high", "zone-low", "zone-line", "gap", "stale", "warming", "font"];

/** @typedef {Object<string, string>} Theme */

/** @returns {Theme} */
export function readTheme() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** @param {() => void} changed called when the reader's machine turns from dark to light or back */
export function onThemeChange(changed) {
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", changed);
}
