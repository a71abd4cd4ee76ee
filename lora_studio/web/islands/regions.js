// Where in the picture each adapter acts: boxes drawn by pointer, moved and resized by arrow keys.

import { button, h, swap } from "./dom.js";
import { changed, hueOf, session, subscribe } from "./state.js";

const STEP = 0.02;
const KEYS = "Arrows move it, Shift and arrows resize it, Delete clears it.";
const LEAST = 0.04; // side of the smallest box
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const clamp = (value, low = 0, high = 1) => Math.min(Math.max(value, low), high);
const round = (value) => Math.round(value * 1000) / 1000;
const boxOf = (row) => (row.region || {}).box || null;

function describe(row) {
  const box = boxOf(row);
  if (!box) return `${row.title} acts everywhere`;
  const [x0, y0, x1, y1] = box.map((side) => Math.round(100 * side));
  return `${row.title} acts from ${x0} to ${x1} % across and ${y0} to ${y1} % down`;
}

// The arrows move a box; with Shift they move its lower right corner.
function nudged([x0, y0, x1, y1], [dx, dy], resize) {
  if (resize)
    return [x0, y0, clamp(x1 + dx * STEP, x0 + LEAST), clamp(y1 + dy * STEP, y0 + LEAST)];
  const mx = clamp(dx * STEP, -x0, 1 - x1);
  const my = clamp(dy * STEP, -y0, 1 - y1);
  return [x0 + mx, y0 + my, x1 + mx, y1 + my];
}

export function mount({ host }) {
  let chosen = 0;
  let drag = null;
  const said = h("p", { class: "ls-help", "aria-live": "polite" });
  const stage = h("div", { class: "ls-region-stage" });
  const names = h("div", { class: "ls-actions", role: "radiogroup", "aria-label": "Adapter" });

  const rows = () => session.basket.filter((row) => row.enabled);
  const shown = () => session.draft.method === "regional" && rows().length > 0;

  function put(row, box) {
    row.region = box ? { box: box.map(round) } : {};
    said.textContent = describe(row);
    changed();
  }

  function boxNode(row, place) {
    const [x0, y0, x1, y1] = boxOf(row).map((side) => 100 * side);
    const node = h(
      "button",
      {
        type: "button",
        class: `ls-region ${place === chosen ? "is-on" : ""}`,
        "data-id": row.id,
        "aria-label": `${describe(row)}. ${KEYS}`,
        style: { left: `${x0}%`, top: `${y0}%`, width: `${x1 - x0}%`, height: `${y1 - y0}%` },
        vars: { "--ls-hue": hueOf(row.id) },
        onfocus: () => {
          chosen = place;
        },
        onkeydown: (event) => {
          const move = MOVES[event.key];
          if (move) put(row, nudged(boxOf(row), move, event.shiftKey));
          else if (event.key === "Delete" || event.key === "Backspace") put(row, null);
          else return;
          event.preventDefault();
        },
      },
      h("span", { class: "ls-region-name" }, row.title),
    );
    return node;
  }

  const spot = (event) => {
    const box = stage.getBoundingClientRect();
    return [
      clamp((event.clientX - box.left) / box.width),
      clamp((event.clientY - box.top) / box.height),
    ];
  };

  function pull(event) {
    const row = rows()[chosen];
    const [x, y] = spot(event);
    if (drag.grip) {
      const [x0, y0, x1, y1] = drag.box;
      const mx = clamp(x - drag.at[0], -x0, 1 - x1);
      const my = clamp(y - drag.at[1], -y0, 1 - y1);
      put(row, [x0 + mx, y0 + my, x1 + mx, y1 + my]);
      return;
    }
    const sides = [drag.at[0], drag.at[1], x, y];
    const [x0, x1] = [sides[0], sides[2]].sort((a, b) => a - b);
    const [y0, y1] = [sides[1], sides[3]].sort((a, b) => a - b);
    if (x1 - x0 >= LEAST && y1 - y0 >= LEAST) put(row, [x0, y0, x1, y1]);
  }

  stage.addEventListener("pointerdown", (event) => {
    const held = event.target.closest(".ls-region");
    if (held) chosen = Math.max(0, rows().findIndex((row) => row.id === held.dataset.id));
    const row = rows()[chosen];
    drag = { at: spot(event), grip: Boolean(held), box: held ? boxOf(row) : null };
    stage.setPointerCapture(event.pointerId);
    draw();
  });
  stage.addEventListener("pointermove", (event) => {
    if (drag && event.buttons) pull(event);
  });
  stage.addEventListener("pointerup", () => {
    drag = null;
  });

  function draw() {
    host.hidden = !shown();
    if (host.hidden) return swap(host);
    const list = rows();
    chosen = Math.min(chosen, list.length - 1);
    const focused = document.activeElement?.closest?.(".ls-region")?.dataset.id;
    swap(
      names,
      list.map((row, place) =>
        h(
          "button",
          {
            type: "button",
            role: "radio",
            class: `ls-legend-item ${place === chosen ? "is-on" : ""}`,
            "aria-checked": String(place === chosen),
            vars: { "--ls-hue": hueOf(row.id) },
            onclick: () => {
              chosen = place;
              if (!boxOf(row)) put(row, [0.25, 0.25, 0.75, 0.75]);
              draw();
            },
          },
          h("span", { class: "ls-swatch", "aria-hidden": "true" }),
          h("span", { class: "ls-legend-title" }, row.title),
        ),
      ),
    );
    swap(stage, list.map((row, place) => (boxOf(row) ? boxNode(row, place) : null)));
    if (!host.firstChild)
      swap(
        host,
        h("div", { class: "ls-label" }, "Regions"),
        h(
          "p",
          { class: "ls-help" },
          "Choose an adapter and drag a box. An adapter without a box acts everywhere.",
        ),
        names,
        stage,
        said,
        button("Clear boxes", {
          kind: "link",
          class: "ls-region-clear",
          onclick: () => {
            rows().forEach((row) => (row.region = {}));
            said.textContent = "Every adapter acts everywhere.";
            changed();
          },
        }),
      );
    if (focused) stage.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
    return undefined;
  }
  subscribe(draw);
  draw();
}
