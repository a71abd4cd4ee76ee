// The columns of a comparison: base first and always, then what the visitor adds.

import { about, images } from "./bases.js";
import { button, h, icon, swap } from "./dom.js";
import { fits } from "./menu.js";
import { listMethods } from "./net.js";
import { addColumn, changed, hueOf, sameColumn, session, subscribe } from "./state.js";
import { toast } from "./toast.js";

const MOST = 8;
const LATEST = 12; // compositions in the menu

function candidates(methods) {
  const list = session.basket.map((row) => ({
    group: "Picked adapters",
    column: { kind: "adapter", id: row.id, title: row.title },
  }));
  const mine = session.made.filter((one) => !one.base || one.base === session.base);
  for (const made of mine.slice(0, LATEST)) {
    list.push({
      group: "Compositions",
      column: made.adapter_id
        ? { kind: "adapter", id: made.adapter_id, title: made.title, sources: made.sources }
        : {
            kind: "composition",
            recipe_id: made.recipe_id,
            title: made.title,
            sources: made.sources,
          },
    });
  }
  if (session.basket.length) {
    const kinds = images() ? ["merging", "denoising"] : ["routing"];
    for (const method of methods.filter((item) => kinds.includes(item.kind))) {
      if (!fits(method, about()).fits) continue;
      list.push({
        group: images() ? "Compositions of the basket" : "Routed over the basket",
        column: { kind: "method", method: method.name, title: method.title },
      });
    }
  }
  list.push({ group: "Control", column: { kind: "random", title: "Random adapter" } });
  for (const { id } of session.basket.slice(0, 1))
    list.push({ group: "Control", column: { kind: "noise", id, title: "Random numbers" } });
  return list.filter(({ column }) => !session.columns.some((other) => sameColumn(other, column)));
}

function chip(column) {
  const hue = column.kind === "adapter" ? hueOf(column.id) : "var(--ls-ink-soft)";
  const remove = () => {
    session.columns = session.columns.filter((other) => !sameColumn(other, column));
    changed();
  };
  return h(
    "span",
    { class: "ls-basket-item", vars: { "--ls-hue": hue } },
    h("span", { class: "ls-swatch", "aria-hidden": "true" }),
    h("span", { class: "ls-basket-title", title: column.title }, column.title),
    h(
      "button",
      {
        type: "button",
        class: "ls-basket-drop",
        "aria-label": `Remove column ${column.title}`,
        onclick: remove,
      },
      icon("close", 12),
    ),
  );
}

export function mount({ host }) {
  let methods = [];
  const draw = () => {
    const list = candidates(methods);
    const groups = [...new Set(list.map((item) => item.group))];
    const select = h(
      "select",
      {
        class: "ls-select ls-wide",
        "aria-label": "Add a column",
        disabled: session.columns.length >= MOST - 1,
      },
      h(
        "option",
        { value: "" },
        session.columns.length >= MOST - 1 ? "Eight columns at most" : "Add a column…",
      ),
      groups.map((group) =>
        h(
          "optgroup",
          { label: group },
          list.map((item, place) =>
            item.group === group ? h("option", { value: String(place) }, item.column.title) : null,
          ),
        ),
      ),
    );
    select.addEventListener("change", () => {
      if (select.value !== "" && !addColumn(list[Number(select.value)].column))
        toast("Eight columns at most.");
    });
    const fill =
      !session.columns.length && session.basket.length
        ? button("Use the basket", {
            kind: "link",
            onclick: () =>
              session.basket
                .slice(0, MOST - 1)
                .forEach((row) => addColumn({ kind: "adapter", id: row.id, title: row.title })),
          })
        : null;
    swap(
      host,
      h("div", { class: "ls-label" }, "Columns"),
      h(
        "div",
        { class: "ls-basket-rows ls-columns-list" },
        h(
          "span",
          { class: "ls-basket-item is-fixed", title: "Always the first column" },
          h("span", { class: "ls-swatch" }),
          h("span", { class: "ls-basket-title" }, "Base model"),
        ),
        session.columns.map(chip),
        fill,
      ),
      select,
    );
  };
  listMethods().then((found) => {
    methods = found;
    draw();
  }, draw);
  subscribe(draw);
  draw();
}
