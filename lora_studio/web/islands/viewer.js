// One picture large, with another of its row beside it under a divider that the pointer or the
// arrow keys move.

import { button, h, icon } from "./dom.js";
import { showDialog } from "./dialog.js";
import { imageAddress } from "./face.js";

const SMALL = 256; // pictures of fewer pixels a side may be looked at pixel by pixel

function divider(left, right, prompt) {
  const under = h("img", {});
  const over = h("img", {});
  const top = h("div", { class: "ls-slide-top" }, over);
  const line = h("span", { class: "ls-slide-line", "aria-hidden": "true" });
  const tags = ["left", "right"].map((side) =>
    h("span", { class: `ls-slide-tag is-${side}`, "aria-hidden": "true" }),
  );
  const range = h("input", {
    type: "range",
    class: "ls-slide-range",
    min: 0,
    max: 100,
    step: 1,
    value: 50,
    "aria-label": "Divider between the two pictures",
    oninput: () => place(),
  });
  const node = h("div", { class: "ls-slide" }, under, top, line, tags, range);
  function place() {
    top.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    line.style.left = `${range.value}%`;
    const said = `${range.value} % ${left.now.name}, the rest ${right.now.name}`;
    range.setAttribute("aria-valuetext", said);
  }
  function show() {
    [under, over].forEach((img, at) => {
      const { cell, name } = [left, right][at].now;
      img.src = imageAddress(cell.image);
      img.alt = [prompt, name].filter(Boolean).join(", ");
      tags[at].textContent = name;
    });
    place();
  }
  return { node, show, range, under };
}

function choice(label, cells, side, changed) {
  const select = h(
    "select",
    { class: "ls-select", "aria-label": `${label} picture` },
    cells.map((one, place) => h("option", { value: String(place) }, one.name)),
  );
  select.value = String(cells.indexOf(side.now));
  select.addEventListener("change", () => {
    side.now = cells[Number(select.value)];
    changed();
  });
  return h("label", { class: "ls-field" }, h("span", { class: "ls-label" }, label), select);
}

function save(side) {
  const label = h("span", null);
  const node = h("a", { class: "ls-btn ls-btn-plain", download: "" }, icon("download"), label);
  const draw = () => {
    node.href = imageAddress(side.now.cell.image);
    const name = side.now.name.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    node.setAttribute("download", `${name}-seed-${side.now.cell.seed}.png`);
    label.textContent = "Download PNG";
    node.setAttribute("title", side.now.name);
  };
  return { node, draw };
}

// A switch between smooth enlargement and bare pixels, once the picture turns out to be small.
function pixels(pair) {
  const toggle = h("input", {
    type: "checkbox",
    class: "ls-switch",
    onchange: () => pair.node.classList.toggle("is-pixels", toggle.checked),
  });
  const node = h("label", { class: "ls-inline ls-small", hidden: true }, toggle, "Show pixels");
  pair.under.addEventListener("load", () => {
    node.hidden = pair.under.naturalWidth >= SMALL;
  });
  return node;
}

export function openViewer(value, row, column) {
  const titles = value.columns.map((one, place) => one.title || (place ? one.kind : "Base model"));
  const cells = value.cells
    .filter((cell) => cell.prompt === row && cell.done && cell.image)
    .sort((a, b) => a.column - b.column)
    .map((cell) => ({ cell, name: cell.caption || titles[cell.column] }));
  const mine = cells.find((one) => one.cell.column === column);
  if (!mine) return;
  const left = { now: cells[0] === mine && cells.length > 1 ? cells[1] : cells[0] };
  const right = { now: mine };
  const prompt = value.grid ? value.prompt : value.prompts[row];
  const link = save(right);
  const pair = divider(left, right, prompt);
  const show = () => {
    pair.show();
    link.draw();
  };
  const picked = [choice("Left", cells, left, show), choice("Right", cells, right, show)];
  const swapped = button("Swap", {
    onclick: () => {
      [left.now, right.now] = [right.now, left.now];
      picked.forEach((node, place) => {
        const side = place ? right : left;
        node.querySelector("select").value = String(cells.indexOf(side.now));
      });
      show();
    },
  });
  showDialog({
    title: prompt || mine.name,
    kind: "wide",
    body: [
      h("p", { class: "ls-quiet ls-small" }, `seed ${mine.cell.seed}`),
      pair.node,
      cells.length > 1 ? h("div", { class: "ls-viewer-pair" }, picked, swapped) : null,
    ],
    footer: [link.node, pixels(pair)],
  });
  show();
  pair.range.focus();
}
