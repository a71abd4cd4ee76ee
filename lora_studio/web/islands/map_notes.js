// What has to be known to read a map: a seed its adapters share, and what its places mean.

import { fixed, h, icon, percent } from "./dom.js";

export function sharedSeed(shared) {
  if (!shared || !shared.warning) return null;
  const score = h("span", { class: "ls-quiet" }, ` (score ${fixed(shared.score)})`);
  return h(
    "p",
    { class: "ls-note is-warn ls-caveat" },
    icon("warn"),
    h("span", null, shared.warning, score),
  );
}

export function summary({ points, value }) {
  const axes = Number.isFinite(value.explained)
    ? `; the two axes show ${percent(value.explained)} of the variance`
    : "";
  const made = value.result ? value.result.n : 0;
  return (
    `${points.n - made} units, up to ${value.k} clusters a module${axes}. Clusters are numbered by ` +
    "falling energy in their module. Distances between far groups mean little."
  );
}
