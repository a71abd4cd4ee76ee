// Draws points on a canvas and finds the one under the pointer. Hue and shape both name the group.

import { isResult } from "./owners.js";

const PAD = 14;
const REACH = 14; // pixels within which a point is hit
const AHEAD = 4; // pixels by which a unit of the result, drawn on top, is hit before its sources'

function trace(context, shape, x, y, r) {
  context.moveTo(x + r, y);
  if (shape === 1) context.rect(x - r * 0.9, y - r * 0.9, 1.8 * r, 1.8 * r);
  else if (shape === 2 || shape === 3) {
    const up = shape === 2 ? -1 : 1;
    context.moveTo(x, y + up * 1.25 * r);
    context.lineTo(x + 1.15 * r, y - up * 0.8 * r);
    context.lineTo(x - 1.15 * r, y - up * 0.8 * r);
    context.closePath();
  } else if (shape === 4) {
    context.moveTo(x, y - 1.3 * r);
    context.lineTo(x + 1.3 * r, y);
    context.lineTo(x, y + 1.3 * r);
    context.lineTo(x - 1.3 * r, y);
    context.closePath();
  } else if (shape === 5) {
    context.rect(x - 1.25 * r, y - 0.45 * r, 2.5 * r, 0.9 * r);
    context.rect(x - 0.45 * r, y - 1.25 * r, 0.9 * r, 2.5 * r);
  } else context.arc(x, y, r, 0, 2 * Math.PI);
}

export class Plot {
  constructor(canvas) {
    this.canvas = canvas;
    this.points = null;
    this.tiles = [];
    this.group = null; // per point: place of its group, -1 for the rest
    this.lit = null; // per point: 1 if it is not dimmed; null lights all
    this.strength = null; // per point of the result: how much of it its owner has, 0 .. 1
    this.slices = null; // of a point of the result: [[place of the hue, share], ...]
    this.cursor = -1;
    this.view = { scale: 1, x: 0, y: 0 };
  }

  show(points, tiles) {
    this.points = points;
    this.tiles = tiles;
    this.lit = null;
    this.cursor = -1;
    this.view = { scale: 1, x: 0, y: 0 };
  }

