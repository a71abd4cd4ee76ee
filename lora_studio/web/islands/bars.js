// One bar a layer, for figures that differ along the depth of the model.

import { h } from "./dom.js";

const NAMED = 12; // with more layers than this, names would touch

export function layerBars(values, what, format) {
  const largest = Math.max(...values) || 1;
  const range = `from ${format(Math.min(...values))} to ${format(largest)}`;
  return h(
    "div",
    {
      class: "ls-bars",
      role: "img",
      "aria-label": `${what} in ${values.length} layers, ${range}`,
    },
    values.map((value, layer) =>
      h(
        "span",
        { class: "ls-bar", title: `Layer ${layer}: ${format(value)}` },
        h("span", {
          class: "ls-bar-fill",
          style: { height: `${Math.max(2, (100 * value) / largest)}%` },
        }),
        values.length <= NAMED ? h("span", { class: "ls-bar-name" }, String(layer)) : null,
      ),
    ),
  );
}
