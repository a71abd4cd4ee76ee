// Where the adapters get into each other's way: kinds of layers down, depth across.

import { images } from "./bases.js";
import { h, percent } from "./dom.js";
import { blockOf, blockOrder } from "./plan.js";

const MEASURES = [
  ["stake", "At stake", "Share of all energy that others write over, on the inputs it acts on."],
  ["inputs", "Shared inputs", "How far they read the same directions: 0 none, 100 % all."],
  ["outputs", "Shared outputs", "How far they write to the same directions."],
  ["signs", "Opposite signs", "Share of entries that pull against each other; unrelated ones: 50 %."],
  ["energy", "Energy", "Where the updates are large."],
];
const SUMMED = ["stake", "energy"];
let chosen = "stake";

const leaf = (name) => {
  const named = name.split(".").filter((part) => !/^\d+$/.test(part));
  return named.slice(images() ? -2 : -1).join(".");
};
const depth = (name) => (images() ? blockOf(name) : (name.match(/\.(\d+)\./) || ["", "–"])[1]);

// {rows, columns, value(row, column)}: modules of one kind and depth together.
function grid(modules, measure) {
  const cells = new Map();
  for (const one of modules) {
    const key = `${leaf(one.module)} ${depth(one.module)}`;
    const cell = cells.get(key) || { value: 0, energy: 0, count: 0 };
    const weight = SUMMED.includes(measure) ? 1 : one.energy || 1e-12;
    cell.value += weight * one[measure];
    cell.energy += weight;
    cells.set(key, cell);
  }
  const rows = [...new Set(modules.map((one) => leaf(one.module)))].sort();
  const columns = [...new Set(modules.map((one) => depth(one.module)))].sort(
    images() ? blockOrder : (a, b) => Number(a) - Number(b),
  );
  const value = (row, column) => {
    const cell = cells.get(`${row} ${column}`);
    if (!cell) return NaN;
    return SUMMED.includes(measure) ? cell.value : cell.value / cell.energy;
  };
  return { rows, columns, value };
}

const short = (name) =>
  name
    .replace(/_blocks?\b\.?/, "")
    .replace(/^(down|up|mid)/, (word) => word[0])
    .replace(/^text_encoder_?/, "te");

function strip(modules, measure, title) {
  const { rows, columns, value } = grid(modules, measure);
  const values = rows.flatMap((row) => columns.map((column) => value(row, column)));
  const real = values.filter(Number.isFinite);
  const [least, most] = [Math.min(...real), Math.max(...real)];
  const from = measure === "signs" ? least : 0;
  const shade = (x) => (most > from ? Math.round((100 * (x - from)) / (most - from)) : 0);
  const every = Math.ceil(columns.length / 16);
  return h(
    "div",
    { class: "ls-scroll" },
    h(
      "div",
      {
        class: "ls-heat",
        role: "img",
        "aria-label": `${title} in ${rows.length} kinds of layers, from ${percent(least)} to ${percent(most)}`,
        vars: { "--ls-columns": String(columns.length) },
      },
      rows.map((row) => [
        h("span", { class: "ls-heat-name", title: row }, row),
        columns.map((column) => {
          const x = value(row, column);
          const known = Number.isFinite(x);
          const words = `${row}, ${images() ? "block" : "layer"} ${column}: ${percent(x)}`;
          return h("span", {
            class: `ls-heat-cell ${known ? "" : "is-none"}`,
            title: known ? words : "",
            vars: { "--ls-share": `${known ? shade(x) : 0}%` },
          });
        }),
      ]),
      h("span", { class: "ls-heat-name" }),
      columns.map((column, place) =>
        h("span", { class: "ls-heat-depth" }, place % every ? "" : short(String(column))),
      ),
    ),
  );
}

export function heat(conflict) {
  const place = h("div");
  const help = h("p", { class: "ls-help" });
  const draw = () => {
    const [, title, words] = MEASURES.find(([name]) => name === chosen);
    help.textContent = words;
    place.replaceChildren(strip(conflict.modules, chosen, title));
  };
  if (!conflict.modules.length)
    return h(
      "section",
      { class: "ls-section" },
      h("h3", null, "Conflict"),
      h("p", { class: "ls-help" }, "No module is in two of these adapters: nothing can clash."),
    );
  const section = h(
    "section",
    { class: "ls-section ls-verdict-conflict" },
    h("h3", null, "Conflict, module by module"),
    h(
      "div",
      { class: "ls-heat-measures", role: "radiogroup", "aria-label": "Measure" },
      MEASURES.map(([name, title]) =>
        h(
          "label",
          { class: "ls-heat-measure" },
          h("input", {
            type: "radio",
            name: "ls-heat-measure",
            checked: name === chosen,
            onchange: () => {
              chosen = name;
              draw();
            },
          }),
          h("span", null, title),
          name === "energy" ? null : h("strong", { class: "ls-num" }, percent(conflict[name])),
        ),
      ),
    ),
    help,
    place,
  );
  draw();
  return section;
}
