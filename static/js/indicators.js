/** The panel that chooses what is drawn beside the price: overlays, panes, signals. */

import { Panel } from "./panel.js";
import { byId } from "./readout.js";

const OF_WINDOWS = ["volume", "rsi", "book"]; // all that windows have
const OF_WINDOWS_ALONE = ["book"]; // the server holds minutes of it

export class Indicators {
  /** @param {import("./state.js").Choices} choices */
  constructor(choices) {
    this.choices = choices;
    this.panel = new Panel("indicators");
    /** @type {HTMLInputElement[]} */
    this.boxes = [...this.panel.element.querySelectorAll("input")];
    this.panel.element.addEventListener("change", (event) => this.#chosen(/** @type {HTMLInputElement} */ (event.target)));
    choices.onChange(() => this.#show());
    this.#show();
  }

  /** @param {HTMLInputElement} box */
  #chosen(box) {
    const { show, pane } = box.dataset;
    if (show) this.choices.change({ show: withOrWithout(this.choices.show, show, box.checked) });
    else if (pane) this.choices.change({ panes: withOrWithout(this.choices.panes, pane, box.checked) });
    else if (box.dataset.beside) this.choices.change({ depth: box.checked });
    else this.choices.change({ signals: box.checked });
  }

  #show() {
    const { show, panes, signals, depth, interval } = this.choices;
    for (const box of this.boxes) {
      const of = box.dataset;
      box.checked = of.show ? show.has(of.show) : of.pane ? panes.has(of.pane) : of.beside ? depth : signals;
      const others = interval === "windows" ? !OF_WINDOWS.includes(of.pane ?? "") : OF_WINDOWS_ALONE.includes(of.pane ?? "");
      box.disabled = others && !of.beside;
    }
    byId("indicators-note").hidden = interval !== "windows";
    byId("indicators-count").textContent = String(this.boxes.filter((box) => box.checked && !box.disabled).length);
  }
}

/** @param {Set<string>} names @param {string} name @param {boolean} wanted @returns {Set<string>} */
function withOrWithout(names, name, wanted) {
  const others = [...names].filter((held) => held !== name);
  return new Set(wanted ? [...others, name] : others);
}
