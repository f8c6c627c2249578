/** Draws the graph onto a canvas: lines by strength, symbols by group, names where there is room. */

import { COLOURS } from "./model.js";

const FAINT = 0.24;
const LABELS_MOST = 400;
const LABEL_PX = 11.5;

/**
 * @typedef {Object} Picture
 * @property {import("./model.js").Model} model
 * @property {(?import("./places.js").Spot)[]} spots
 * @property {number} over the symbol that the reader looks at; -1 for none
 * @property {boolean[]} found whether what is searched for holds each symbol
 */

/** @typedef {{groups: string[], grey: string, text: string, line: string, minus: string, ground: string, accent: string, font: string}} Ink */

/** @returns {Ink} the page's colours now */
export function readInk() {
  const style = getComputedStyle(document.documentElement);
  const colour = (/** @type {string} */ name) => style.getPropertyValue(`--${name}`).trim();
  return {
    groups: Array.from({ length: COLOURS }, (_, i) => colour(`group-${i + 1}`)),
    grey: colour("muted"), text: colour("text"), line: colour("muted"), minus: colour("down"), ground: colour("surface"), accent: colour("accent"), font: colour("font"),
  };
}

/** @param {HTMLCanvasElement} canvas @param {Picture} picture @param {Ink} ink */
export function draw(canvas, picture, ink) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = devicePixelRatio || 1;
  const [across, down] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  const bright = brightOf(picture);
  drawLines(context, picture, ink);
  drawSymbols(context, picture, ink, bright);
  drawNames(context, picture, ink, bright);
}

/** @param {Picture} picture @returns {boolean[]} what isn't faint: what the reader looks at, else what is searched for, with its partners */
function brightOf({ model, over, found }) {
  const bright = over < 0 ? [...found] : found.map((_, i) => i === over);
  for (const edge of model.edges) if (isLooked(edge, over, found)) bright[edge.a] = bright[edge.b] = true;
  return bright;
}

/** @param {import("./model.js").Edge} edge @param {number} over @param {boolean[]} found */
const isLooked = ({ a, b }, over, found) => (over < 0 ? found[a] || found[b] : a === over || b === over);

/** @param {CanvasRenderingContext2D} context @param {Picture} picture @param {Ink} ink */
function drawLines(context, { model, spots, over, found }, ink) {
  const { least } = model.answer;
  // The strongest last, over the others.
  for (const edge of [...model.edges].reverse()) {
    const { a, b, r } = edge;
    const [one, other] = [spots[a], spots[b]];
    if (!one || !other) continue;
    const strength = (Math.abs(r) - least) / Math.max(1e-9, 1 - least);
    const looked = isLooked(edge, over, found);
    const [colour, same] = [model.colours[a], model.colours[a] === model.colours[b]];
    context.globalAlpha = looked ? 0.5 + 0.45 * strength : 0.07;
    context.strokeStyle = r < 0 ? ink.minus : same && colour >= 0 ? ink.groups[colour] : ink.line;
    context.lineWidth = 0.8 + 2.6 * strength;
    context.setLineDash(r < 0 ? [5, 4] : []);
    context.beginPath();
    context.moveTo(one.x, one.y);
    context.lineTo(other.x, other.y);
    context.stroke();
  }
  context.setLineDash([]);
}

/** @param {CanvasRenderingContext2D} context @param {Picture} picture @param {Ink} ink @param {boolean[]} bright */
function drawSymbols(context, { model, spots, over }, ink, bright) {
  spots.forEach((spot, i) => {
    if (!spot) return;
    const colour = model.colours[i];
    context.globalAlpha = bright[i] ? 1 : FAINT;
    context.fillStyle = colour < 0 ? ink.grey : ink.groups[colour];
    if (colour < 0 && bright[i]) context.globalAlpha = 0.55;
    context.beginPath();
    context.arc(spot.x, spot.y, spot.radius, 0, 2 * Math.PI);
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = i === over ? 2.5 : 1.5;
    context.strokeStyle = i === over ? ink.text : ink.ground;
    context.stroke();
  });
}

/** @param {CanvasRenderingContext2D} context @param {Picture} picture @param {Ink} ink @param {boolean[]} bright */
function drawNames(context, { model, spots, over }, ink, bright) {
  context.font = `550 ${LABEL_PX}px ${ink.font}`;
  context.textAlign = "center";
  context.textBaseline = "top";
  context.lineJoin = "round";
  const { degree, symbol } = model.answer.nodes;
  const order = spots.map((_, i) => i).filter((i) => spots[i] && bright[i]).sort((i, j) => Number(j === over) - Number(i === over) || degree[j] - degree[i] || i - j);
  /** @type {[number, number, number, number][]} */
  const taken = [];
  for (const i of order.slice(0, LABELS_MOST)) {
    const spot = /** @type {import("./places.js").Spot} */ (spots[i]);
    const name = i === over ? symbol[i] : model.bases[i];
    const half = context.measureText(name).width / 2;
    const box = /** @type {[number, number, number, number]} */ ([spot.x - half, spot.y + spot.radius + 2, spot.x + half, spot.y + spot.radius + LABEL_PX + 3]);
    if (i !== over && taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    context.globalAlpha = 0.9;
    context.strokeStyle = ink.ground;
    context.lineWidth = 3;
    context.strokeText(name, spot.x, box[1]);
    context.globalAlpha = 1;
    context.fillStyle = model.colours[i] < 0 && i !== over ? ink.grey : ink.text;
    context.fillText(name, spot.x, box[1]);
  }
}
