// What every method scored on groups of the demo's adapters, and cells measured again on this machine.

import { button, empty, h, percent, swap } from "./dom.js";
import { showCell } from "./leaderboard_cell.js";
import { getJson } from "./net.js";
import { interval } from "./scores.js";
import { images } from "./bases.js";

const MEAN = "mean";
const MAKES = { text: "Text", image: "Pictures" };
const SIZES = { r: "Rank of the largest source", "2r": "Twice that rank" };
const KINDS = { routing: "Routing", denoising: "While denoising" };
const SOURCES = { adapters: "Single tasks", suite: "Chained tasks" };

function segments(legend, choices, chosen, pick) {
  const name = `ls-board-${legend.toLowerCase().replaceAll(" ", "-")}`;
  return h(
    "div",
    { class: "ls-segments", role: "radiogroup", "aria-label": legend },
    Object.entries(choices).map(([value, label]) =>
      h(
        "label",
        { class: "ls-segment" },
        h("input", {
          type: "radio",
          name,
          value,
          checked: value === chosen,
          onchange: () => pick(value),
        }),
        h("span", null, label),
      ),
    ),
  );
}

// Results of a larger rank than asked for stand beside the others, marked, and are never the best.
const tooLarge = (board, view, group, cell) =>
  board.lines.some((line) => line.size) &&
  (cell?.rank || 0) > group.rank * (view.size === "2r" ? 2 : 1);

const meanOf = (rates) => rates.reduce((sum, rate) => sum + rate, 0) / rates.length;

// Lines that were measured, with their mean over the groups shown, best first.
function ranked(board, groups, view) {
  const shown = board.lines
    .filter((line) => !line.size || line.size === view.size)
    .map((line) => {
      const cells = groups.map((group) => (board.cells[group.key] || {})[line.label] || null);
      const rates = cells.filter((cell) => cell && "rate" in cell).map((cell) => cell.rate);
      const whole = rates.length === groups.length;
      return { line, cells, mean: whole ? meanOf(rates) : null, any: rates.length > 0 };
    })
    .filter((row) => row.any);
  const place = groups.findIndex((group) => group.key === view.sort);
  const key = (row) => (place < 0 ? row.mean : row.cells[place]?.rate) ?? -1;
  return shown.sort((a, b) => key(b) - key(a));
}

function rate(cell, larger = false) {
  if (!cell) return h("span", { class: "ls-quiet" }, "–");
  if (cell.refused) return h("span", { class: "ls-quiet ls-small" }, "refused");
  return h("span", { class: "ls-num" }, larger ? "‡ " : "", percent(cell.rate));
}

function cellOf(board, view, row, place, group, best, open) {
  const cell = row.cells[place];
  if (!cell) return h("td", { class: "ls-board-cell ls-right" }, rate(cell));
  const larger = tooLarge(board, view, group, cell);
  const top = row.line.kind !== "control" && !larger && cell.rate === best && best > 0;
  const label = cell.refused
    ? `${row.line.title}, ${group.title}: refused`
    : `${row.line.title}, ${group.title}: ${percent(cell.rate)}, 95 % interval ${percent(cell.low)} to ${percent(cell.high)}`;
  return h(
    "td",
    { class: "ls-board-cell" },
    h(
      "button",
      {
        type: "button",
        class: `ls-board-button ${top ? "is-best" : ""}`,
        "aria-label": label,
        vars: { "--ls-share": `${Math.round(100 * (cell.rate || 0))}%` },
        onclick: () => open(group, row.line, cell),
      },
      rate(cell, larger),
    ),
  );
}

function nameOf(line) {
  const kind = KINDS[line.kind];
  return h(
    "th",
    { scope: "row", class: "ls-board-name" },
    h("span", { class: "ls-board-title" }, line.title),
    kind ? h("span", { class: "ls-tag" }, kind) : null,
  );
}

function head(title, key, view, sort) {
  const on = view.sort === key;
  return h(
    "th",
    { class: "ls-board-head", scope: "col", "aria-sort": on ? "descending" : "none" },
    h(
      "button",
      {
        type: "button",
        class: `ls-board-sort ${on ? "is-on" : ""}`,
        "aria-label": `Sort by ${title}`,
        onclick: () => sort(key),
      },
      h("span", null, title),
      on ? h("span", { "aria-hidden": "true" }, "↓") : null,
    ),
  );
}

function table(board, view, redraw, open) {
  const groups = board.groups.filter((group) => Boolean(group.suite) === (view.of === "suite"));
  const rows = ranked(board, groups, view);
  const controls = rows.filter((row) => row.line.kind === "control");
  const made = rows.filter((row) => row.line.kind !== "control");
  const best = groups.map((_, place) => {
    const found = made.map((row) => row.cells[place]);
    const fit = found.filter((cell) => cell && !tooLarge(board, view, groups[place], cell));
    return Math.max(0, ...fit.map((cell) => cell.rate ?? 0));
  });
  const sort = (key) => {
    view.sort = key;
    redraw(`[aria-label^="Sort by ${key === MEAN ? "Mean" : titleOf(groups, key)}"]`);
  };
  const line = (row) =>
    h(
      "tr",
      { "data-line": row.line.label },
      nameOf(row.line),
      h("td", { class: "ls-right ls-strong" }, row.mean === null ? "–" : percent(row.mean)),
      groups.map((group, place) => cellOf(board, view, row, place, group, best[place], open)),
    );
  const part = (title) =>
    h(
      "tr",
      { class: "ls-table-group" },
      h("th", { colspan: groups.length + 2, scope: "colgroup" }, h("span", null, title)),
    );
  return h(
    "div",
    { class: "ls-scroll", tabindex: 0, role: "region", "aria-label": "Scores by method and group" },
    h(
      "table",
      { class: "ls-table ls-board-table" },
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", { class: "ls-board-name", scope: "col" }, "Method"),
          head("Mean", MEAN, view, sort),
          groups.map((group) => head(group.title, group.key, view, sort)),
        ),
      ),
      h("tbody", null, part("Controls"), controls.map(line)),
      h("tbody", null, part("Compositions, best first"), made.map(line)),
    ),
  );
}

