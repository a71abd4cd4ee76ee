// One cell of the leaderboard: interval, rank, notes; open it in Compose, or measure it here.

import { button, h, percent } from "./dom.js";
import { closeDialog, showDialog } from "./dialog.js";
import { getJson, listMethods } from "./net.js";
import { interval } from "./scores.js";
import { basketRow, openTab, session, snapshot, update, useBase } from "./state.js";
import { toast } from "./toast.js";

const LEFT_OUT = "has left the gallery, so this composition cannot be opened.";

const settingsOf = (group, line) =>
  line.size ? { ...line.params, rank: group.rank * (line.size === "2r" ? 2 : 1) } : line.params;

async function openInCompose(board, group, line) {
  const entries = [];
  for (const [id, title] of group.adapters) {
    try {
      entries.push(await getJson(`api/adapter/${encodeURIComponent(id)}`));
    } catch {
      toast(`“${title}” ${LEFT_OUT}`, { kind: "error" });
      return;
    }
  }
  const methods = await listMethods();
  const method = methods.find((one) => one.name === line.method);
  const usual = Object.fromEntries(method.params.map((param) => [param.name, param.default]));
  const given = settingsOf(group, line);
  const { base, basket, draft, columns, retrieval, parked } = snapshot();
  const before = { base, basket, draft, columns, retrieval, parked };
  if (useBase(board.base))
    document.dispatchEvent(new CustomEvent("ls-base-followed", { detail: board.base }));
  update({
    basket: entries.map(basketRow),
    draft: { ...session.draft, method: line.method, params: { ...usual, ...given }, seed: 0 },
    retrieval: null,
  });
  closeDialog();
  openTab("compose");
  if (basket.length)
    toast("The composition took the place of what was picked.", {
      action: {
        label: "Undo",
        run: () => {
          update(before);
          if (base !== board.base)
            document.dispatchEvent(new CustomEvent("ls-base-followed", { detail: base }));
        },
      },
    });
}

const fact = (name, ...value) => [h("dt", null, name), h("dd", null, value)];

function facts(board, group, line, cell) {
  const settings = Object.entries(settingsOf(group, line)).map(([name, value]) => `${name} ${value}`);
  const parts = Object.entries(cell.parts || {}).map(([name, rate]) => `${name} ${percent(rate)}`);
  return h(
    "dl",
    { class: "ls-facts ls-board-facts" },
    fact("Adapters", group.adapters.map(([, title]) => h("div", null, title))),
    settings.length ? fact("Settings", settings.join(", ")) : null,
    cell.rank ? fact("Rank of the result", cell.rank) : null,
    parts.length ? fact("Of its parts", parts.join(", ")) : null,
    cell.notes?.length ? fact("Notes", cell.notes.map((note) => h("div", null, note))) : null,
  );
}

export function showCell({ board, group, line, cell, measure }) {
  const title = `${line.title}${line.size === "2r" ? ", twice the rank" : ""}`;
  const told = cell.refused
    ? h("p", { class: "ls-note is-warn" }, cell.refused)
    : h(
        "section",
        { class: "ls-section" },
        h("p", { class: "ls-board-figure" }, percent(cell.rate)),
        interval(cell),
        h(
          "p",
          { class: "ls-help" },
          `${cell.correct} of ${cell.n}; 95 % interval ${percent(cell.low)} to ${percent(cell.high)}. It covers the choice of prompts, not of training seeds.`,
        ),
      );
  const open =
    line.method &&
    button("Open in Compose", { kind: "primary", onclick: () => openInCompose(board, group, line) });
  const again =
    line.here &&
    button("Measure it here", {
      onclick: () => {
        closeDialog();
        measure(group, line);
      },
    });
  showDialog({
    title,
    body: [
      h("p", { class: "ls-quiet" }, [group.title, group.about].filter(Boolean).join(". ")),
      told,
      facts(board, group, line, cell),
    ],
    footer: open || again ? [open, again].filter(Boolean) : null,
  });
}
