// What became of an upload.

import { button, h, icon, swap } from "./dom.js";
import { openDrawer } from "./drawer.js";
import { add, session } from "./state.js";

export function mount({ host, props, watch }) {
  let seen = null;
  const draw = () => {
    const entry = (props.value || {}).entry;
    if (!entry) return swap(host);
    swap(
      host,
      h(
        "div",
        { class: "ls-result-card" },
        h(
          "h3",
          null,
          icon("check"),
          entry.existed
            ? `“${entry.title}” was here already`
            : `“${entry.title}” is in the gallery`,
        ),
        h(
          "ul",
          { class: "ls-samples" },
          (entry.report || []).map((line) => h("li", null, line)),
        ),
        entry.base_model !== session.base
          ? h(
              "p",
              { class: "ls-note is-warn" },
              icon("warn"),
              h(
                "span",
                null,
                `It was trained on ${entry.base_model || "a base model that it does not name"}. Choose that base model in the header to see it in the gallery.`,
              ),
            )
          : null,
        h(
          "div",
          { class: "ls-actions" },
          button("Add to basket", { kind: "primary", onclick: () => add(entry) }, "plus"),
          button("Look at it", { onclick: () => openDrawer(entry.id) }),
        ),
      ),
    );
    if (seen !== entry.id) {
      seen = entry.id;
      document.dispatchEvent(new Event("ls-gallery-changed"));
    }
    return undefined;
  };
  watch("value", draw);
  draw();
}
