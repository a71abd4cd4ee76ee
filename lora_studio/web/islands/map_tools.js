// The line of controls over the map: what colours mean, whether the result is shown, table and zoom.

import { button, h } from "./dom.js";

const COLOURS = { cluster: "Cluster", adapter: "Adapter" };
const NOTHING = "Compose these adapters to see the units of the result here.";

// actions: choose(by), flip(on), zoom(factor), show(on)
export function mapTools(actions) {
  const radios = Object.fromEntries(
    Object.keys(COLOURS).map((value) => [
      value,
      h("input", {
        type: "radio",
        name: "ls-map-by",
        checked: value === "cluster",
        onchange: () => actions.choose(value),
      }),
    ]),
  );
  const result = h("input", {
    type: "checkbox",
    role: "switch",
    class: "ls-switch",
    id: "ls-map-result",
    disabled: true,
    onchange: () => actions.show(result.checked),
  });
  const label = h(
    "label",
    { class: "ls-map-result", for: "ls-map-result" },
    result,
    "Show the result",
  );
  let table = false;
  const tabling = button("Table", { "aria-pressed": "false", onclick: flip }, "table");
  function flip() {
    table = !table;
    tabling.setAttribute("aria-pressed", String(table));
    tabling.classList.toggle("is-on", table);
    actions.flip(table);
  }
  const zoomer = (text, name, factor) =>
    button(text, { kind: "icon", "aria-label": name, onclick: () => actions.zoom(factor) });
  const node = h(
    "div",
    { class: "ls-map-tools" },
    h("span", { class: "ls-label" }, "Colour by"),
    h(
      "div",
      { class: "ls-segments", role: "radiogroup", "aria-label": "Colour by" },
      Object.entries(COLOURS).map(([value, text]) =>
        h("label", { class: "ls-segment" }, radios[value], h("span", null, text)),
      ),
    ),
    label,
    h("span", { class: "ls-grow" }),
    tabling,
    zoomer("−", "Zoom out", 1 / 1.5),
    zoomer("+", "Zoom in", 1.5),
  );
  return {
    node,
    colour(by) {
      radios[by].checked = true;
    },
    // `made` is the composition that can be shown, or null.
    offer(made, shown) {
      result.disabled = !made;
      result.checked = Boolean(made) && shown;
      label.title = made ? made.title || "" : NOTHING;
      label.classList.toggle("is-off", !made);
    },
  };
}
