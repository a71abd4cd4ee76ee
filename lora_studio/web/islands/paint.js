// Painted regions: one small canvas an adapter, whose opacity is its mask. What a recipe keeps of it
// is a PNG, white where the adapter acts.

import { h } from "./dom.js";

const SIDE = 96;
const BRUSH = SIDE / 8;
const sheets = new Map(); // adapter id -> { canvas, mask: the PNG it shows }

const fresh = () => h("canvas", { width: SIDE, height: SIDE, class: "ls-region-paint" });

function sheetOf(id) {
  if (!sheets.has(id)) sheets.set(id, { canvas: fresh(), mask: "" });
  return sheets.get(id);
}

function tint(canvas, hue) {
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "source-in";
  context.fillStyle = hue;
  context.fillRect(0, 0, SIDE, SIDE);
  context.globalCompositeOperation = "source-over";
}

// Brightness of the PNG becomes opacity of the canvas.
async function read(sheet, mask, hue) {
  const picture = new Image();
  picture.src = `data:image/png;base64,${mask}`;
  await picture.decode();
  if (sheet.mask !== mask) return;
  const context = sheet.canvas.getContext("2d");
  context.clearRect(0, 0, SIDE, SIDE);
  context.drawImage(picture, 0, 0, SIDE, SIDE);
  const pixels = context.getImageData(0, 0, SIDE, SIDE);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = pixels.data[i];
  context.putImageData(pixels, 0, 0);
  tint(sheet.canvas, hue);
}

// The canvas that shows a mask in the hue of its adapter.
export function painted(id, mask, hue) {
  const sheet = sheetOf(id);
  if (sheet.mask === mask) tint(sheet.canvas, hue);
  else {
    sheet.mask = mask;
    read(sheet, mask, hue).catch((error) => console.debug(error)); // the studio says what is wrong
  }
  return sheet.canvas;
}

function png(canvas) {
  const flat = fresh();
  const context = flat.getContext("2d");
  context.drawImage(canvas, 0, 0);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, SIDE, SIDE);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, SIDE, SIDE);
  return flat.toDataURL("image/png").split(",")[1];
}

const empty = (canvas) =>
  canvas
    .getContext("2d")
    .getImageData(0, 0, SIDE, SIDE)
    .data.every((value, place) => place % 4 < 3 || !value);

// Draws a stroke from one spot to another, or rubs it out; the new mask, "" where nothing is left.
// An adapter that had a box or nothing starts from that box, or from an empty sheet.
export function stroke(id, { mask, box, from, to, erase }) {
  const sheet = sheetOf(id);
  const context = sheet.canvas.getContext("2d");
  context.fillStyle = context.strokeStyle = "#fff";
  if (!mask) {
    context.clearRect(0, 0, SIDE, SIDE);
    const [x0, y0, x1, y1] = (box || [0, 0, 0, 0]).map((side) => side * SIDE);
    context.fillRect(x0, y0, x1 - x0, y1 - y0);
  }
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.lineWidth = BRUSH;
  context.lineCap = "round";
  context.beginPath();
  context.moveTo(from[0] * SIDE, from[1] * SIDE);
  context.lineTo(to[0] * SIDE, to[1] * SIDE);
  context.stroke();
  context.globalCompositeOperation = "source-over";
  sheet.mask = empty(sheet.canvas) ? "" : png(sheet.canvas);
  return sheet.mask;
}
