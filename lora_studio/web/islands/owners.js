// Whose the units of a composition are: the composition on screen, its shares, and their words.

import { h, percent } from "./dom.js";
import { hueOf, session } from "./state.js";

export const RESULT = 99; // its place in the legend
export const NOBODY = -1;
const LEAST = 0.005; // shares beneath half a percent are left out of what is said

// The last composition of just the adapters that are switched on, if the gallery keeps it.
export function composed() {
  const on = session.basket.filter((row) => row.enabled).map((row) => row.id);
  const same = (ids) => ids.length === on.length && ids.every((id) => on.includes(id));
  const found = session.made.find((one) => one.base === session.base && same(one.sources || []));
  return found?.adapter_id ? found : null;
}

export const isResult = (points, i) => points.row[i] >= 0;

// [source, share] of a unit, the largest first.
export function sharesOf(points, i) {
  const start = points.row[i] * points.sources;
  return Array.from(points.shares.subarray(start, start + points.sources), (byte, source) => [
    source,
    byte / 255,
  ]).sort((a, b) => b[1] - a[1]);
}

// The source most of a unit is owed to, and how much of it; NOBODY where no share is known.
export function owner(points, i) {
  const start = points.row[i] * points.sources;
  let best = NOBODY;
  let most = 0;
  for (let source = 0; source < points.sources; source += 1) {
    const byte = points.shares[start + source];
    if (byte > most) [best, most] = [source, byte];
  }
  return { source: best, share: most / 255 };
}

const titleOf = (value, source) => ((value.adapters || [])[source] || { title: "?" }).title;

// "Past tense 62 %, French 30 %, nobody 8 %"
export function sharesText(value, points, i) {
  const told = sharesOf(points, i).filter(([, share]) => share >= LEAST);
  const rest = 1 - told.reduce((sum, [, share]) => sum + share, 0);
  const parts = told.map(([source, share]) => `${titleOf(value, source)} ${percent(share)}`);
  if (rest >= 0.02) parts.push(`nobody ${percent(rest)}`);
  return parts.join(", ");
}

export function shareBar(value, points, i) {
  return h(
    "span",
    { class: "ls-share ls-share-wide", "aria-hidden": "true" },
    sharesOf(points, i)
      .filter(([, share]) => share >= LEAST)
      .map(([source, share]) =>
        h("span", {
          style: {
            width: `${100 * share}%`,
            background: hueOf((value.adapters[source] || {}).id),
          },
        }),
      ),
  );
}

// The mean share of each source over all units of the result, the largest first.
export function ownedOnAverage(value, points) {
  const { sources, shares } = points;
  const count = shares.length / sources;
  return (value.adapters || [])
    .map(({ id, title }, source) => {
      let sum = 0;
      for (let at = source; at < shares.length; at += sources) sum += shares[at];
      return { id, title, share: count ? sum / count / 255 : 0 };
    })
    .sort((a, b) => b.share - a.share);
}

function swatch(strength) {
  return h("span", { class: "ls-ringed" }, h("span", { style: { opacity: strength } }));
}

// What the marks of the result mean, and how much of it each source owns.
export function resultKey(value, points) {
  if (!value.result) return null;
  return h(
    "div",
    { class: "ls-result-key" },
    h(
      "p",
      { class: "ls-help ls-result-words" },
      h("span", { class: "ls-strengths", "aria-hidden": "true" }, [0.3, 0.65, 1].map(swatch)),
      h(
        "span",
        null,
        "Ringed marks are the units of the result. By adapter they have the hue of the source that " +
          "owns most of the unit, the stronger the more it owns; point at one to see all shares. " +
          "Where a method scales units otherwise than the sources, the balanced gauge places them fairly.",
      ),
    ),
    h(
      "ul",
      { class: "ls-owned", "aria-label": "Mean share of each adapter in the result" },
      ownedOnAverage(value, points).map(({ id, title, share }) =>
        h(
          "li",
          null,
          h("span", { class: "ls-swatch", vars: { "--ls-hue": hueOf(id) }, "aria-hidden": "true" }),
          h("span", { class: "ls-legend-title" }, title),
          h("span", { class: "ls-num" }, percent(share)),
        ),
      ),
    ),
  );
}