  screen(index) {
    const { width, height, view } = this;
    return [
      PAD + (this.points.x[index] * view.scale + view.x) * (width - 2 * PAD),
      PAD + (this.points.y[index] * view.scale + view.y) * (height - 2 * PAD),
    ];
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context = this.canvas.getContext("2d");
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  draw(style) {
    if (!this.width) this.resize();
    if (!this.width || !this.context) return;
    const { context } = this;
    context.clearRect(0, 0, this.width, this.height);
    if (!this.points) return;
    this.drawTiles(style);
    const crowd = this.points.n > 20000 ? 0.5 : this.points.n > 3000 ? 0.75 : 1;
    const room = this.tiles.length ? (this.tiles[0].w * this.view.scale * this.width) / 110 : 1;
    const dense = crowd * Math.min(1, Math.max(0.5, room));
    const buckets = new Map(); // "lit group" -> points; dimmed ones are drawn first
    for (let i = 0; i < this.points.n; i += 1) {
      if (isResult(this.points, i)) continue;
      const key = (this.lit && !this.lit[i] ? 0 : 100) + this.group[i];
      if (!buckets.has(key)) buckets.set(key, []);
      buckets.get(key).push(i);
    }
    for (const place of [...buckets.keys()].sort((a, b) => a - b)) {
      const dim = place < 50;
      const key = dim ? place : place - 100;
      context.fillStyle = key < 0 ? style.rest : style.hues[key];
      context.globalAlpha = dim ? 0.12 : key < 0 ? 0.55 : 0.85;
      context.beginPath();
      for (const i of buckets.get(place)) {
        const [x, y] = this.screen(i);
        if (x < -9 || y < -9 || x > this.width + 9 || y > this.height + 9) continue;
        trace(
          context,
          key < 0 ? 0 : key % 6,
          x,
          y,
          dense * (2 + 4.5 * Math.sqrt(this.points.energy[i])),
        );
      }
      context.fill();
    }
    this.drawResult(style, dense);
    context.globalAlpha = 1;
    this.drawCursor(style);
  }

  // Units of the result lie on top, ringed, in the hue of their group, faint where little is owned.
  drawResult(style, dense) {
    const { context, points } = this;
    if (!points.shares.length) return;
    for (let i = 0; i < points.n; i += 1) {
      if (!isResult(points, i)) continue;
      const [x, y] = this.screen(i);
      if (x < -12 || y < -12 || x > this.width + 12 || y > this.height + 12) continue;
      const bright = !this.lit || this.lit[i] ? 1 : 0.15;
      const key = this.group[i];
      const size = dense * (3.5 + 4 * Math.sqrt(Math.min(points.energy[i], 2)));
      context.beginPath();
      trace(context, key < 0 ? 0 : key % 6, x, y, size);
      context.globalAlpha = bright;
      context.fillStyle = style.ground;
      context.fill();
      context.globalAlpha = bright * (0.2 + 0.8 * this.strength[points.row[i]]);
      context.fillStyle = key < 0 ? style.rest : style.hues[key];
      context.fill();
      context.globalAlpha = bright * 0.9;
      context.lineWidth = 1.5;
      context.strokeStyle = style.text;
      context.stroke();
    }
  }

  drawTiles(style) {
    const { context, view } = this;
    if (this.tiles.length < 2) return;
    context.strokeStyle = style.line;
    context.fillStyle = style.label;
    context.lineWidth = 1;
    context.font = `11px ${style.font}`;
    for (const tile of this.tiles) {
      const x = PAD + (tile.x * view.scale + view.x) * (this.width - 2 * PAD);
      const y = PAD + (tile.y * view.scale + view.y) * (this.height - 2 * PAD);
      const w = tile.w * view.scale * (this.width - 2 * PAD);
      const height = tile.h * view.scale * (this.height - 2 * PAD);
      context.strokeRect(
        Math.round(x) + 0.5,
        Math.round(y) + 0.5,
        Math.round(w),
        Math.round(height),
      );
      if (w > 64) context.fillText(shorten(tile.name, w / 6.2), x + 6, y + 14);
    }
  }

  drawCursor(style) {
    if (this.cursor < 0) return;
    const [x, y] = this.screen(this.cursor);
    const pie = isResult(this.points, this.cursor) && this.slices;
    const radius = pie ? 12 : 9;
    if (pie) this.drawPie(style, x, y, radius, this.slices(this.cursor));
    this.context.strokeStyle = style.text;
    this.context.lineWidth = 2;
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.context.stroke();
  }

  // Shares as a pie from the top, clockwise; what is nobody's stays the colour of the ground.
  drawPie(style, x, y, radius, slices) {
    const { context } = this;
    const wedge = (from, to, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.moveTo(x, y);
      context.arc(x, y, radius, from, to);
      context.closePath();
      context.fill();
    };
    wedge(0, 2 * Math.PI, style.ground);
    let from = -Math.PI / 2;
    for (const [place, share] of slices) {
      const to = from + 2 * Math.PI * share;
      wedge(from, to, place < 0 ? style.rest : style.hues[place]);
      from = to;
    }
  }

  nearest(px, py) {
    let best = -1;
    let least = REACH;
    for (let i = 0; this.points && i < this.points.n; i += 1) {
      const [x, y] = this.screen(i);
      const distance = Math.hypot(x - px, y - py) - (isResult(this.points, i) ? AHEAD : 0);
      if (distance < least) {
        least = distance;
        best = i;
      }
    }
    return best;
  }

  // The nearest point to the cursor in a direction, within 45 degrees of it, of those that are lit.
  step(dx, dy) {
    if (!this.points) return -1;
    if (this.cursor < 0) return this.lit ? this.lit.indexOf(1) : 0;
    const [x0, y0] = this.screen(this.cursor);
    let best = this.cursor;
    let least = Infinity;
    for (let i = 0; i < this.points.n; i += 1) {
      if (this.lit && !this.lit[i]) continue;
      const [x, y] = this.screen(i);
      const along = (x - x0) * dx + (y - y0) * dy;
      const across = Math.abs((x - x0) * dy) + Math.abs((y - y0) * dx);
      if (along > 0.5 && across <= along && along + across < least) {
        least = along + across;
        best = i;
      }
    }
    return best;
  }

  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const { view } = this;
    const scale = Math.min(40, Math.max(1, view.scale * factor));
    const fx = (px - PAD) / (this.width - 2 * PAD);
    const fy = (py - PAD) / (this.height - 2 * PAD);
    view.x = Math.min(0, Math.max(1 - scale, fx - ((fx - view.x) * scale) / view.scale));
    view.y = Math.min(0, Math.max(1 - scale, fy - ((fy - view.y) * scale) / view.scale));
    view.scale = scale;
  }

  pan(dx, dy) {
    const { view } = this;
    view.x = Math.min(0, Math.max(1 - view.scale, view.x + dx / (this.width - 2 * PAD)));
    view.y = Math.min(0, Math.max(1 - view.scale, view.y + dy / (this.height - 2 * PAD)));
  }
}

export function shorten(name, letters) {
  const short = String(name)
    .replace(/^(base_model\.)?(model\.)*(model\.)?layers\./, "")
    .replace("self_attn.", "")
    .replace("mlp.", "")
    .replace(/^(unet|text_encoder(_\d)?)\.(text_model\.encoder\.layers\.)?/, (all, part) =>
      part === "unet" ? "" : `${part.replace("text_encoder", "te")}.`,
    )
    .replace("_blocks.", ".")
    .replace("transformer_blocks.", "")
    .replace("attentions.", "attn.")
    .replace("resnets.", "res.");
  if (short.length <= letters) return short;
  const head = Math.max(1, Math.floor(0.4 * (letters - 1)));
  const tail = letters - 1 - head; // the end tells modules of a block apart
  return `${short.slice(0, head)}…${tail > 0 ? short.slice(-tail) : ""}`;
}
