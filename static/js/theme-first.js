/**
 * Sets the theme that the reader chose, before the first paint: a module would run after it, and the page would flash.
 * What it sets, theme.js sets again when the choice changes.
 */
(() => {
  const light = document.getElementById("light");
  try {
    const chosen = localStorage.getItem("klinestream.theme");
    if (light && (chosen === "dark" || chosen === "light")) light.media = chosen === "light" ? "all" : "not all";
  } catch {
    // Storage may be forbidden: then the machine's theme holds.
  }
})();
