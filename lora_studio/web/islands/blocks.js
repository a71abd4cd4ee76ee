// Strength of one adapter block by block: a slider for each block of the pipeline it acts on.

import { fixed, h } from "./dom.js";
import { changed } from "./state.js";

// "unet.down_blocks.1" is "down 1", "unet.mid_block" is "mid", "text_encoder" is "text encoder".
const short = (block) =>
  block
    .replace(/^(unet|transformer)\./, "")
    .replace(/_blocks?\b\.?/, " ")
    .replaceAll("_", " ")
    .trim();

const wide = (weights) => Object.keys(weights).some((key) => key.includes("*"));

export function blockSlider(item, { block, modules }) {
  const value = () => {
    const weight = (item.module_weights || {})[block] ?? 1;
    return Number.isFinite(weight) ? weight : 1;
  };
  const number = h("output", { class: "ls-num" }, fixed(value()));
  const range = h("input", {
    type: "range",
    class: "ls-slider",
    min: 0,
    max: 2,
    step: 0.05,
    value: value(),
    "aria-label": `${block} of ${item.title}`,
  });
  const set = (to) => {
    const { [block]: _, ...others } = item.module_weights || {};
    item.module_weights = to === 1 && !wide(others) ? others : { ...others, [block]: to };
    range.value = to;
    number.textContent = fixed(to);
    changed();
  };
  range.addEventListener("input", () => set(Number(range.value)));
  range.addEventListener("dblclick", () => set(1));
  return h(
    "div",
    { class: "ls-block-row" },
    h("span", { class: "ls-small", title: `${block}, ${modules} modules` }, short(block)),
    range,
    number,
  );
}
