// The adapters of a composition: on or off, weight as a slider and a number, remove.

import { reasonKind } from "./card.js";
import { button, empty, fixed, h, icon, swap } from "./dom.js";
import { openDrawer } from "./drawer.js";
import { images } from "./bases.js";
import { face } from "./face.js";
import { usesRegions } from "./menu.js";
import { moduleWeights } from "./module_weights.js";
import { getJson, listMethods } from "./net.js";
import { told } from "./region.js";
import {
  basketRow,
  changed,
  drop,
  hueOf,
  openTab,
  picked,
  session,
  subscribe,
  turn,
} from "./state.js";
import { toast } from "./toast.js";

const SLIDER = [-1, 2];
const BOX = [-10, 10];

const clamp = (value, [low, high]) => Math.min(Math.max(value, low), high);

// Another version of an adapter that is not here takes its place, with its weight and choices.
async function useOther(item, id) {
  try {
    const entry = await getJson(`api/adapter/${encodeURIComponent(id)}`);
    if (picked(entry.id)) throw new Error(`“${entry.title}” is in the basket already.`);
    const { weight, enabled, region, module_weights, units } = item;
    const row = { ...basketRow(entry), weight, enabled, region, module_weights, units };
    session.basket = session.basket.map((other) => (other === item ? row : other));
    changed();
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
}

function missing(item) {
  const said = item.here
    ? "The recipe names another version of this adapter than the gallery has."
    : "This adapter is not in the gallery. Add it, or remove the row.";
  return h(
    "div",
    { class: "ls-note is-warn" },
    icon("warn"),
    h("span", { class: "ls-grow" }, said),
    item.here
      ? button("Use the one here", { kind: "link", onclick: () => useOther(item, item.here.id) })
      : null,
  );
}

function someUnits(item) {
  return h(
    "p",
    { class: "ls-row-reason" },
    "Only some of its rank units take part. ",
    button("Use them all", {
      kind: "link",
      onclick: () => {
        item.units = {};
        changed();
      },
    }),
  );
}

function row(item) {
  const slider = h("input", {
    type: "range",
    min: SLIDER[0],
    max: SLIDER[1],
    step: 0.05,
    value: clamp(item.weight, SLIDER),
    class: "ls-slider",
    "aria-label": `Weight of ${item.title}`,
  });
  const box = h("input", {
    type: "number",
    min: BOX[0],
    max: BOX[1],
    step: 0.05,
    value: item.weight,
    class: "ls-number",
    "aria-label": `Weight of ${item.title}, exact`,
  });
  const set = (weight, from) => {
    if (!Number.isFinite(weight)) return;
    item.weight = clamp(weight, BOX);
    if (from !== slider) slider.value = clamp(item.weight, SLIDER);
    if (from !== box) box.value = item.weight;
    changed();
  };
  slider.addEventListener("input", () => set(Number(slider.value), slider));
  box.addEventListener("input", () => set(box.value === "" ? NaN : Number(box.value), box));
  box.addEventListener("blur", () => {
    box.value = item.weight;
  });
  slider.addEventListener("dblclick", () => set(1));
  const onOff = h("input", {
    type: "checkbox",
    class: "ls-switch",
    checked: item.enabled,
    "aria-label": `Use ${item.title}`,
    onchange: () => {
      item.enabled = onOff.checked;
      node.classList.toggle("is-off", !item.enabled);
      changed();
    },
  });
  const node = h(
    "div",
    {
      class: `ls-row ${item.enabled ? "" : "is-off"}`,
      "data-id": item.id,
      vars: { "--ls-hue": hueOf(item.id) },
    },
    h(
      "div",
      { class: "ls-row-head" },
      onOff,
      face(item, 32),
      h(
        "button",
        { type: "button", class: "ls-row-title", onclick: () => openDrawer(item.id) },
        item.title,
      ),
      h(
        "span",
        { class: "ls-row-rank ls-quiet ls-small ls-nowrap" },
        item.max_rank ? `rank ${item.max_rank}` : "",
      ),
      button(
        "",
        { kind: "icon", "aria-label": `Remove ${item.title}`, onclick: () => drop(item.id) },
        "close",
      ),
    ),
    item.reason
      ? h(
          "p",
          { class: "ls-row-reason" },
          h(
            "span",
            { class: "ls-num" },
            Number.isFinite(item.similarity) ? `${fixed(item.similarity)} ` : "",
          ),
          `${reasonKind(item).toLowerCase()}: `,
          h("q", null, item.reason),
        )
      : null,
    item.missing ? missing(item) : null,
    Object.keys(item.units || {}).length ? someUnits(item) : null,
    h("div", { class: "ls-row-weight" }, slider, box),
    h("p", { class: "ls-row-region ls-break", hidden: true }),
    item.missing ? null : moduleWeights(item),
  );
  return node;
}

export function mount({ host }) {
  let shape = null;
  let methods = [];

  // Where each adapter acts, under a method that asks for it.
  function regions() {
    const regional = images() && usesRegions(methods, session.draft.method);
    for (const item of session.basket) {
      const line = host.querySelector(`[data-id="${CSS.escape(item.id)}"] .ls-row-region`);
      if (!line) continue;
      line.hidden = !regional;
      const [first, ...rest] = regional ? told(item) : "";
      line.textContent = regional ? first.toUpperCase() + rest.join("") : "";
    }
  }

  // Weights that were set elsewhere, such as by the verdict.
  function weights() {
    for (const item of session.basket) {
      const line = host.querySelector(`[data-id="${CSS.escape(item.id)}"] .ls-row-weight`);
      for (const input of line ? line.children : []) {
        const shown = input.type === "range" ? clamp(item.weight, SLIDER) : item.weight;
        if (input !== document.activeElement && Number(input.value) !== shown) input.value = shown;
      }
    }
  }

  const draw = () => {
    rebuild();
    weights();
    regions();
  };
  function rebuild() {
    const now = JSON.stringify([
      turn(),
      session.basket.map((item) => [item.id, item.title, item.reason, item.units]),
    ]);
    if (now === shape) return;
    shape = now;
    if (!session.basket.length) {
      swap(
        host,
        empty(
          "Nothing picked yet",
          "Pick adapters in the gallery, or describe a task above.",
          button("Open the gallery", { onclick: () => openTab("gallery") }),
        ),
      );
    } else swap(host, session.basket.map(row));
  }
  listMethods().then(
    (found) => {
      methods = found;
      regions();
    },
    (error) => console.debug(error),
  );
  subscribe(draw);
  draw();
}