const titleOf = (groups, key) => (groups.find((group) => group.key === key) || {}).title;

// What this visitor measured again, beside the shipped figure.
function again(board, measured) {
  if (!measured.length) return null;
  const line = (title, cell, extra) =>
    h(
      "tr",
      null,
      h("td", null, title),
      h("td", { class: "ls-right" }, `${cell.correct} / ${cell.n}`),
      h("td", { class: "ls-right ls-strong" }, percent(cell.rate)),
      h("td", { class: "ls-interval-cell" }, interval(cell)),
      h("td", { class: "ls-quiet" }, extra),
    );
  return h(
    "section",
    { class: "ls-scores-panel" },
    h("h2", { class: "ls-step" }, "Measured on this machine"),
    h(
      "div",
      { class: "ls-scroll" },
      h(
        "table",
        { class: "ls-table" },
        measured.map(({ group, label, result }) => {
          const column = board.groups.find((one) => one.key === group);
          const row = board.lines.find((one) => one.label === label);
          const rank = row.size ? `, rank ${result.rank}` : "";
          return h(
            "tbody",
            { "data-measured": `${group} ${label}` },
            h(
              "tr",
              { class: "ls-table-group" },
              h("th", { colspan: 5, scope: "rowgroup" }, `${row.title}${rank} · ${column.title}`),
            ),
            line("Here", result, `${result.seconds} s, composing included`),
            line("Shipped", board.cells[group][label], ""),
          );
        }),
      ),
    ),
  );
}

export function mount({ host, props, watch, trigger }) {
  const boards = {};
  const view = { modality: "", of: "adapters", size: "r", sort: MEAN };
  const measured = [];
  let problem = "";
  let serial = null;

  async function load() {
    const { modality } = view;
    if (boards[modality]) return draw();
    problem = "";
    draw();
    try {
      boards[modality] = await getJson("api/leaderboard", { modality });
    } catch (error) {
      problem = error.message;
    }
    return draw();
  }

  const choose = (name) => (value) => {
    view[name] = value;
    view.sort = MEAN;
    if (name === "modality") view.of = "adapters";
    load().then(() => host.querySelector(`input[value="${value}"]`)?.focus());
  };

  function measure(group, line) {
    props.value = { ...(props.value || {}), asked: { group: group.key, line: line.label } };
    trigger("measure");
    host.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  function settings(board) {
    const sizes = board && board.lines.some((line) => line.size);
    const suites = board && board.groups.some((group) => group.suite);
    return h(
      "div",
      { class: "ls-board-settings" },
      segments("What is made", MAKES, view.modality, choose("modality")),
      suites ? segments("Tests", SOURCES, view.of, choose("of")) : null,
      sizes ? segments("Size of a merge", SIZES, view.size, choose("size")) : null,
    );
  }

  function draw(focus = "") {
    const board = boards[view.modality];
    host.dataset.ready = board ? view.modality : "";
    const body = problem
      ? empty("The leaderboard did not load", problem, button("Try again", { onclick: load }))
      : board
        ? table(board, view, draw, (group, line, cell) =>
            showCell({ board, group, line, cell, measure }),
          )
        : [0, 1, 2, 3, 4].map(() => h("span", { class: "ls-bone" }));
    swap(
      host,
      board ? again(board, view.modality === "text" ? measured : []) : null,
      h(
        "section",
        { class: "ls-panel ls-board" },
        h("h2", { class: "ls-step" }, "Leaderboard"),
        h(
          "p",
          { class: "ls-help" },
          "How well each way of composing does on the demo’s adapters",
          board ? `: ${board.measure}, up to ${board.prompts} a task.` : ".",
          " All strengths were chosen on sample prompts, which are never test prompts. Click a figure for its interval, to open that composition, or to measure it here.",
        ),
        settings(board),
        body,
        board
          ? h(
              "p",
              { class: "ls-help" },
              "Written by ",
              h("code", { class: "ls-mono" }, board.command),
              `; the best composition of a column is in colour.${board.lines.some((line) => line.size) ? " ‡ is a result of a larger rank than the table’s." : ""} A model this small says how methods differ in kind, not what they would score on yours: compose, and run test prompts in Compare.`,
            )
          : null,
      ),
    );
    if (focus) host.querySelector(focus)?.focus();
  }

  watch("value", () => {
    const value = props.value || {};
    if (!value.result || value.serial === serial) return;
    serial = value.serial;
    const { group, line } = value.asked;
    const old = measured.findIndex((one) => one.group === group && one.label === line);
    if (old >= 0) measured.splice(old, 1);
    measured.unshift({ group, label: line, result: value.result });
    draw();
  });
  // The first look follows the base model; nothing is fetched before the tab is seen.
  const seen = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    seen.disconnect();
    view.modality ||= images() ? "image" : "text";
    load();
  });
  seen.observe(host);
  swap(host, h("span", { class: "ls-bone" }));
}
