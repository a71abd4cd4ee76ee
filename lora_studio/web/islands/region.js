// The region of a source as data: a box or a mask, with words of its own; how it moves, and in words.

const STEP = 0.02;
const LEAST = 0.04; // side of the smallest box
export const MOST_WORDS = 300;
export const MIDDLE = [0.25, 0.25, 0.75, 0.75];

const clamp = (value, low = 0, high = 1) => Math.min(Math.max(value, low), high);
const round = (value) => Math.round(value * 1000) / 1000;

export const boxOf = (row) => (row.region || {}).box || null;
export const maskOf = (row) => (row.region || {}).mask || "";
export const wordsOf = (row) => (row.region || {}).prompt || "";

// A region of {box}, of {mask} or of neither; the words stay with it.
export function shaped(row, shape) {
  const words = wordsOf(row);
  const kept = shape.box ? { box: shape.box.map(round) } : shape;
  row.region = words ? { ...kept, prompt: words } : kept;
}

export function worded(row, text) {
  const { prompt: _, ...shape } = row.region || {};
  const words = text.trim() ? text.slice(0, MOST_WORDS) : "";
  row.region = words ? { ...shape, prompt: words } : shape;
}

function place(row) {
  if (maskOf(row)) return "acts where it is painted";
  const box = boxOf(row);
  if (!box) return "acts everywhere";
  const [x0, y0, x1, y1] = box.map((side) => Math.round(100 * side));
  return `acts from ${x0} to ${x1} % across and ${y0} to ${y1} % down`;
}

// "acts everywhere", "acts where it is painted, asked for “a red star”", ...
export function told(row) {
  const words = wordsOf(row).trim();
  return words ? `${place(row)}, asked for “${words}”` : place(row);
}

// A box moved by shares of the picture, or with its lower right corner moved.
export function moved([x0, y0, x1, y1], dx, dy, resize) {
  if (resize) return [x0, y0, clamp(x1 + dx, x0 + LEAST), clamp(y1 + dy, y0 + LEAST)];
  const mx = clamp(dx, -x0, 1 - x1);
  const my = clamp(dy, -y0, 1 - y1);
  return [x0 + mx, y0 + my, x1 + mx, y1 + my];
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// What an arrow key makes of a box; with Shift it resizes. Null for other keys.
export function nudged(box, { key, shiftKey }) {
  const arrow = ARROWS[key];
  return arrow ? moved(box, arrow[0] * STEP, arrow[1] * STEP, shiftKey) : null;
}

// The box between two corners, or null where it would be too small to mean anything.
export function spanned([ax, ay], [bx, by]) {
  const [x0, x1] = [ax, bx].sort((a, b) => a - b);
  const [y0, y1] = [ay, by].sort((a, b) => a - b);
  return x1 - x0 >= LEAST && y1 - y0 >= LEAST ? [x0, y0, x1, y1] : null;
}

// Where a pointer is on a node, in shares of its width and height.
export function spotOn(node, event) {
  const box = node.getBoundingClientRect();
  return [
    clamp((event.clientX - box.left) / box.width),
    clamp((event.clientY - box.top) / box.height),
  ];
}
