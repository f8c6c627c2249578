/** Draws the pipeline: a card for each node, and lines between them that move while records flow. */

import { byId, make, sync, syncFigures, write } from "./dom.js";
import { pathAround, pathBetween } from "./ways.js";

/** @typedef {import("./graph.js").Node} Node */
/** @typedef {import("./graph.js").Edge} Edge */
/** @typedef {import("./ways.js").Box} Box */

const SVG = "http://www.w3.org/2000/svg";
const AROUND = new Set(["producer history", "history candles"]);

export class Diagram {
  /** @param {(id: string) => void} chosen called with the node that the reader wants to know more of */
  constructor(chosen) {
    this.chosen = chosen;
    this.list = byId("nodes");
    this.lines = byId("ways");
    /** @type {Edge[]} */
    this.edges = [];
    new ResizeObserver(() => this.connect()).observe(this.list);
  }

  /** @param {Node[]} nodes @param {Edge[]} edges @param {?string} open the node whose details are shown */
  draw(nodes, edges, open) {
    sync(this.list, nodes, (node) => node.id, () => this.card(), (element, node) => showCard(element, node, node.id === open));
    this.edges = edges;
    this.connect();
  }

  /** @returns {HTMLElement} */
  card() {
    const button = make("button", { type: "button", "aria-controls": "detail" }, make("b"), make("span", { class: "state" }, make("i", { "aria-hidden": "true" }), make("span")));
    const item = make("li", {}, button, make("dl"));
    button.addEventListener("click", () => this.chosen(item.dataset.key ?? ""));
    return item;
  }

  /** Lay the lines anew: cards move and grow with the page. */
  connect() {
    const frame = byId("flow").getBoundingClientRect();
    const boxes = new Map([...this.list.children].map((card) => [/** @type {HTMLElement} */ (card).dataset.key ?? "", boxIn(frame, card.getBoundingClientRect())]));
    const narrow = getComputedStyle(this.list).getPropertyValue("--narrow").trim() === "1";
    this.edges.forEach((edge, place) => {
      const line = /** @type {SVGPathElement} */ (this.lines.children[place] ?? this.lines.appendChild(document.createElementNS(SVG, "path")));
      const [from, to] = [boxes.get(edge.from), boxes.get(edge.to)];
      const hidden = !from || !to || (narrow && edge.beside);
      line.setAttribute("d", hidden ? "" : AROUND.has(`${edge.from} ${edge.to}`) ? pathAround(from, to) : pathBetween(from, to));
      line.setAttribute("class", `${kindOf(edge)}${edge.beside ? " beside" : ""}`);
      line.setAttribute("marker-end", `url(#to-${kindOf(edge)})`);
      line.setAttribute("stroke-width", widthOf(edge.per_s).toFixed(1));
    });
  }
}

/** @param {HTMLElement} element @param {Node} node @param {boolean} open */
function showCard(element, node, open) {
  const [button, figures] = element.children;
  element.className = `node at-${node.id}${node.topic ? " topic" : ""}${node.further ? " further" : ""}`;
  element.dataset.state = node.condition;
  button.setAttribute("aria-expanded", String(open));
  write(button.children[0], node.title.replaceAll("_", "_\u200b")); // a long name may break there
  write(button.children[1].children[1], node.word);
  element.title = node.reason;
  syncFigures(figures, node.lines);
}

/** @param {DOMRect} frame @param {DOMRect} box @returns {Box} */
function boxIn(frame, box) {
  return { left: Math.round(box.left - frame.left), top: Math.round(box.top - frame.top), width: Math.round(box.width), height: Math.round(box.height) };
}

/** @param {Edge} edge @returns {"broken" | "flows" | "still"} */
function kindOf(edge) {
  return edge.broken ? "broken" : edge.per_s ? "flows" : "still";
}

/** @param {?number} perSecond @returns {number} pixels: one more for each hundredfold */
function widthOf(perSecond) {
  return 1.5 + Math.min(2.5, Math.log10(1 + (perSecond ?? 0)) / 2);
}
