// Methods side by side: what each would keep of every source, at what size and in what time.

import { button, bytes, fixed, h, percent } from "./dom.js";
import { addColumn, hueOf, openTab } from "./state.js";
import { toast } from "./toast.js";

const HOW = {
  exact: ["", "Exact"],
  sampled: ["≈ ", "From some of the modules"],
  estimate: ["≈ ", "An estimate: it looks at single entries, which are not kept"],
  expected: ["± ", "One standard deviation around 0"],
};

const FIGURES = [
  ["Strength", "Norm of the result over the mean norm of the sources"],
  ["Rank", "Of the result’s modules"],
  ["Size", "Of the saved weights"],
  ["Time", "An estimate for this machine"],
];

function time(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 1) return "< 1 s";
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

const rankOf = (rank) => {
  if (!rank) return "–";
  return rank.min === rank.max ? String(rank.max) : `${rank.min}–${rank.max}`;
};

function cell(row, place, source) {
  const cosine = row.cosines[place];
  const [mark, why] = HOW[row.how] || ["", ""];
  const digits = row.how === "expected" ? 4 : 2;
  const wide = `${Math.round(100 * Math.min(1, Math.abs(cosine)))}%`;
  return h(
    "td",
    { class: "ls-verdict-cell", title: why, vars: { "--ls-hue": hueOf(source.id) } },
    h("span", { class: "ls-num" }, `${mark}${fixed(cosine, digits)}`),
    h(
      "span",
      { class: "ls-verdict-bar", "aria-hidden": "true" },
      h("span", { style: { width: wide } }),
    ),
    h("span", { class: "ls-quiet ls-small" }, percent(row.kept[place])),
  );
}

function head(row, found, act) {
  const chosen = row.name === found.chosen;
  const usable = row.kind !== "control" && row.how !== "refused" && !chosen;
  return h(
    "th",
    { scope: "row", class: "ls-verdict-name" },
    h(
      "span",
      { class: "ls-verdict-title" },
      h("span", null, row.title),
      chosen ? h("span", { class: "ls-tag ls-tag-kind" }, "chosen") : null,
      usable
        ? button("Use", {
            kind: "link",
            "aria-label": `Use ${row.title}`,
            onclick: () => act.use(row.name, row.params),
          })
        : null,
    ),
    h("span", { class: "ls-verdict-why" }, row.reason || row.note),
  );
}

function line(row, found, act) {
  const chosen = row.name === found.chosen ? "is-chosen" : "";
  const figures = [
    h("td", { class: "ls-right" }, Number.isFinite(row.norm) ? `${fixed(row.norm, 1)} ×` : "–"),
    h("td", { class: "ls-right" }, rankOf(row.rank)),
    h("td", { class: "ls-right ls-nowrap" }, bytes(row.bytes ?? NaN)),
    h("td", { class: "ls-right ls-nowrap" }, time(row.seconds)),
  ];
  return h(
    "tr",
    { class: chosen, "data-method": row.name, "data-how": row.how },
    head(row, found, act),
    found.sources.map((source, place) => cell(row, place, source)),
    figures,
  );
}

// Methods that statistics tell nothing of: by reason, as a list.
function untold(rows, found, act) {
  const reasons = new Map();
  for (const row of rows) reasons.set(row.note, [...(reasons.get(row.note) || []), row]);
  const name = (row) =>
    row.how === "refused" || row.name === found.chosen
      ? h("span", { class: "ls-strong" }, row.title)
      : button(row.title, {
          kind: "link",
          "aria-label": `Use ${row.title}`,
          onclick: () => act.use(row.name, row.params),
        });
  return h(
    "details",
    { class: "ls-verdict-untold" },
    h("summary", null, `${rows.length} more that only a run can tell of`),
    [...reasons].map(([note, members]) =>
      h(
        "p",
        { class: "ls-break" },
        members.map((row) => [name(row), " "]),
        h("span", { class: "ls-quiet" }, note),
      ),
    ),
  );
}

function controls(found) {
  const single = found.controls.find((row) => row.name.startsWith("single:"));
  const best = single && found.sources[Number(single.name.slice(7))];
  if (!best) return null;
  return button(
    "Add controls to Compare",
    {
      class: "ls-verdict-controls",
      onclick: () => {
        const added = [
          addColumn({ kind: "adapter", id: best.id, title: best.title }),
          addColumn({ kind: "noise", id: best.id, title: "Random numbers" }),
        ];
        toast(
          added.some(Boolean)
            ? "The best single adapter and random numbers of its size are columns of Compare now."
            : "They are columns of Compare already.",
          { action: { label: "Open Compare", run: () => openTab("compare") } },
        );
      },
    },
    "plus",
  );
}

export function methodTable(found, act) {
  const ranked = found.methods.filter((row) => row.cosines);
  const others = found.methods.filter((row) => !row.cosines);
  const width = found.sources.length + 5;
  const group = (title) =>
    h("tr", { class: "ls-table-group" }, h("th", { colspan: width, scope: "colgroup" }, title));
  const tried =
    found.tried < found.modules
      ? ` ≈ stands for figures from ${found.tried} of ${found.modules} modules, or estimates.`
      : " ≈ stands for an estimate.";
  return h(
    "section",
    { class: "ls-section ls-verdict-methods" },
    h("h3", null, "What each method keeps"),
    h(
      "p",
      { class: "ls-help" },
      "Cosine of the result to each source; below, how much of the source’s energy lies within the result’s spaces. First is what is least unlike its weakest source: a hint, not a promise.",
      tried,
    ),
    h(
      "div",
      { class: "ls-scroll" },
      h(
        "table",
        { class: "ls-table ls-verdict-table" },
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { class: "ls-verdict-name" }, "Method"),
            found.sources.map((source) =>
              h(
                "th",
                {
                  class: "ls-verdict-source",
                  title: source.title,
                  vars: { "--ls-hue": hueOf(source.id) },
                },
                h(
                  "span",
                  { class: "ls-verdict-head-source" },
                  h("span", { class: "ls-swatch", "aria-hidden": "true" }),
                  h("span", null, source.title),
                ),
              ),
            ),
            FIGURES.map(([name, why]) =>
              h("th", { class: "ls-right ls-verdict-figure", title: why }, name),
            ),
          ),
        ),
        h("tbody", null, ranked.map((row) => line(row, found, act))),
        h(
          "tbody",
          null,
          group("Controls: what a merge must be better than"),
          found.controls.map((row) => line(row, found, act)),
        ),
      ),
    ),
    others.length ? untold(others, found, act) : null,
    found.left ? h("p", { class: "ls-help", role: "status" }, `${found.left} more to try …`) : null,
    controls(found),
  );
}
