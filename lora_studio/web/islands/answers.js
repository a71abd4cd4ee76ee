// The texts of a comparison: a column a model, a block a prompt; differences can be marked.

import { button, fixed, h, icon, swap } from "./dom.js";
import { wordDiff } from "./diff.js";
import { headsOf } from "./sheet.js";
import { hueOf, session } from "./state.js";

function marked(text, base) {
  return wordDiff(base, text).map(({ text: part, same }) => (same ? part : h("mark", null, part)));
}

function hue(column) {
  const match = session.columns.find(
    (other) => other.title === column.title && other.kind === "adapter",
  );
  return match ? hueOf(match.id) : "var(--ls-ink-soft)";
}

function cell(view, column, place, text, info) {
  const base = view.texts.get(`${info.prompt}:0`);
  const done = info.done || !view.running;
  const body = place && view.diff && base && base.done ? marked(text, base.text || "") : text;
  return h(
    "div",
    {
      class: `ls-cell ${done ? "is-done" : "is-live"}`,
      "data-prompt": info.prompt,
      "data-column": place,
      vars: { "--ls-hue": place ? hue(column) : "var(--ls-ink-soft)" },
    },
    h(
      "div",
      { class: "ls-cell-head" },
      h("span", { class: "ls-swatch", "aria-hidden": "true" }),
      h("span", { class: "ls-cell-title", title: column.title }, column.title),
      h(
        "span",
        { class: "ls-quiet ls-small" },
        done ? icon("check", 12) : null,
        ` ${info.tokens || 0} tok`,
      ),
      place && done && text && !view.running
        ? button("", {
            kind: "icon",
            class: "ls-explain",
            "aria-label": `Who spoke in the answer of ${column.title}`,
            title: "Who spoke at each word",
            onclick: () => view.explain(info.prompt, place),
          }, "layers")
        : null,
    ),
    column.detail ? h("p", { class: "ls-cell-detail" }, column.detail) : null,
    h(
      "p",
      { class: "ls-cell-text" },
      text ? body : h("span", { class: "ls-quiet" }, done ? "(nothing)" : "…"),
    ),
  );
}

export function answers(host, explain) {
  let last = {};
  const toggle = h("input", {
    type: "checkbox",
    class: "ls-switch",
    checked: true,
    id: "ls-diff",
    onchange: () => draw(last),
  });
  const label = h("label", { for: "ls-diff", class: "ls-inline" }, toggle);
  label.append("Mark what differs from the base");
  const bar = h("div", { class: "ls-compare-bar" });

  function draw(value) {
    last = value;
    const texts = new Map((value.cells || []).map((c) => [`${c.prompt}:${c.column}`, c]));
    const columns = headsOf(value);
    const view = { texts, running: value.running, diff: toggle.checked, explain };
    const speed = Number.isFinite(value.tokens_per_second)
      ? h(
          "span",
          { class: "ls-quiet ls-speed" },
          `${fixed(value.tokens_per_second, 0)} tokens/s for the whole batch · `,
          `${fixed(value.seconds, 1)} s`,
        )
      : null;
    swap(bar, label, speed);
    swap(
      host,
      bar,
      value.prompts.map((prompt, number) =>
        h(
          "section",
          { class: "ls-prompt" },
          h("h3", { class: "ls-prompt-text" }, prompt),
          h(
            "div",
            { class: "ls-cells", vars: { "--ls-columns": String(columns.length) } },
            columns.map((column, place) => {
              const empty = { text: "", tokens: 0, done: false };
              const info = { ...(texts.get(`${number}:${place}`) || empty), prompt: number };
              return cell(view, column, place, info.text || "", info);
            }),
          ),
        ),
      ),
    );
  }
  return draw;
}
