// What blind votes on this base model came to: how often each column was best, with its interval.

import { h, percent, swap } from "./dom.js";
import { images } from "./bases.js";
import { getJson } from "./net.js";
import { interval } from "./scores.js";
import { session, subscribe } from "./state.js";

function table(ballot) {
  const decided = ballot.votes.filter((vote) => vote.best.length).length;
  const day = String(ballot.created).slice(0, 10);
  return h(
    "tbody",
    null,
    h(
      "tr",
      { class: "ls-table-group" },
      h("th", { colspan: 5, scope: "rowgroup" }, `${decided} rows judged on ${day}`),
    ),
    ballot.tally.map((row) =>
      h(
        "tr",
        null,
        h("td", null, row.title),
        h("td", { class: "ls-right" }, `${row.correct} / ${row.n}`),
        h("td", { class: "ls-right ls-strong" }, percent(row.rate)),
        h("td", { class: "ls-interval-cell" }, interval(row)),
        h("td", { class: "ls-right ls-quiet" }, `${percent(row.low)} – ${percent(row.high)}`),
      ),
    ),
  );
}

const HEADS = [
  ["Column", ""],
  ["Best", "ls-right"],
  ["Rate", "ls-right"],
  ["95 % interval", ""],
  ["", ""],
];

const head = ([name, kind]) => h("th", { class: kind }, name);

export function mount({ host }) {
  let asked = null;

  async function load() {
    asked = session.base;
    const found = await getJson("api/votes", { base: session.base }).catch(() => []);
    if (asked !== session.base || !found.length || !images()) return swap(host);
    host.dataset.ready = String(found.length);
    return swap(
      host,
      h(
        "section",
        { class: "ls-scores-panel ls-ballots-panel" },
        h("h2", { class: "ls-step" }, "Blind votes"),
        h(
          "p",
          { class: "ls-help" },
          "How often a column was chosen as best while titles were hidden; equally good counts " +
            "for each. Where intervals overlap much, the difference may be chance.",
        ),
        h(
          "div",
          { class: "ls-scroll" },
          h(
            "table",
            { class: "ls-table" },
            h("thead", null, h("tr", null, HEADS.map(head))),
            found.map(table),
          ),
        ),
      ),
    );
  }

  let shown = null;
  const follow = () => {
    const now = `${session.base} ${images()}`;
    if (!session.restored || now === shown) return;
    shown = now;
    load();
  };
  subscribe(follow);
  follow();
  document.addEventListener("ls-votes-changed", load);
}
