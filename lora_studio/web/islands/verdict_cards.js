// What is proposed, and what the cards of the sources say together: licences and trigger words.

import { button, fixed, h, icon } from "./dom.js";
import { hueOf } from "./state.js";

const CALM = ["permissive"];
const NAMES = {
  permissive: "Permissive",
  use_limits: "With limits on use",
  share_alike: "Share alike",
  non_commercial: "Non-commercial",
  at_odds: "At odds",
  no_derivatives: "No derivatives",
  unknown: "Unknown",
};

const warning = (text) => h("p", { class: "ls-note is-warn" }, icon("warn"), h("span", null, text));

function proposal(found, act) {
  const { proposal: better, weights } = found;
  if (!better && !weights) return null;
  return h(
    "div",
    { class: "ls-verdict-proposals" },
    better
      ? h(
          "div",
          { class: "ls-verdict-proposal" },
          h("p", null, h("strong", null, better.title), " ", better.reason),
          button(`Use ${better.title}`, { onclick: () => act.use(better.method, better.params) }),
        )
      : null,
    weights
      ? h(
          "div",
          { class: "ls-verdict-proposal" },
          h(
            "p",
            null,
            h("strong", null, "Even weights"),
            " make the sum equally like all sources: ",
            weights.map((weight, place) =>
              h(
                "span",
                { class: "ls-verdict-weight", vars: { "--ls-hue": hueOf(found.sources[place].id) } },
                h("span", { class: "ls-swatch", "aria-hidden": "true" }),
                fixed(weight),
              ),
            ),
          ),
          button("Use these weights", { onclick: () => act.weigh(weights) }),
        )
      : null,
  );
}

function licence({ outcome, sentence, sources }) {
  const names = [...new Set(sources.map((one) => one.licence || "none"))].join(", ");
  return h(
    "div",
    { class: "ls-verdict-card" },
    h("h3", null, "Licence"),
    h(
      "p",
      { class: CALM.includes(outcome) ? "" : "ls-verdict-strict" },
      h("strong", null, NAMES[outcome] || outcome),
      ` · ${sentence}`,
    ),
    h(
      "p",
      { class: "ls-help ls-break" },
      `Named in the cards: ${names}. By the names alone; no legal advice. The base model’s terms come on top.`,
    ),
  );
}

function triggers({ words, collisions }) {
  return h(
    "div",
    { class: "ls-verdict-card" },
    h("h3", null, "Trigger words"),
    words.length
      ? h(
          "div",
          { class: "ls-tags" },
          words.map((word) => h("span", { class: "ls-tag", title: word }, word)),
        )
      : h("p", { class: "ls-help" }, "No source names any."),
    collisions.map(({ word, sources }) =>
      h(
        "p",
        { class: "ls-verdict-strict ls-small ls-break" },
        `“${word}” wakes ${sources.length} sources: ${sources.join(", ")}.`,
      ),
    ),
  );
}

// `clash` stands beside them where there is one.
export function cards(found, act, clash = null) {
  return [
    found.ready && !found.refused ? proposal(found, act) : null,
    (found.warnings || []).map(warning),
    h(
      "div",
      { class: `ls-verdict-cards ${clash ? "has-clash" : ""}` },
      clash,
      h(
        "div",
        { class: "ls-verdict-pair" },
        found.licence ? licence(found.licence) : null,
        found.triggers ? triggers(found.triggers) : null,
      ),
    ),
  ];
}
