// The fingerprint of an adapter: one ring a group of layers, thicker where the update is larger,
// broken into as many slots as its rank suggests; the slots that are drawn come from its content id.

import { s } from "./dom.js";

const MAX_RINGS = 6;
const MIN_RADIUS = 9;
const MAX_RADIUS = 29;

// n values in as many groups as fit, each the root mean square of its members.
function rings(norms) {
  const clean = (norms || []).filter((value) => Number.isFinite(value) && value >= 0);
  const total = Math.min(MAX_RINGS, clean.length);
  return Array.from({ length: total }, (_, ring) => {
    const part = clean.slice(
      Math.floor((ring * clean.length) / total),
      Math.floor(((ring + 1) * clean.length) / total),
    );
    return Math.sqrt(part.reduce((sum, value) => sum + value * value, 0) / part.length);
  });
}

function arc(radius, from, to) {
  const point = (turn) => {
    const angle = 2 * Math.PI * turn - Math.PI / 2;
    return `${(32 + radius * Math.cos(angle)).toFixed(2)} ${(32 + radius * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${point(from)}A${radius.toFixed(2)} ${radius.toFixed(2)} 0 ${to - from > 0.5 ? 1 : 0} 1 ${point(to)}`;
}

// Runs of drawn slots as [first, after) pairs; bits come from hex digits of the id.
function runs(id, ring, slots) {
  const bit = (slot) => {
    const digit = parseInt(id[(ring * 11 + slot) % id.length] || "0", 16) || 0;
    return digit % 4 !== 0;
  };
  const found = [];
  for (let slot = 0; slot < slots; slot += 1) {
    if (!bit(slot)) continue;
    const lastRun = found[found.length - 1];
    if (lastRun && lastRun[1] === slot) lastRun[1] = slot + 1;
    else found.push([slot, slot + 1]);
  }
  return found;
}

export function glyph(entry, size = 48) {
  const values = rings(entry.layer_norms);
  const largest = Math.max(...values, 1e-9);
  const slots = Math.max(6, Math.min(24, Math.round(4 + 2 * Math.sqrt(2 * (entry.max_rank || 4)))));
  const step = values.length > 1 ? (MAX_RADIUS - MIN_RADIUS) / (values.length - 1) : 0;
  const id = String(entry.id || "0");
  const marks = values.map((value, ring) => {
    const radius = values.length > 1 ? MIN_RADIUS + ring * step : 20;
    const share = value / largest;
    const width = Math.max(0.9, Math.min(step || 10, 7) * (0.2 + 0.62 * share));
    const gap = Math.min(0.34 / slots, 1.6 / (2 * Math.PI * radius));
    const path = runs(id, ring, slots)
      .map(([from, to]) => arc(radius, from / slots + gap, to / slots - gap))
      .join("");
    return s("path", {
      d: path,
      "stroke-width": width.toFixed(2),
      opacity: (0.35 + 0.65 * share).toFixed(2),
    });
  });
  return s(
    "svg",
    { viewBox: "0 0 64 64", width: size, height: size, class: "ls-glyph", "aria-hidden": "true" },
    s("circle", {
      cx: 32,
      cy: 32,
      r: Math.max(2.2, Math.min(4.5, 1.6 + Math.log2(1 + (entry.max_rank || 1)) * 0.6)),
      class: "ls-glyph-core",
    }),
    marks,
  );
}
