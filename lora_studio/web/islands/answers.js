// The texts of a comparison: a column a model, a block a prompt; differences can be marked.

import { button, fixed, h, icon, saveAs, swap } from "./dom.js";
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

// Who answered a prompt of a routed column: weight, or that the router decides, and likeness.
function answeredBy(by) {
  if (!by.length) return "By the base model: no adapter was near enough";
  const said = ([title, weight, near]) => {
    const facts = [
      weight === null ? null : `weight ${fixed(weight)}`,
      near === null ? null : `likeness ${fixed(near)}`,
    ].filter(Boolean);
    return facts.length ? `${title} (${facts.join(", ")})` : title;
  };
  return `By ${by.map(said).join("; ")}${by.some(([, weight]) => weight === null) ? "; weighed token by token" : ""}`;
}

const quoted = (value) => `"${String(value).replace(/^([=+\-@\t\r])/, "'$1").replace(/"/g, '""')}"`;

// All answers as a table for other programs; a leading sign is quoted, so that no sheet runs it.
function asCsv(value) {
  const heads = headsOf(value);
  const rows = (value.cells || [])
    .filter((one) => one.done)
    .sort((a, b) => a.prompt - b.prompt || a.column - b.column)
    .map((one) => [
      value.prompts[one.prompt],
      heads[one.column].title,
      one.text,
      one.tokens,
      (one.by || []).map(([title]) => title).join("; "),
      (one.by || []).map(([, weight]) => (weight === null ? "by token" : weight)).join("; "),
    ]);
  const names = ["prompt", "column", "output", "tokens", "adapters", "weights"];
  return [names, ...rows].map((row) => row.map(quoted).join(",")).join("\r\n");
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
      place && done && text && !view.running && !(info.by && !info.by.length)
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
    info.by ? h("p", { class: "ls-cell-by", title: "Who answered" }, answeredBy(info.by)) : null,
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
    const saveCsv = () => saveAs(new Blob([asCsv(value)], { type: "text/csv" }), "comparison.csv");
    const save =
      value.running || !(value.cells || []).length
        ? null
        : button("CSV", { title: "All answers as a table", onclick: saveCsv }, "download");
    swap(bar, label, speed, save);
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
