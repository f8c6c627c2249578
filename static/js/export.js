/** What is shown, to take away: as an image, a table or a link. */

import { csvOf } from "./csv.js";
import { splitSymbol } from "./format.js";
import { Panel, closePanels } from "./panel.js";
import { pictureOf } from "./picture.js";
import { byId } from "./readout.js";
import { say } from "./said.js";

/**
 * @typedef {Object} Shown
 * @property {HTMLElement} plot what plotly.js draws into
 * @property {() => import("./csv.js").Table} rows
 */

export class Export {
  /** @param {import("./state.js").Choices} choices @param {Shown} shown */
  constructor(choices, shown) {
    this.choices = choices;
    this.shown = shown;
    this.panel = new Panel("export");
    const does = (/** @type {string} */ id, /** @type {() => Promise<string>} */ act) => byId(id).addEventListener("click", () => this.#do(act));
    does("export-png", () => this.#image());
    does("export-csv", async () => this.#table());
    does("export-link", () => this.#link());
  }

  /** @param {() => Promise<string>} act gives what to say of it */
  async #do(act) {
    closePanels();
    say(await act().catch((/** @type {Error} */ error) => `That failed: ${error.message}`));
  }

  async #image() {
    const { symbol, interval } = this.choices;
    const { base, quote } = splitSymbol(symbol);
    const name = quote ? `${base} / ${quote}` : base;
    const title = `${name}  ·  ${interval}`;
    const note = `${stamp().slice(0, 16).replace("T", " ")} UTC  ·  klinestream`;
    const image = await pictureOf({ chart: byId("chart"), plot: this.shown.plot, title, note });
    save(image, `${symbol}-${interval}`, "png");
    return "Image saved";
  }

  #table() {
    const table = this.shown.rows();
    if (table.rows.length === 0) return "There is nothing to save yet";
    save(new Blob([csvOf(table)], { type: "text/csv" }), table.name, "csv");
    return `Table of ${table.rows.length} rows saved`;
  }

  async #link() {
    const link = new URL(this.choices.link(), location.href).href;
    if (!navigator.clipboard) return "Copy the link from the address bar: this page has no right to"; // only over https, or on this machine
    await navigator.clipboard.writeText(link);
    return "Link copied";
  }
}

/** @returns {string} */
function stamp() {
  return new Date().toISOString();
}

/** @param {Blob} blob @param {string} name @param {string} ending */
function save(blob, name, ending) {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(blob);
  anchor.download = `${name}-${stamp().slice(0, 19).replaceAll(/[-:]/g, "")}.${ending}`;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000); // the download has begun by then
}
