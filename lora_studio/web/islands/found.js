// Example tasks before a search, and what a search put into the basket after it.

import { button, h, swap } from "./dom.js";
import { images } from "./bases.js";
import { basketRow, subscribe, update } from "./state.js";

export function mount({ host, props, trigger, watch }) {
  const { examples = [], pictures = [] } = props.value || {};
  const pick = (text) => {
    props.value = { examples, pictures, picked: text };
    trigger("pick");
  };
  let seen = null;

  const draw = () => {
    const { hits, task, serial, fits } = props.value || {};
    if (hits && serial !== seen) {
      seen = serial;
      update({
        basket: hits.map(basketRow),
        retrieval: {
          query: task,
          embedder: (props.value || {}).embedder || "",
          top_k: hits.length,
          scores: Object.fromEntries(hits.map((hit) => [hit.id, hit.similarity])),
        },
      });
      swap(
        host,
        h(
          "p",
          { class: "ls-quiet ls-small" },
          !hits.length
            ? `Nothing in the gallery is for this base model.`
            : fits
              ? `The ${hits.length} nearest to “${task}” are in the basket.`
              : `Nothing here is clearly made for “${task}”. The ${hits.length} nearest are in the basket: compare them with the base model.`,
        ),
      );
    } else if (!hits) {
      swap(
        host,
        h(
          "div",
          { class: "ls-chips" },
          (images() ? pictures : examples).map((text) => button(text, { kind: "chip", onclick: () => pick(text) })),
        ),
      );
    }
  };
  let kind = images();
  subscribe(() => {
    if (kind === images()) return;
    kind = images();
    if (!(props.value || {}).hits) draw();
  });
  watch("value", draw);
  draw();
}
