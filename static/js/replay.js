/** The replay's bar: plays, steps and scrubs through what is known. */

import { LENGTH_MS } from "./intervals.js";
import { byId, make } from "./readout.js";
import { ReplayClock, speedsFor, usualSpeed } from "./replay-clock.js";
import { say } from "./said.js";

const SECOND_MS = 1000;
const BEGIN_SHARE = 0.75; // from live: so much of the known data is there at the beginning, enough to see what led up to it

/**
 * @typedef {Object} Actions
 * @property {(time: ?number) => void} replayTo
 * @property {() => ?import("./replay-clock.js").Range} range
 */

export class Replay {
  /** @param {import("./state.js").Choices} choices @param {Actions} actions */
  constructor(choices, actions) {
    this.choices = choices;
    this.actions = actions;
    /** @type {?ReplayClock} null while nothing is replayed */
    this.clock = null;
    this.bar = byId("replay");
    this.opener = byId("replay-open");
    this.player = byId("replay-play");
    this.place = /** @type {HTMLInputElement} */ (byId("replay-place"));
    /** @type {(() => void)[]} */
    this.listeners = [];
    this.opener.addEventListener("click", () => this.toggle());
    this.player.addEventListener("click", () => this.playOrPause());
    byId("replay-step").addEventListener("click", () => this.step());
    byId("replay-close").addEventListener("click", () => this.close());
    this.place.addEventListener("input", () => this.#seek(Number(this.place.value)));
    byId("replay-speeds").addEventListener("click", (event) => this.#speed(/** @type {HTMLElement} */ (event.target).dataset.speed));
    choices.onChange((changed) => this.#follow(changed));
  }

  /** @returns {boolean} */
  get active() {
    return this.clock !== null;
  }

  /** @param {() => void} changed called when a replay begins or ends */
  onChange(changed) {
    this.listeners.push(changed);
  }

  /** Begin a replay, or end it. */
  toggle() {
    if (this.active) this.close();
    else this.#begin();
  }

  /** End it: the chart is live again. */
  close() {
    if (!this.clock) return;
    this.clock = null;
    this.actions.replayTo(null);
    this.#turned();
  }

  /** Let it run, from the beginning if it has come to its end; or hold it. */
  playOrPause() {
    const clock = this.clock;
    if (!clock) return;
    if (clock.playing) clock.pause();
    else {
      if (clock.done) clock.seek(clock.range.from + BEGIN_SHARE * (clock.range.to - clock.range.from));
      clock.play(performance.now());
      requestAnimationFrame((at) => this.#frame(at, clock));
    }
    this.#show();
  }

  /** Show one candle more, or one second. */
  step() {
    if (!this.clock) return;
    this.clock.pause();
    this.#within(this.clock);
    this.clock.step(this.#stepMs());
    this.#show();
  }

  #begin() {
    const range = this.actions.range();
    if (!range || range.to - range.from < this.#stepMs()) {
      say("There is nothing to replay yet");
      return;
    }
    const { at } = this.choices;
    const usual = range.from + BEGIN_SHARE * (range.to - range.from);
    const step = this.#stepMs();
    this.clock = new ReplayClock(range, Math.floor((at !== null && at < range.to ? at : usual) / step) * step);
    this.#makeSpeeds();
    this.#turned();
    this.#show();
    this.player.focus();
  }

  /** @param {number} time */
  #seek(time) {
    if (!this.clock) return;
    this.#within(this.clock);
    this.clock.seek(time);
    this.#show();
  }

  /** @param {string} [chosen] */
  #speed(chosen) {
    if (!chosen || !this.clock) return;
    this.clock.speed = Number(chosen);
    for (const button of byId("replay-speeds").children) button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.speed === chosen));
  }

  /** @param {number} at @param {ReplayClock} clock an ended replay's frame may still come */
  #frame(at, clock) {
    if (clock !== this.clock || !clock.playing) return;
    this.#within(clock);
    clock.tick(at);
    this.#show();
    if (clock.playing) requestAnimationFrame((next) => this.#frame(next, clock));
    else say("The replay has come to the newest data");
  }

  /** @param {ReplayClock} clock older data may have been fetched, newer may have come */
  #within(clock) {
    clock.within(this.actions.range() ?? clock.range);
  }

  /** @param {Set<string>} changed another candle length shows the same moment; another symbol or kind of data is another story */
  #follow(changed) {
    if (!this.clock) return;
    if (changed.has("symbol") || (changed.has("interval") && this.choices.interval === "windows")) this.close();
    else if (changed.has("interval")) {
      this.#makeSpeeds();
      this.#show();
    }
  }

  #makeSpeeds() {
    const length = LENGTH_MS[this.choices.interval] ?? null;
    byId("replay-speeds").replaceChildren(...speedsFor(length).map((speed) => speedButton(speed)));
    this.#speed(String(usualSpeed(length)));
  }

  #show() {
    if (!this.clock) return;
    const { time, range, playing } = this.clock;
    this.actions.replayTo(time);
    this.player.dataset.state = playing ? "playing" : "paused";
    this.player.setAttribute("aria-label", playing ? "Pause" : "Play");
    const text = `${new Date(time).toISOString().slice(0, 19).replace("T", " ")}`;
    const step = this.#stepMs();
    // Steps are counted from the least value: it has to lie on one.
    this.place.min = String(Math.floor(range.from / step) * step);
    this.place.max = String(Math.ceil(range.to / step) * step);
    this.place.step = String(step);
    this.place.value = String(time);
    if (byId("replay-time").textContent === text) return;
    byId("replay-time").textContent = text;
    this.place.setAttribute("aria-valuetext", `${text} UTC`);
  }

  #turned() {
    this.bar.hidden = !this.active;
    this.opener.setAttribute("aria-pressed", String(this.active));
    for (const changed of this.listeners) changed();
  }

  /** @returns {number} */
  #stepMs() {
    return LENGTH_MS[this.choices.interval] ?? SECOND_MS;
  }
}

/** @param {number} speed */
function speedButton(speed) {
  const button = /** @type {HTMLButtonElement} */ (make("button", `${speed.toLocaleString("en-US")}×`));
  button.type = "button";
  button.dataset.speed = String(speed);
  button.setAttribute("aria-pressed", "false");
  return button;
}
