// Strength of one adapter block by block: a slider for each block of the pipeline it acts on.

import { fixed, h, swap } from "./dom.js";
import { getJson } from "./net.js";
import { changed } from "./state.js";

const known = new Map();

async function blocksOf(id) {
  if (!known.has(id))
    known.set(
      id,
      getJson(`api/adapter/${encodeURIComponent(id)}`).then((entry) => entry.blocks || []),
    );
  return known.get(id);
}

// "unet.down_blocks.1" is "down 1", "unet.mid_block" is "mid", "text_encoder" is "text encoder".
const short = (block) =>
  block
    .replace(/^(unet|transformer)\./, "")
    .replace(/_blocks?\b\.?/, " ")
    .replaceAll("_", " ")
    .trim();

function slider(item, { block, modules }) {
  const value = () => (item.blocks || {})[block] ?? 1;
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
    const { [block]: _, ...others } = item.blocks || {};
    item.blocks = to === 1 ? others : { ...others, [block]: to };
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

// Closed until it is asked for; the blocks are fetched then.
export function blockSliders(item) {
  const place = h("div", { class: "ls-block-rows" });
  const cut = Object.keys(item.blocks || {}).length;
  const node = h(
    "details",
    { class: "ls-more ls-block-weights" },
    h("summary", null, cut ? `Block weights (${cut} set)` : "Block weights"),
    place,
  );
  node.addEventListener("toggle", async () => {
    if (!node.open || place.firstChild) return;
    try {
      const blocks = await blocksOf(item.id);
      swap(place, blocks.map((block) => slider(item, block)));
    } catch (error) {
      known.delete(item.id);
      swap(place, h("p", { class: "ls-help" }, error.message));
    }
  });
  return node;
}
