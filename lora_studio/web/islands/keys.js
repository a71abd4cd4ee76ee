// Keyboard: / search, 1-4 tabs, ? help, Ctrl+Enter run, Escape stop or close. Silent while typing.

import { h } from "./dom.js";
import { dialogOpen, showDialog } from "./dialog.js";
import { TABS, openTab } from "./state.js";

const HELP = [
  ["/", "Search the gallery"],
  ["1 … 5", "Gallery, Map, Compose, Compare, Leaderboard"],
  ["Ctrl Enter", "Find, compose or run on the open tab"],
  ["Esc", "Stop a running job, or close"],
  ["Enter", "Open the focused card"],
  ["Space", "Pick or drop the focused card"],
  ["Arrows", "On the map: move between units"],
  ["1 … 8 T S U", "In a blind vote: the best, equal, skip, undo"],
  ["[ ]", "On the map: previous or next cluster"],
  ["?", "This list"],
];

export function showHelp() {
  showDialog({
    title: "Keyboard",
    kind: "box",
    body: h(
      "dl",
      { class: "ls-keys" },
      HELP.map(([keys, text]) => [
        h(
          "dt",
          null,
          keys.split(" ").map((key) => h("kbd", null, key)),
        ),
        h("dd", null, text),
      ]),
    ),
  });
}

const shown = (node) => node && node.offsetParent !== null;

function run() {
  const typing = document.activeElement;
  if (typing && typing.closest("#ls-task") && shown(document.getElementById("ls-find")))
    return click("ls-find");
  return click("ls-run") || click("ls-go");
}

function click(id) {
  const node = document.getElementById(id);
  if (!shown(node)) return false;
  (node.matches("button") ? node : node.querySelector("button")).click();
  return true;
}

function stop() {
  const node = [...document.querySelectorAll(".ls-job-stop")].find(shown);
  if (node) node.click();
  return Boolean(node);
}

function typing(target) {
  return (
    target.isContentEditable ||
    (/^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) &&
      !/^(checkbox|radio|range|button)$/.test(target.type || ""))
  );
}

export function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (!dialogOpen() && run()) event.preventDefault();
      return;
    }
    if (event.key === "Escape") {
      if (!dialogOpen() && stop()) event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || dialogOpen() || typing(event.target))
      return;
    const tab = /^[1-9]$/.test(event.key) ? TABS[Number(event.key) - 1] : "";
    if (tab) openTab(tab);
    else if (event.key === "?") showHelp();
    else if (event.key === "/") {
      openTab("gallery");
      requestAnimationFrame(() => document.querySelector(".ls-search-input")?.focus());
    } else return;
    event.preventDefault();
  });
}
