// The report card of an adapter: what its weights are like, where they came from, and who is alike.

import { count, fixed, h, icon, table } from "./dom.js";

const number = (x) => (Math.abs(x) >= 0.01 || x === 0 ? fixed(x) : x.toExponential(1));

function spreadOfRanks(ranks) {
  const each = ranks.flatMap(([rank, modules]) => Array(modules).fill(rank));
  if (!each.length) return [];
  return [each[0], each[Math.floor((each.length - 1) / 2)], each[each.length - 1]];
}

function row(name, hint, values, show = number) {
  if (!(values || []).length) return null;
  return h(
    "tr",
    null,
    h("td", { title: hint }, name),
    values.map((value) => h("td", { class: "ls-right" }, show(value))),
  );
}

const tally = (counts) =>
  Object.entries(counts || {})
    .map(([name, times]) => `${name}\u00a0${times}×`)
    .join(", ");

function units(card) {
  const idle = card.zero_units + card.dead_units;
  if (!Number.isFinite(idle)) return "";
  return idle
    ? `${count(card.units)}, of which ${count(idle)} do nothing`
    : `${count(card.units)}, all of them used`;
}

function line(name, value) {
  return value ? h("div", { class: "ls-fact" }, h("dt", null, name), h("dd", null, value)) : null;
}

function twin(other, open) {
  const what =
    other.kind === "exact" ? "same weights" : `${fixed(other.strength)}× as strong, nearly the same`;
  return h(
    "button",
    { type: "button", class: "ls-relative", onclick: () => open(other.id) },
    h("span", { class: "ls-relative-title" }, other.title),
    h("span", { class: "ls-quiet ls-small" }, what),
    h("span", { class: "ls-num ls-quiet", title: "Cosine of the two updates" }, fixed(other.cosine, 3)),
  );
}

// `card` is what the server measured, `twins` the adapters that are the same or nearly.
export function reportCard(card, twins, open) {
  if (!card || !card.units) return null;
  const family = [card.family, ...(card.evidence || [])].filter(Boolean);
  return [
    table(
      ["By module", "Least", "Median", "Most"],
      1,
      h(
        "tbody",
        null,
        row("Rank", "Rank-one units of a module", spreadOfRanks(card.ranks || []), String),
        row(
          card.alpha_is_rank ? "Alpha (is the rank)" : "Alpha",
          "As the file had it; it is folded into the weights here",
          card.alpha,
        ),
        row("Norm", "Frobenius norm of the update", card.norm),
        row(
          "Directions used",
          "Effective rank: how many equal directions would spread the update as widely",
          card.effective_rank,
          (value) => fixed(value, 1),
        ),
      ),
    ),
    h(
      "dl",
      { class: "ls-facts" },
      line("Rank-one units", units(card)),
      line("Layers", tally(card.layers)),
      line("Made for", family.join(" · ")),
      Object.keys(card.kinds || {}).length > 1 ? line("Kinds", tally(card.kinds)) : null,
    ),
    (card.labels || []).map((label) =>
      h("p", { class: "ls-note is-warn" }, icon("warn"), h("span", null, label)),
    ),
    (card.notes || []).map((note) => h("p", { class: "ls-quiet ls-small" }, note)),
    (twins || []).length
      ? h(
          "div",
          { class: "ls-relatives" },
          h("p", { class: "ls-small" }, "The same or nearly the same update:"),
          twins.map((other) => twin(other, open)),
        )
      : null,
  ];
}
