// The method and its parameters; controls follow the declared signature.

import { about } from "./bases.js";
import { empty, h, swap } from "./dom.js";
import { choose, defaults, menu, settled } from "./menu.js";
import { listMethods } from "./net.js";
import { changed, session, subscribe, turn } from "./state.js";

const LONG_MENU = 3;

// How a slider's places stand for values. One that goes over three powers of ten or more counts in
// powers, to two figures, since every step of a linear one would be larger than its small values.
function scaleOf({ min, max, step, type }) {
  const ratio = max / min;
  if (!(min > 0 && ratio >= 1000)) {
    const usual = step ?? (type === "int" ? 1 : "any");
    const same = (number) => number;
    return { step: usual, slider: { min, max, step: usual }, value: same, place: same };
  }
  const figures = (place) => Number((min * ratio ** place).toPrecision(2));
  return {
    step: "any",
    slider: { min: 0, max: 1, step: 0.005 },
    value: (place) => Math.min(Math.max(figures(place), min), max),
    place: (number) => (number > 0 ? Math.log(number / min) / Math.log(ratio) : 0),
  };
}

function control(param, value, set) {
  const id = `ls-param-${param.name}`;
  const has = (bound) => bound !== null && bound !== undefined;
  if (param.type === "bool") {
    const node = h("input", {
      type: "checkbox",
      class: "ls-switch",
      id,
      checked: Boolean(value),
      onchange: () => set(node.checked),
    });
    return { node, inline: true };
  }
  if (param.type === "choice") {
    const choices = param.choices || [];
    if (choices.length <= LONG_MENU) {
      const group = h(
        "div",
        { class: "ls-segments", role: "radiogroup", "aria-label": param.title },
        choices.map((choice) =>
          h(
            "label",
            { class: "ls-segment" },
            h("input", {
              type: "radio",
              name: id,
              checked: choice === value,
              onchange: () => set(choice),
            }),
            h("span", null, String(choice)),
          ),
        ),
      );
      return { node: group, inline: false };
    }
    const node = h(
      "select",
      { class: "ls-select", id, onchange: () => set(choices[node.selectedIndex]) },
      choices.map((choice) => h("option", null, String(choice))),
    );
    node.selectedIndex = Math.max(0, choices.indexOf(value));
    return { node, inline: false };
  }
  const whole = param.type === "int";
  const scale = scaleOf(param);
  const range = { min: param.min, max: param.max, step: scale.step };
  const read = (node) => {
    const number = Number(node.value);
    if (node.value !== "" && Number.isFinite(number)) set(whole ? Math.round(number) : number);
  };
  const box = h("input", { type: "number", class: "ls-number", id, value, ...range });
  if (!has(param.min) || !has(param.max)) {
    box.addEventListener("input", () => read(box));
    return { node: box, inline: true };
  }
  const slider = h("input", {
    type: "range",
    class: "ls-slider",
    "aria-label": param.title,
    ...scale.slider,
    value: scale.place(value),
    "aria-valuetext": String(value),
  });
  slider.addEventListener("input", () => {
    box.value = scale.value(Number(slider.value));
    slider.setAttribute("aria-valuetext", box.value);
    read(box);
  });
  box.addEventListener("input", () => {
    slider.value = scale.place(Number(box.value));
    slider.setAttribute("aria-valuetext", box.value);
    read(box);
  });
  return { node: h("div", { class: "ls-row-weight" }, slider, box), inline: false };
}

function field(param, value, set) {
  const { node, inline } = control(param, value, set);
  return h(
    "div",
    { class: `ls-field ${inline ? "is-inline" : ""}` },
    h("label", { for: `ls-param-${param.name}`, class: "ls-label" }, param.title || param.name),
    node,
    param.help ? h("p", { class: "ls-help" }, param.help) : null,
  );
}

// A parameter that matters only under some values of a choice is shown under those.
function matters(param, values) {
  const [name, ...wanted] = param.when || [];
  return !name || wanted.includes(values[name]);
}

function options(group) {
  return h(
    "optgroup",
    { label: group.label },
    group.items.map(({ method, fits: able, why }) =>
      h(
        "option",
        { value: method.name, disabled: !able },
        able ? method.title : `${method.title} (${why})`,
      ),
    ),
  );
}

export function mount({ host }) {
  let methods = [];
  let drawn = "";

  function draw() {
    if (!methods.length) return;
    const method = settled(methods, about());
    const { modality, family } = about();
    const key = [method.name, turn(), modality, family].join(" ");
    if (key === drawn) return;
    drawn = key;
    const select = h(
      "select",
      { class: "ls-select ls-wide", id: "ls-method-name", onchange: pick },
      menu(methods, about()).map(options),
    );
    select.value = method.name;
    function pick() {
      choose(methods.find((one) => one.name === select.value));
    }
    const params = session.draft.params || {};
    const fields = method.params.map((param) =>
      field(param, param.name in params ? params[param.name] : param.default, (value) => {
        session.draft.params = { ...session.draft.params, [param.name]: value };
        reveal();
        changed();
      }),
    );
    function reveal() {
      const given = { ...defaults(method), ...session.draft.params };
      fields.forEach((node, place) => (node.hidden = !matters(method.params[place], given)));
    }
    reveal();
    const title = h("input", {
      type: "text",
      class: "ls-text",
      id: "ls-draft-title",
      maxlength: 120,
      placeholder: "Named after its sources",
      value: session.draft.title || "",
      oninput: () => {
        session.draft.title = title.value;
        changed();
      },
    });
    const seed = h("input", {
      type: "number",
      class: "ls-number",
      id: "ls-draft-seed",
      min: 0,
      step: 1,
      value: session.draft.seed || 0,
      oninput: () => {
        session.draft.seed = Math.max(0, Math.round(Number(seed.value) || 0));
        changed();
      },
    });
    swap(
      host,
      h(
        "div",
        { class: "ls-field" },
        h("label", { class: "ls-label", for: "ls-method-name" }, "Method"),
        select,
        h("p", { class: "ls-help" }, method.summary),
      ),
      fields,
      h(
        "div",
        { class: "ls-pair" },
        h(
          "div",
          { class: "ls-field" },
          h("label", { class: "ls-label", for: "ls-draft-title" }, "Name of the result"),
          title,
        ),
        h(
          "div",
          { class: "ls-field ls-narrow" },
          h("label", { class: "ls-label", for: "ls-draft-seed" }, "Seed"),
          seed,
        ),
      ),
    );
  }

  swap(host, h("div", { class: "ls-bone" }), h("div", { class: "ls-bone ls-bone-short" }));
  listMethods().then(
    (found) => {
      methods = found;
      draw();
    },
    (error) => swap(host, empty("The methods did not load", error.message)),
  );
  subscribe(() => {
    const title = host.querySelector("#ls-draft-title");
    if (title && document.activeElement !== title) title.value = session.draft.title || "";
    draw();
  });
}
