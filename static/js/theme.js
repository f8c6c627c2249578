/** The page's colours, from its style sheet, for what is drawn by plotly.js. */

const NAMES = ["surface", "grid", "edge", "text", "muted", "accent", "accent-soft", "average", "up", "down", "up-soft", "down-soft", "rsi", "zone",
  "zone-high", "zone-low", "zone-line", "gap", "stale", "warming", "font", "up-pale", "down-pale", "sma-1", "sma-2", "ema-1", "ema-2", "vwap-1", "vwap-2",
  "bollinger", "bollinger-soft", "gap-open", "gap-lost", "gap-refilled", "gap-repaired", "warn"];

/** @typedef {Object<string, string>} Theme */

/** @returns {Theme} */
export function readTheme() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** @typedef {"auto" | "dark" | "light"} Choice */

const KEY = "klinestream.theme"; // theme-first.js reads it too
const MEDIA = { auto: "(prefers-color-scheme: light)", dark: "not all", light: "all" };

const machine = matchMedia(MEDIA.auto);
const sheet = /** @type {?HTMLLinkElement} */ (document.getElementById("light"));
/** @type {(() => void)[]} */
const listeners = [];
const tell = () => listeners.forEach((changed) => changed());
machine.addEventListener("change", tell);
sheet?.addEventListener("load", tell); // a sheet that wasn't needed so far may come late

/** @returns {Choice} */
export function rememberedTheme() {
  try {
    const chosen = localStorage.getItem(KEY);
    return chosen === "dark" || chosen === "light" ? chosen : "auto";
  } catch {
    return "auto"; // storage may be forbidden
  }
}

/** Show a theme, and remember it. @param {Choice} choice */
export function setTheme(choice) {
  if (sheet) sheet.media = MEDIA[choice];
  try {
    if (choice === "auto") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, choice);
  } catch {
    // It holds for this page then.
  }
  tell();
}

/**
 * The next one when the reader goes through them all: each step can be seen, so the first leads away from the machine's own.
 * @param {Choice} choice
 * @param {boolean} [machineIsLight]
 * @returns {Choice}
 */
export function nextTheme(choice, machineIsLight = machine.matches) {
  const [own, other] = machineIsLight ? /** @type {const} */ (["light", "dark"]) : /** @type {const} */ (["dark", "light"]);
  if (choice === "auto") return other;
  return choice === other ? own : "auto";
}

/** @param {() => void} changed called when the colours change: the machine turns from dark to light or back, or the reader chooses */
export function onThemeChange(changed) {
  listeners.push(changed);
}
