// Words outside the base model's vocabulary, and examples that it does know.

import { images } from "./bases.js";
import { button, h, icon, swap } from "./dom.js";
import { getJson } from "./net.js";
import { session, subscribe } from "./state.js";

const SHOWN = 5;

export function mount({ host, props, trigger, watch }) {
  let examples = [];
  let base = null;
  const pick = (text) => {
    props.value = { picked: text, images: images() };
    trigger("pick");
  };
  const draw = () => {
    const said = images() ? {} : props.value || {};
    const { unknown = [], examples: near = [] } = said;
    const list = (near.length ? near : examples).slice(0, SHOWN);
    swap(
      host,
      unknown.length
        ? h(
            "p",
            { class: "ls-note is-warn ls-unknown" },
            icon("warn"),
            h(
              "span",
              null,
              `The demo model never met: ${unknown.slice(0, 8).join(", ")}. It will answer something, but try an example.`,
            ),
          )
        : null,
      list.length
        ? h(
            "div",
            { class: "ls-chips" },
            h("span", { class: "ls-quiet" }, "Try"),
            list.map((text) =>
              button(text, { kind: "chip", title: text, onclick: () => pick(text) }),
            ),
          )
        : null,
    );
  };

  // Sample inputs of what is picked (or of anything) are prompts the model was trained on.
  async function learn() {
    const ids = session.basket.slice(0, 3).map((row) => row.id);
    const key = JSON.stringify([session.base, images(), ids]);
    if (key === base) return;
    base = key;
    try {
      const entries = ids.length
        ? await Promise.all(ids.map((id) => getJson(`api/adapter/${id}`)))
        : (await getJson("api/search", { base: session.base, limit: 4 })).hits;
      examples = [
        ...new Set(entries.flatMap((entry) => (entry.samples || []).slice(0, ids.length ? 2 : 1))),
      ];
    } catch (error) {
      examples = [];
    }
    draw();
  }
  watch("value", draw);
  subscribe(learn);
  learn();
}
