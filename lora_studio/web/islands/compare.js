// The comparison, of texts or of pictures, and the blind vote over the latter.

import { answers } from "./answers.js";
import { images } from "./bases.js";
import { empty, h, percent, swap } from "./dom.js";
import { made, sheet, voteButton } from "./sheet.js";
import { session, subscribe } from "./state.js";
import { ballotOf, vote } from "./vote.js";

function tally(told) {
  const best = [...told.tally].sort((a, b) => b.rate - a.rate)[0];
  return h(
    "p",
    { class: "ls-note ls-verdict", role: "status" },
    `“${best.title}” was best in ${best.correct} of ${best.n} rows `,
    `(${percent(best.rate)}, 95 % interval ${percent(best.low)} to ${percent(best.high)}). `,
    "All figures stand below.",
  );
}

export function mount({ host, props, trigger, watch }) {
  const bar = h("div", { class: "ls-compare-bar" });
  const room = h("div", { class: "ls-sheet" });
  const texts = h("div", { class: "ls-answers" });
  const drawTexts = answers(texts, (prompt, column) => {
    props.value = { ...props.value, asked: { prompt, column } };
    trigger("explain");
  });
  const drawSheet = sheet(room);
  let voting = false;
  let verdict = null;
  let judged = null; // the value that the verdict is on

  function startVote(value) {
    const ballot = ballotOf(value);
    if (!ballot) return;
    voting = true;
    swap(bar);
    const place = h("div");
    swap(host, place);
    vote(place, ballot, (told) => {
      voting = false;
      verdict = told;
      judged = value.serial;
      draw();
    });
  }

  function pictures(value) {
    if (voting && !value.running) return;
    voting = false;
    if (value.running || judged !== value.serial) verdict = null;
    swap(
      bar,
      ballotOf(value)
        ? voteButton(() => startVote(value))
        : h("span", { class: "ls-prompt-text" }, value.grid ? value.prompt : ""),
      h("span", { class: "ls-quiet ls-speed" }, made(value)),
    );
    swap(host, bar, verdict ? tally(verdict) : null, room);
    drawSheet(value, verdict ? verdict.chosen : undefined);
  }

  function nothing() {
    const how = images()
      ? "Type a prompt and press Run. The base model always comes first; add adapters and " +
        "compositions beside it."
      : "Type a prompt and press Run. The base model always comes first; add adapters, " +
        "compositions or a random adapter beside it.";
    swap(host, empty("Nothing compared yet", how));
  }

  function draw() {
    const value = props.value || {};
    const shown = value.prompts && (!value.base || value.base === session.base);
    if (!shown) {
      host.removeAttribute("data-state");
      return nothing();
    }
    host.dataset.state = value.running ? "running" : "done";
    host.setAttribute("aria-busy", String(Boolean(value.running)));
    if (value.modality === "image") return pictures(value);
    swap(host, texts);
    return drawTexts(value);
  }
  watch("value", draw);
  let base = session.base;
  let kind = images();
  subscribe(() => {
    if (base === session.base && kind === images()) return;
    base = session.base;
    kind = images();
    draw();
  });
  draw();
}
