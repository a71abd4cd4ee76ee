// The form of an XY grid: two settings that vary over the composition on screen.

import { images, about } from "./bases.js";
import { button, h, swap } from "./dom.js";
import { fits, settled } from "./menu.js";
import { listMethods } from "./net.js";
import { session, subscribe } from "./state.js";

const KINDS = { method: "Method", seed: "Seed", steps: "Steps", guidance: "Guidance" };
const USUAL = {
  weight: "0-1.2 (+0.4)",
  seed: "0-3",
  steps: "10, 20, 30",
  guidance: "2, 4, 7",
  prompt: "",
  method: "",
};

const SYNTAX =
  "0-1.2 (+0.4) counts from 0 to 1.2 in steps of 0.4; 0, 0.5, 1 are just these values.";

function options() {
  const weights = session.basket
    .filter((row) => row.enabled)
    .map((row) => ({ value: `weight:${row.id}`, title: `Weight of ${row.title}`, of: row.title }));
  const rest = Object.entries({ ...KINDS, prompt: "Prompt" });
  return [...weights, ...rest.map(([value, title]) => ({ value, title }))];
}

function axis(name, start, methods) {
  const list = options();
  const select = h(
    "select",
    { class: "ls-select ls-wide", "aria-label": `${name} axis` },
    list.map((one) => h("option", { value: one.value }, one.title)),
  );
  select.value = list.some((one) => one.value === start) ? start : list[0].value;
  const place = h("div", { class: "ls-axis-values" });
  let read = () => "";
  function draw() {
    const [kind] = select.value.split(":");
    const label = `Values of the ${name} axis`;
    if (kind === "method") {
      const boxes = methods.map((method) =>
        h(
          "label",
          { class: "ls-facet" },
          h("input", { type: "checkbox", class: "ls-tick", value: method.name, checked: false }),
          h("span", { class: "ls-facet-name" }, method.title),
        ),
      );
      boxes.slice(0, 3).forEach((box) => (box.querySelector("input").checked = true));
      swap(place, h("fieldset", { class: "ls-axis-methods", "aria-label": label }, boxes));
      read = () => [...place.querySelectorAll(":checked")].map((box) => box.value);
      return;
    }
    const tag = kind === "prompt" ? "textarea" : "input";
    const field = h(tag, {
      class: "ls-text",
      "aria-label": label,
      value: USUAL[kind],
      placeholder: kind === "prompt" ? "One prompt a line" : "0-1.2 (+0.2), or 0, 0.5, 1",
    });
    const numbers = kind === "prompt" ? null : h("p", { class: "ls-help" }, SYNTAX);
    swap(place, field, numbers);
    read = () => field.value;
  }
  select.addEventListener("change", draw);
  draw();
  const node = h(
    "div",
    { class: "ls-field" },
    h("span", { class: "ls-label" }, name === "X" ? "X, across" : "Y, down"),
    select,
    place,
  );
  return {
    node,
    value() {
      const [kind, source = ""] = select.value.split(":");
      const title = (list.find((one) => one.value === select.value) || {}).of || "";
      return { kind, source, title, values: read() };
    },
  };
}

export function mount({ host, props, trigger }) {
  let methods = [];
  let shape = "";
  let open = false;
  let serial = 0;

  function draw() {
    const rows = session.basket.filter((row) => row.enabled);
    const method = methods.length && images() ? settled(methods, about()) : null;
    const now = JSON.stringify([
      images(),
      rows.map((row) => [row.id, row.title]),
      methods.length,
      session.draft.method,
      about().family,
    ]);
    if (now === shape) return;
    shape = now;
    if (!images() || !rows.length || !method) return swap(host);
    const usable = methods.filter((method) => fits(method, about()).fits);
    const x = axis("X", `weight:${rows[0].id}`, usable);
    const y = axis("Y", rows.length > 1 ? `weight:${rows[1].id}` : "seed", usable);
    const names = rows.map((row) => row.title).join(", ");
    const form = h(
      "details",
      { class: "ls-axes-form ls-panel", ontoggle: () => (open = form.open) },
      h("summary", { class: "ls-step" }, "XY grid"),
      h(
        "p",
        { class: "ls-help" },
        `Two settings vary over the composition on screen: ${method.title} `,
        `of ${names}, with the first prompt and the seed above.`,
      ),
      h("div", { class: "ls-axes-pair" }, x.node, y.node),
      button("Draw the grid", {
        class: "ls-grid-go",
        onclick: () => {
          serial += 1;
          props.value = { axes: { x: x.value(), y: y.value() }, serial };
          trigger("grid");
        },
      }),
    );
    form.open = open;
    return swap(host, form);
  }

  listMethods().then((found) => {
    methods = found;
    draw();
  }, draw);
  subscribe(draw);
  draw();
}
