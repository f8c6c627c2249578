/** The row of tools, and all that it opens: puts the controls together. */

import { Chooser } from "./chooser.js";
import { Export } from "./export.js";
import { Indicators } from "./indicators.js";
import { listen } from "./keyboard.js";
import { Panel, closePanels } from "./panel.js";
import { byId } from "./readout.js";
import { Replay } from "./replay.js";
import { say } from "./said.js";
import { nextTheme, setTheme } from "./theme.js";

/** @typedef {import("./state.js").Choices} Choices */

/**
 * What the chart can be told to do, and asked.
 * @typedef {Object} Actions
 * @property {(share: number) => void} pan by a share of what is shown, to later times; -Infinity to the oldest
 * @property {(factor: number) => void} zoom below 1 shows less time
 * @property {() => void} goLive
 * @property {() => void} togglePause from live to paused, and from anywhere else to live
 * @property {(time: ?number) => void} replayTo shows what was known at a time; null ends it
 * @property {() => import("./csv.js").Table} rows what is shown
 * @property {() => ?{from: number, to: number}} range what is known
 * @property {HTMLElement} plot
 */

const PAN_SHARE = 0.1;
const PAN_FAR_SHARE = 0.5;
const ZOOM_FACTOR = 0.8;
const TERMS = { windows: "Sliding windows of closed one-second klines", candles: "Closed candles, and the one in progress" };
const THEME_TEXT = { auto: "Theme: as the machine has it", dark: "Theme: dark", light: "Theme: light" };

/** @param {Choices} choices @param {Actions} actions */
export function mountControls(choices, actions) {
  const chooser = new Chooser((symbol) => choices.change({ symbol }));
  const replay = new Replay(choices, actions);
  const exporting = new Export(choices, actions);
  new Panel("more");
  new Indicators(choices);
  const help = mountHelp();
  mountIntervals(choices);
  mountLive(choices, actions, replay);
  const theme = mountTheme(choices);
  const follow = () => (chooser.current = choices.symbol);
  choices.onChange(follow);
  follow();
  replay.onChange(closePanels);
  const commands = commandsOf({ actions, replay, exporting, theme, help });
  listen(({ name, of }) => {
    if (name === "interval") choices.change({ interval: of });
    else if (name === "search") chooser.open(of);
    else commands[name]();
  });
}

/**
 * What each key's command does.
 * @param {{actions: Actions, replay: Replay, exporting: Export, theme: () => void, help: () => void}} does
 * @returns {Object<import("./keyboard.js").Name, () => void>}
 */
function commandsOf({ actions, replay, exporting, theme, help }) {
  return {
    back: () => actions.pan(-PAN_SHARE),
    forward: () => actions.pan(PAN_SHARE),
    farBack: () => actions.pan(-PAN_FAR_SHARE),
    farForward: () => actions.pan(PAN_FAR_SHARE),
    nearer: () => actions.zoom(ZOOM_FACTOR),
    wider: () => actions.zoom(1 / ZOOM_FACTOR),
    oldest: () => actions.pan(-Infinity),
    live: () => goLive(actions, replay),
    pause: () => (replay.active ? replay.playOrPause() : actions.togglePause()),
    replay: () => replay.toggle(),
    theme,
    export: () => exporting.panel.toggle(),
    help,
    escape: () => replay.close(),
  };
}

/** @param {Choices} choices */
function mountIntervals(choices) {
  const group = byId("intervals");
  const buttons = /** @type {HTMLElement[]} */ ([...group.children]);
  const show = () => {
    for (const button of buttons) {
      const chosen = button.dataset.interval === choices.interval;
      button.setAttribute("aria-pressed", String(chosen));
      // On a narrow screen the row scrolls; the page itself must not.
      if (chosen) group.scrollLeft = button.offsetLeft - group.offsetLeft - (group.clientWidth - button.offsetWidth) / 2;
    }
    byId("terms").textContent = choices.interval === "windows" ? TERMS.windows : TERMS.candles;
  };
  group.addEventListener("click", ({ target }) => {
    const { interval } = /** @type {HTMLElement} */ (target).dataset;
    if (interval) choices.change({ interval });
  });
  choices.onChange((changed) => changed.has("interval") && show());
  show();
}

/** @param {Choices} choices @param {Actions} actions @param {Replay} replay */
function mountLive(choices, actions, replay) {
  const button = byId("live");
  const show = () => {
    const away = choices.at !== null || replay.active;
    button.dataset.state = away ? "away" : "live";
    button.title = away ? "Back to the newest data (End)" : "Hold what is shown (Space)";
    byId("live-text").textContent = away ? "Go live" : "Pause";
  };
  button.addEventListener("click", () => (button.dataset.state === "away" ? goLive(actions, replay) : actions.togglePause()));
  choices.onChange((changed) => changed.has("at") && show());
  replay.onChange(show);
  show();
}

/** @param {Actions} actions @param {Replay} replay */
function goLive(actions, replay) {
  replay.close();
  actions.goLive();
}

/** @param {Choices} choices @returns {() => void} shows the next theme */
function mountTheme(choices) {
  const show = () => (byId("theme-text").textContent = THEME_TEXT[choices.theme]);
  const next = () => {
    choices.change({ theme: nextTheme(choices.theme) });
    setTheme(choices.theme);
    say(THEME_TEXT[choices.theme]);
    show();
  };
  byId("theme").addEventListener("click", next);
  show();
  return next;
}

/** @returns {() => void} opens the help */
function mountHelp() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("help"));
  const open = () => {
    closePanels();
    dialog.showModal();
  };
  byId("help-open").addEventListener("click", open);
  byId("help-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  return open;
}
