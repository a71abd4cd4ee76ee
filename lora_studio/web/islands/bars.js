// One bar a layer, for figures that differ along the depth of the model.

import { h } from "./dom.js";

// "down_blocks.1" is d1, "mid_block" is m, "text_encoder" is te.
const short = (names, place) =>
  (names[place] || String(place))
    .replace(/_blocks?\b\.?/, "")
    .replace(/^(down|up|mid)/, (word) => word[0])
    .replace(/^text_encoder_?/, "te");

const NAMED = 12; // with more layers than this, names would touch

// `names` stand under the bars instead of numbers, where they are given.
export function layerBars(values, what, format, names = []) {
  const largest = Math.max(...values) || 1;
  const kind = names.length ? "blocks" : "layers";
  const range = `from ${format(Math.min(...values))} to ${format(largest)}`;
  return h(
    "div",
    {
      class: "ls-bars",
      role: "img",
      "aria-label": `${what} in ${values.length} ${kind}, ${range}`,
    },
    values.map((value, layer) =>
      h(
        "span",
        { class: "ls-bar", title: `${names[layer] || `Layer ${layer}`}: ${format(value)}` },
        h("span", {
          class: "ls-bar-fill",
          style: { height: `${Math.max(2, (100 * value) / largest)}%` },
        }),
        values.length <= NAMED ? h("span", { class: "ls-bar-name" }, short(names, layer)) : null,
      ),
    ),
  );
}
