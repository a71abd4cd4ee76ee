// Facet lists beside the grid. A list shows its most frequent values first, the rest on request.

import { about } from "./bases.js";
import { h, swap } from "./dom.js";

const NAMES = {
  modality: "Makes",
  base: "Base model",
  tags: "Tags",
  ranks: "Rank",
  contributors: "Contributor",
  licences: "Licence",
};
const WORDS = { text: "Text", image: "Images" };
const ONE = ["modality", "base"]; // of these an adapter has one, and one is chosen at a time
const SHOWN = 8;

export function facets(filters, changed) {
  const root = h("div", { class: "ls-facets", role: "group", "aria-label": "Filters" });
  const whole = new Set();

  function option(facet, { value, count }) {
    const text = String(value);
    const on = filters[facet].has(text);
    return h(
      "label",
      { class: `ls-facet ${on ? "is-on" : ""}` },
      h("input", {
        type: "checkbox",
        class: "ls-tick",
        checked: on,
        onchange: () => {
          if (ONE.includes(facet)) filters[facet].clear();
          if (on) filters[facet].delete(text);
          else filters[facet].add(text);
          changed();
        },
      }),
      h("span", { class: "ls-facet-name", title: text }, named(facet, text)),
      h("span", { class: "ls-num ls-quiet" }, String(count)),
    );
  }

  const named = (facet, text) => {
    if (facet === "base") return about(text).title;
    return (facet === "modality" && WORDS[text]) || text || "not stated";
  };

  function group(facet, values) {
    const kept = [...filters[facet]].filter(
      (value) => !values.some((item) => String(item.value) === value),
    );
    const all = [...values, ...kept.map((value) => ({ value, count: 0 }))];
    if (!all.length || (ONE.includes(facet) && all.length < 2 && !filters[facet].size))
      return null;
    const list = whole.has(facet) ? all : all.slice(0, SHOWN);
    return h(
      "fieldset",
      null,
      h("legend", null, NAMES[facet]),
      list.map((item) => option(facet, item)),
      all.length > list.length
        ? h(
            "button",
            {
              type: "button",
              class: "ls-btn ls-btn-link",
              onclick: () => {
                whole.add(facet);
                draw(last);
              },
            },
            `${all.length - list.length} more`,
          )
        : null,
    );
  }

  let last = {};
  function draw(found) {
    last = found || {};
    swap(
      root,
      Object.keys(NAMES).map((facet) => group(facet, last[facet] || [])),
    );
  }
  return { root, draw };
}
