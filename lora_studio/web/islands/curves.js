// Strength of each adapter over the denoising, as small curves in the hues of the basket.

import { h, s } from "./dom.js";
import { hueOf, session } from "./state.js";

const WIDTH = 240;
const HEIGHT = 72;
const PAD = 6;
const DASHES = ["none", "6 4", "2 4"]; // curves that lie on each other are still told apart

const title = (id) => session.basket.find((row) => row.id === id)?.title || id.slice(0, 8);

function path(values, low, high) {
  const x = (place) => PAD + ((WIDTH - 2 * PAD) * place) / Math.max(1, values.length - 1);
  const y = (value) => HEIGHT - PAD - ((HEIGHT - 2 * PAD) * (value - low)) / (high - low || 1);
  return values
    .map((value, place) => `${place ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`)
    .join("");
}

export function curvePlot(curves) {
  const rows = Object.entries(curves).map(([id, values]) => [id.split("#")[0], values]);
  const all = rows.flatMap(([, values]) => values);
  if (!all.length) return null;
  const low = Math.min(0, ...all);
  const high = Math.max(1, ...all);
  const words = rows
    .map(([id, values]) => `${title(id)} from ${values[0]} to ${values[values.length - 1]}`)
    .join("; ");
  return h(
    "section",
    { class: "ls-section" },
    h("h3", null, "Strength over the run"),
    s(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        class: "ls-curves",
        role: "img",
        "aria-label": `Strength over the run: ${words}`,
      },
      s("path", { d: path([0, 0], low, high), class: "ls-curve-zero" }),
      rows.map(([id, values], place) =>
        s("path", {
          d: path(values, low, high),
          class: "ls-curve",
          style: { stroke: hueOf(id), strokeDasharray: DASHES[place % DASHES.length] },
        }),
      ),
    ),
    h(
      "div",
      { class: "ls-legend" },
      rows.map(([id]) =>
        h(
          "span",
          { class: "ls-inline ls-small", vars: { "--ls-hue": hueOf(id) } },
          h("span", { class: "ls-swatch", "aria-hidden": "true" }),
          title(id),
        ),
      ),
    ),
  );
}
