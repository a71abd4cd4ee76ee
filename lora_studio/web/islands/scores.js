// Test prompts: how often each column was exactly right, with its 95 % interval.

import { h, percent, swap } from "./dom.js";

export function interval(row) {
  return h(
    "span",
    {
      class: "ls-interval",
      role: "img",
      "aria-label": `${percent(row.rate)}, 95 % interval ${percent(row.low)} to ${percent(row.high)}`,
    },
    h("span", { class: "ls-interval-fill", style: { width: `${100 * row.rate}%` } }),
    h("span", {
      class: "ls-interval-range",
      style: { left: `${100 * row.low}%`, width: `${Math.max(0.5, 100 * (row.high - row.low))}%` },
    }),
  );
}

export function mount({ host, props, watch }) {
  const draw = () => {
    const { rows } = props.value || {};
    if (!rows) return swap(host);
    const suites = [...new Set(rows.map((row) => row.suite))];
    swap(
      host,
      h(
        "section",
        { class: "ls-scores-panel" },
        h("h2", { class: "ls-step" }, "Test prompts"),
        h(
          "p",
          { class: "ls-help" },
          "Answers that match exactly, on prompts kept out of training. The thin bar is the 95 % interval: where bars overlap much, the difference may be chance.",
        ),
        h(
          "div",
          { class: "ls-scroll" },
          h(
            "table",
            { class: "ls-table" },
            h(
              "thead",
              null,
              h(
                "tr",
                null,
                h("th", null, "Column"),
                h("th", { class: "ls-right" }, "Right"),
                h("th", { class: "ls-right" }, "Rate"),
                h("th", null, "95 % interval"),
                h("th", null, ""),
              ),
            ),
            suites.map((suite) =>
              h(
                "tbody",
                null,
                h(
                  "tr",
                  { class: "ls-table-group" },
                  h("th", { colspan: 5, scope: "rowgroup" }, suite),
                ),
                rows
                  .filter((row) => row.suite === suite)
                  .map((row) =>
                    h(
                      "tr",
                      null,
                      h("td", null, row.title),
                      h("td", { class: "ls-right" }, `${row.correct} / ${row.n}`),
                      h("td", { class: "ls-right ls-strong" }, percent(row.rate)),
                      h("td", { class: "ls-interval-cell" }, interval(row)),
                      h(
                        "td",
                        { class: "ls-right ls-quiet" },
                        `${percent(row.low)} – ${percent(row.high)}`,
                      ),
                    ),
                  ),
              ),
            ),
          ),
        ),
      ),
    );
    host.dataset.ready = String(rows.length);
    return undefined;
  };
  watch("value", draw);
  draw();
}
