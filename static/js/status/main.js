/** Puts the status page together: what the server answers goes onto the screen. */

import { nextTheme, rememberedTheme, setTheme } from "../theme.js";
import { askAgainAndAgain } from "./asking.js";
import { figuresOf, sentenceOf } from "./details.js";
import { Diagram } from "./diagram.js";
import { byId, sync, syncFigures, write, make } from "./dom.js";
import { showSpan } from "./format.js";
import { edgesOf, nodesOf } from "./graph.js";
import { showPanels } from "./panels.js";
import { tilesOf, verdictOf } from "./verdict.js";

/** @typedef {import("./answer.js").Answer} Answer */

const TICK_MS = 1000;

const state = {
  answer: /** @type {?Answer} */ (null),
  heardAt: -Infinity,
  fault: "",
  open: /** @type {?string} */ (null),
};
const diagram = new Diagram((id) => toggle(id));

/** @param {Answer} answer */
function heard(answer) {
  Object.assign(state, { answer, heardAt: performance.now(), fault: "" });
  draw();
}

/** @param {string} reason */
function failed(reason) {
  state.fault = reason;
  showReached();
}

function draw() {
  const answer = state.answer;
  if (!answer) return;
  const nodes = nodesOf(answer);
  diagram.draw(nodes, edgesOf(answer, nodes), state.open);
  showVerdict(answer);
  showDetail(nodes.find((node) => node.id === state.open));
  showPanels(answer);
  showReached();
}

/** @param {Answer} answer */
function showVerdict(answer) {
  const verdict = verdictOf(answer);
  byId("verdict-box").dataset.state = verdict.state;
  write(byId("verdict"), verdict.title);
  write(byId("verdict-text"), verdict.text);
  sync(byId("tiles"), tilesOf(answer), (tile) => tile.name, () => make("div", {}, make("dt"), make("dd")), (element, tile) => {
    element.dataset.state = tile.state;
    write(element.children[0], tile.name);
    write(element.children[1], tile.value);
  });
}

/** @param {import("./graph.js").Node | undefined} node */
function showDetail(node) {
  const panel = byId("detail");
  panel.hidden = !node;
  if (!node) return;
  write(byId("detail-name"), node.title);
  write(byId("detail-text"), node.part ? sentenceOf(node.part) : node.reason);
  syncFigures(byId("detail-figures"), node.part ? figuresOf(node.part) : []);
}

/** @param {string} id */
function toggle(id) {
  state.open = state.open === id ? null : id;
  draw();
}

function close() {
  const id = state.open;
  if (!id) return;
  toggle(id);
  document.querySelector(`[data-key="${id}"] button`)?.focus();
}

/** How old what is shown is, and whether the server can be reached. */
function showReached() {
  const badge = byId("looked");
  const age = (performance.now() - state.heardAt) / 1000;
  const reached = state.fault ? "lost" : state.answer ? "live" : "waiting";
  byId("main").dataset.reached = reached;
  badge.dataset.state = reached;
  if (reached === "lost") {
    write(byId("looked-text"), state.answer ? `${showSpan(age)} old` : "No answer");
    byId("verdict-box").dataset.state = "away";
    write(byId("verdict"), "The server can’t be reached");
    write(byId("verdict-text"), `It is tried again every 2 seconds: ${state.fault}.`);
  } else if (reached === "live") write(byId("looked-text"), age < 4 ? "Live" : `${showSpan(age)} old`);
}

let theme = rememberedTheme();
const THEMES = { auto: "Theme: as the system has it", dark: "Theme: dark", light: "Theme: light" };

function showTheme() {
  byId("theme").setAttribute("aria-label", THEMES[theme]);
  byId("theme").title = THEMES[theme];
}

byId("theme").addEventListener("click", () => {
  theme = nextTheme(theme);
  setTheme(theme);
  showTheme();
});
byId("detail-close").addEventListener("click", close);
addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
});
showTheme();
setInterval(showReached, TICK_MS);
askAgainAndAgain(heard, failed);
