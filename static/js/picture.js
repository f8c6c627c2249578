/**
 * The chart as a PNG: what plotly.js has drawn, with what the page writes over it, under a line that says what it is.
 *
 * plotly's own PNG passes through a blob: image, which the page's security policy doesn't allow, and knows nothing of what
 * stands over the drawing. Its SVG as a data: image is drawn onto a canvas instead.
 */

const HEAD_PX = 46;
const SCALE = 2; // sharp on a dense screen
const OMITTED = "#plot, #notice, #crosshair";

/**
 * @typedef {Object} Frame
 * @property {HTMLElement} chart the chart's section
 * @property {HTMLElement} plot what plotly.js draws into, within the section
 * @property {string} title
 * @property {string} note
 */

/** @param {Frame} frame @returns {Promise<Blob>} a PNG twice as wide and high as the chart, plus its head */
export async function pictureOf({ chart, plot, title, note }) {
  const { width, height } = plot.getBoundingClientRect();
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * SCALE);
  canvas.height = Math.round((height + HEAD_PX) * SCALE);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const drawn = await imageOf(plot, width, height);
  const style = getComputedStyle(chart);
  context.scale(SCALE, SCALE);
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  writeHead(context, { title, note, width, style });
  context.translate(0, HEAD_PX);
  context.drawImage(drawn, 0, 0, width, height);
  const { left, top } = plot.getBoundingClientRect();
  context.translate(-left, -top);
  for (const element of chart.querySelectorAll("*")) if (!element.closest(OMITTED) && element.checkVisibility({ opacityProperty: true })) paint(context, element);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error(`expected a PNG of ${canvas.width} by ${canvas.height}, got none: try a smaller window`))), "image/png");
  });
}

/** @param {HTMLElement} plot @param {number} width @param {number} height @returns {Promise<HTMLImageElement>} */
async function imageOf(plot, width, height) {
  const image = new Image();
  image.src = await /** @type {any} */ (globalThis).Plotly.toImage(plot, { format: "svg", width, height });
  await image.decode();
  return image;
}

/** @param {CanvasRenderingContext2D} context @param {{title: string, note: string, width: number, style: CSSStyleDeclaration}} head */
function writeHead(context, { title, note, width, style }) {
  context.textBaseline = "middle";
  context.font = `650 17px ${style.fontFamily}`;
  context.fillStyle = style.color;
  context.fillText(title, 14, HEAD_PX / 2);
  context.font = `400 12.5px ${style.fontFamily}`;
  context.textAlign = "right";
  context.fillText(note, width - 14, HEAD_PX / 2);
  context.textAlign = "left";
}

/** An element's ground and its own text, where they stand on the screen. @param {CanvasRenderingContext2D} context @param {Element} element */
function paint(context, element) {
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  context.fillStyle = style.backgroundColor;
  context.strokeStyle = style.borderTopColor;
  const edge = style.borderTopStyle === "solid" ? Number.parseFloat(style.borderTopWidth) : 0;
  context.lineWidth = edge;
  context.beginPath();
  context.roundRect(box.left, box.top, box.width, box.height, cornersOf(style));
  context.fill();
  if (edge > 0) context.stroke();
  context.fillStyle = style.color;
  context.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  for (const node of element.childNodes) if (node.nodeType === Node.TEXT_NODE) write(context, /** @type {Text} */ (node));
}

/** @param {CSSStyleDeclaration} style @returns {number[]} */
function cornersOf(style) {
  const corners = [style.borderTopLeftRadius, style.borderTopRightRadius, style.borderBottomRightRadius, style.borderBottomLeftRadius];
  return corners.map((corner) => Number.parseFloat(corner) || 0);
}

/** @param {CanvasRenderingContext2D} context @param {Text} text */
function write(context, text) {
  const range = document.createRange();
  range.selectNodeContents(text);
  const { left, top, width, height } = range.getBoundingClientRect();
  if (width > 0) context.fillText(text.data.trim(), left, top + height / 2);
}
