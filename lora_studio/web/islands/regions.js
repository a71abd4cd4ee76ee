// Where in the picture each adapter acts, and with which words: boxes that are drawn by pointer and
// moved and resized by arrow keys, or masks that are painted.

import { button, h, swap } from "./dom.js";
import { usesRegions } from "./menu.js";
import { listMethods } from "./net.js";
import { painted, stroke } from "./paint.js";
import {
  boxOf,
  maskOf,
  MIDDLE,
  MOST_WORDS,
  moved,
  nudged,
  shaped,
  spanned,
  spotOn,
  told,
  worded,
  wordsOf,
} from "./region.js";
import { changed, hueOf, session, subscribe } from "./state.js";

const KEYS = "Arrows move it, Shift and arrows resize it, Delete clears it.";
const TOOLS = { box: "Box", paint: "Paint", erase: "Erase" };

function toolbar(chosen, choose) {
  return h(
    "div",
    { class: "ls-segments", role: "radiogroup", "aria-label": "Tool" },
    Object.entries(TOOLS).map(([name, title]) =>
      h(
        "label",
        { class: "ls-segment" },
        h("input", {
          type: "radio",
          name: "ls-region-tool",
          checked: name === chosen,
          onchange: () => choose(name),
        }),
        h("span", null, title),
      ),
    ),
  );
}

function wordsField(put) {
  const input = h("input", {
    type: "text",
    class: "ls-text",
    id: "ls-region-words",
    maxlength: MOST_WORDS,
    placeholder: "a red star",
    autocomplete: "off",
    "aria-describedby": "ls-region-words-help",
    oninput: () => put(input.value),
  });
  const help = h("p", { class: "ls-help", id: "ls-region-words-help" });
  const node = h(
    "div",
    { class: "ls-field" },
    h("label", { class: "ls-label", for: input.id }, "Words for this region (optional)"),
    input,
    help,
  );
  return { node, input, help };
}

