/** Runs of workflows and their steps: where each is, how long it took, and why it failed. */

import { byId, make, sync, write } from "./dom.js";
import { showAgo, showSpan, showTime } from "./format.js";

/** @typedef {import("./answer.js").Answer} Answer */
/** @typedef {import("./answer.js").Reached} Reached */
/** @typedef {import("./answer.js").WorkflowRun} WorkflowRun */
/** @typedef {import("./answer.js").WorkflowStep} WorkflowStep */

/** A state of a run or step, as the page colours and shapes states. */
const LOOKS = { waiting: "unknown", running: "restarting", done: "running", kept: "running", failed: "away", stopped: "troubled", replaced: "unknown" };

/** @param {Answer} answer */
export function showWorkflows(answer) {
  const runs = answer.workflows ?? [];
  byId("workflows-note").hidden = runs.length > 0;
  sync(byId("workflows"), runs, (run) => `${run.workflow} ${run.run}`, entry, (element, run) => showRun(element, run, answer.server_time));
}

/** @returns {HTMLElement} */
const entry = () => make("li", {}, make("h3", {}, make("span"), state(), make("time")), make("p"), make("ol", { class: "steps" }));

/** @returns {HTMLElement} a state as a shape and a word */
const state = () => make("span", { class: "state" }, make("i", { "aria-hidden": "true" }), make("span"));

/** @param {HTMLElement} element @param {WorkflowRun} run @param {number} now */
function showRun(element, run, now) {
  const [head, why, steps] = element.children;
  // Not on the whole entry: its steps have states, and shapes, of their own.
  /** @type {HTMLElement} */ (head).dataset.state = LOOKS[run.state];
  const [name, where, when] = head.children;
  write(name, `${run.workflow} · ${run.run}`);
  write(where.children[1], run.state);
  write(when, run.ended ? `${showAgo(run.ended, now)}, took ${span(run.started, run.ended)}` : `began ${showAgo(run.started, now)}, last heard of ${showAgo(run.told, now)}`);
  when.setAttribute("datetime", new Date(run.ended ?? run.started).toISOString());
  when.setAttribute("title", `began ${showTime(run.started)} UTC`);
  write(why, run.text);
  steps.setAttribute("aria-label", `Steps of ${run.workflow} ${run.run}`);
  sync(steps, run.steps, (step) => step.name, () => make("li", {}, make("b"), state(), make("small")), (item, step) => showStep(/** @type {HTMLElement} */ (item), step, now));
}

/** @param {HTMLElement} item @param {WorkflowStep} step @param {number} now */
function showStep(item, step, now) {
  item.dataset.state = LOOKS[step.state];
  const [name, where, more] = item.children;
  write(name, step.name);
  write(where.children[1], step.state);
  const took = step.started === null ? "" : span(step.started, step.ended ?? now);
  const attempt = step.attempt > 1 ? `attempt ${step.attempt}` : "";
  const why = step.state === "failed" || (step.state === "waiting" && step.text) ? step.text : "";
  write(more, [took, attempt, why].filter(Boolean).join(" · "));
}

/** @param {number} from @param {number} to @returns {string} */
const span = (from, to) => showSpan(Math.max(0, to - from) / 1000);
