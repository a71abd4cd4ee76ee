// One picture large, with another of its row beside it under a divider that the pointer or the
// arrow keys move.

import { button, h, icon } from "./dom.js";
import { showDialog } from "./dialog.js";
import { imageAddress } from "./face.js";

function divider(left, right) {
  const under = h("img", { alt: "" });
  const over = h("img", { alt: "" });
  const top = h("div", { class: "ls-slide-top" }, over);
  const line = h("span", { class: "ls-slide-line", "aria-hidden": "true" });
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
  const node = h("div", { class: "ls-slide" }, under, top, line, range);
  function place() {
    top.style.clipPath = `inset(0 0 0 ${range.value}%)`;
    line.style.left = `${range.value}%`;
    range.setAttribute("aria-valuetext", `${range.value} % ${left.now.name}, the rest ${right.now.name}`);
  }
  function show() {
    under.src = imageAddress(left.now.cell.image);
    over.src = imageAddress(right.now.cell.image);
    place();
  }
  return { node, show, range };
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
  const node = h("a", { class: "ls-btn ls-btn-plain", download: "" }, icon("download"));
  node.append(h("span", null, "Download PNG"));
  const draw = () => {
    node.href = imageAddress(side.now.cell.image);
    const name = side.now.name.toLowerCase().replace(/[^a-z0-9]+/g, "-");
    node.setAttribute("download", `${name}-seed-${side.now.cell.seed}.png`);
  };
  return { node, draw };
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
  const link = save(right);
  const pair = divider(left, right);
  const show = () => {
    pair.show();
    link.draw();
  };
  const picked = [choice("Left", cells, left, show), choice("Right", cells, right, show)];
  const prompt = value.grid ? value.prompt : value.prompts[row];
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
    title: mine.name,
    kind: "wide",
    body: [
      h(
        "p",
        { class: "ls-quiet ls-small" },
        [prompt, `seed ${mine.cell.seed}`].filter(Boolean).join(" · "),
      ),
      pair.node,
      cells.length > 1 ? h("div", { class: "ls-viewer-pair" }, picked, swapped) : null,
    ],
    footer: [link.node],
  });
  show();
  pair.range.focus();
}