export function mount({ host }) {
  let methods = [];
  let chosen = 0;
  let tool = "box";
  let drag = null;
  const said = h("p", { class: "ls-help", "aria-live": "polite" });
  const stage = h("div", { class: "ls-region-stage" });
  const names = h("div", { class: "ls-actions", role: "radiogroup", "aria-label": "Adapter" });
  const words = wordsField((text) => {
    worded(rows()[chosen], text);
    changed();
  });

  const rows = () => session.basket.filter((row) => row.enabled);
  const shown = () => usesRegions(methods, session.draft.method) && rows().length > 0;
  const say = (row) => {
    said.textContent = `${row.title} ${told(row)}.`;
  };

  function put(row, shape) {
    shaped(row, shape);
    say(row);
    changed();
  }

  function choose(place) {
    chosen = place;
    const row = rows()[place];
    if (tool === "box" && !boxOf(row) && !maskOf(row)) put(row, { box: MIDDLE });
    say(row);
    draw();
  }

  function boxNode(row, place) {
    const [x0, y0, x1, y1] = boxOf(row).map((side) => 100 * side);
    return h(
      "button",
      {
        type: "button",
        class: `ls-region ${place === chosen ? "is-on" : ""}`,
        "data-id": row.id,
        "aria-label": `${row.title} ${told(row)}. ${KEYS}`,
        style: { left: `${x0}%`, top: `${y0}%`, width: `${x1 - x0}%`, height: `${y1 - y0}%` },
        vars: { "--ls-hue": hueOf(row.id) },
        onfocus: () => {
          if (chosen === place) return;
          chosen = place;
          draw();
        },
        onkeydown: (event) => {
          const box = nudged(boxOf(row), event);
          if (box) put(row, { box });
          else if (event.key === "Delete" || event.key === "Backspace") put(row, {});
          else return;
          event.preventDefault();
        },
      },
      h("span", { class: "ls-region-name" }, row.title),
      h("span", { class: "ls-region-grip", "aria-hidden": "true" }),
    );
  }

  function shapeNode(row, place) {
    if (boxOf(row)) return boxNode(row, place);
    if (!maskOf(row)) return null;
    const hue = getComputedStyle(stage).getPropertyValue(hueOf(row.id).slice(4, -1));
    const canvas = painted(row.id, maskOf(row), hue);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${row.title} ${told(row)}`);
    canvas.classList.toggle("is-on", place === chosen);
    return canvas;
  }

  function brush(row, to) {
    const erase = tool === "erase";
    const [mask, box] = [maskOf(row), boxOf(row)];
    const left = stroke(row.id, { mask, box, from: drag.last || to, to, erase });
    drag.last = to;
    put(row, left ? { mask: left } : {});
  }

  function pull(event) {
    const row = rows()[chosen];
    const spot = spotOn(stage, event);
    if (tool !== "box") return brush(row, spot);
    const [dx, dy] = [spot[0] - drag.at[0], spot[1] - drag.at[1]];
    const box = drag.box ? moved(drag.box, dx, dy, drag.corner) : spanned(drag.at, spot);
    return box ? put(row, { box }) : undefined;
  }

  stage.addEventListener("pointerdown", (event) => {
    const held = tool === "box" ? event.target.closest(".ls-region") : null;
    if (held) chosen = Math.max(0, rows().findIndex((row) => row.id === held.dataset.id));
    const corner = Boolean(held && event.target.closest(".ls-region-grip"));
    drag = { at: spotOn(stage, event), corner, box: held ? boxOf(rows()[chosen]) : null };
    stage.setPointerCapture(event.pointerId);
    if (tool !== "box") pull(event);
    draw();
  });
  stage.addEventListener("pointermove", (event) => {
    if (drag && event.buttons) pull(event);
  });
  for (const end of ["pointerup", "pointercancel"])
    stage.addEventListener(end, () => {
      drag = null;
    });

  function nameNode(row, place) {
    return h(
      "button",
      {
        type: "button",
        role: "radio",
        class: `ls-legend-item ${place === chosen ? "is-on" : ""}`,
        "aria-checked": String(place === chosen),
        "data-name": row.id,
        vars: { "--ls-hue": hueOf(row.id) },
        onclick: () => choose(place),
      },
      h("span", { class: "ls-swatch", "aria-hidden": "true" }),
      h("span", { class: "ls-legend-title" }, row.title),
    );
  }

  function clear() {
    rows().forEach((row) => (row.region = {}));
    words.input.value = "";
    said.textContent = "Every adapter acts everywhere.";
    changed();
  }

  function build() {
    const pick = (name) => {
      tool = name;
      stage.dataset.tool = name;
    };
    stage.dataset.tool = tool;
    swap(
      host,
      h("div", { class: "ls-label" }, "Regions"),
      h(
        "p",
        { class: "ls-help" },
        "Choose an adapter, then drag a box or paint where it acts. Without a region it acts everywhere.",
      ),
      names,
      toolbar(tool, pick),
      stage,
      said,
      words.node,
      button("Clear all regions", { kind: "link", class: "ls-region-clear", onclick: clear }),
    );
  }

  // What had the focus before everything was drawn anew has it again.
  function refocus({ id, name } = {}) {
    if (id) stage.querySelector(`[data-id="${CSS.escape(id)}"]`)?.focus();
    if (name) names.querySelector(`[data-name="${CSS.escape(name)}"]`)?.focus();
  }

  function draw() {
    host.hidden = !shown();
    if (host.hidden) return swap(host);
    const list = rows();
    chosen = Math.min(chosen, list.length - 1);
    const focused = host.contains(document.activeElement)
      ? { ...document.activeElement.dataset }
      : {};
    if (!host.firstChild) build();
    swap(names, list.map(nameNode));
    swap(stage, list.map(shapeNode));
    const row = list[chosen];
    if (document.activeElement !== words.input) words.input.value = wordsOf(row);
    words.help.textContent = `There, ${row.title} is asked for these words instead of the whole prompt.`;
    return refocus(focused);
  }

  new MutationObserver(draw).observe(document.body, {
    attributes: true,
    attributeFilter: ["class"],
  });
  listMethods().then((found) => {
    methods = found;
    draw();
  }, draw);
  subscribe(draw);
  draw();
}
