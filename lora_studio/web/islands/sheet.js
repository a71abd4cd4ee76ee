// The pictures of a comparison or a grid: a row a prompt, a cell a column, drawn as they come.

import { button, fixed, h, swap } from "./dom.js";
import { imageAddress } from "./face.js";
import { hueOf, session } from "./state.js";
import { openViewer } from "./viewer.js";

const passesText = (column) =>
  Number.isFinite(column.passes) && column.passes > 1.01
    ? `${fixed(column.passes, 1)} calls a step`
    : "";

function hue(column, place) {
  const match = session.columns[place - 1];
  const own = match && match.kind === "adapter" && match.title === column.title;
  return own ? hueOf(match.id) : "var(--ls-ink-soft)";
}

// What the rows of a value are called: prompts with their seed, or the values of the y axis.
export function rowsOf(value) {
  if (value.grid) return (value.rows || []).map((row) => ({ title: row.title, seed: null }));
  return (value.prompts || []).map((title, place) => ({ title, seed: (value.seeds || [])[place] }));
}

export function headsOf(value) {
  return (value.columns || []).map((column, place) => ({
    ...column,
    title: column.title || (place ? column.kind : "Base model"),
  }));
}

// One picture: waits, shows where the denoising is, then the picture itself.
function cell(view, row, column) {
  const head = view.heads[column];
  const title = rowsOf(view.value)[row].title;
  const img = h("img", { alt: "", decoding: "async" });
  const badge = h("span", { class: "ls-shot-badge", hidden: true }, "your choice");
  const bar = h("span", { class: "ls-progress-fill" });
  const state = h("span", { class: "ls-shot-state" });
  const shot = h(
    "button",
    {
      type: "button",
      class: "ls-shot",
      disabled: true,
      onclick: () => openViewer(view.value, row, column),
    },
    img,
    badge,
    state,
    h("span", { class: "ls-progress ls-shot-progress" }, bar),
  );
  const caption = h(
    "figcaption",
    { class: "ls-shot-caption" },
    h("span", { class: "ls-cell-title", title: head.title }, head.title),
    h(
      "span",
      { class: "ls-cell-detail" },
      [head.detail, passesText(head)].filter(Boolean).join(" · "),
    ),
  );
  const node = h(
    "figure",
    {
      class: "ls-shot-cell",
      "data-prompt": row,
      "data-column": column,
      vars: { "--ls-hue": view.value.grid || !column ? "var(--ls-ink-soft)" : hue(head, column) },
    },
    shot,
    caption,
  );
  function update(info, running, chosen) {
    const done = Boolean(info && info.done && info.image);
    const at = info && info.steps ? `${info.step} of ${info.steps}` : "waiting";
    const where = running ? at : "not made";
    const name = view.value.grid ? (info && info.caption) || head.title : head.title;
    node.classList.toggle("is-done", done);
    node.classList.toggle("is-empty", !done && !(info && info.preview));
    shot.disabled = !done;
    shot.setAttribute("aria-label", done ? `Look at ${name}: ${title}` : `${name}: ${where}`);
    img.alt = `${title}, ${name}`;
    badge.hidden = !chosen;
    node.classList.toggle("is-still", !running);
    state.textContent = done ? "" : where;
    const share = info && info.steps ? info.step / info.steps : 0;
    bar.style.width = `${Math.round(100 * (done ? 1 : share))}%`;
    if (view.value.grid && info && info.caption) swap(caption, info.caption);
    const source = done ? imageAddress(info.image) : info && info.preview;
    if (source && img.src !== source) img.src = source;
    img.hidden = !source;
  }
  return { node, update };
}

export function sheet(host) {
  let shape = "";
  const view = { value: {}, heads: [], cells: new Map() };

  function build(value) {
    view.cells.clear();
    const rows = rowsOf(value).map((row, r) => {
      const cells = view.heads.map((_, c) => {
        const one = cell(view, r, c);
        view.cells.set(`${r}:${c}`, one);
        return one.node;
      });
      const seed = row.seed === null || row.seed === undefined ? null : `seed ${row.seed}`;
      return h(
        "section",
        { class: `ls-prompt ${value.grid ? "is-grid" : ""}` },
        h(
          "h3",
          { class: "ls-prompt-text" },
          row.title,
          seed ? h("span", { class: "ls-quiet ls-small ls-seed" }, seed) : null,
        ),
        h(
          "div",
          { class: "ls-shots", vars: { "--ls-columns": String(view.heads.length) } },
          cells,
        ),
      );
    });
    const nothing = value.running ? "Reading the request …" : "No picture was made.";
    swap(host, rows.length ? rows : h("p", { class: "ls-quiet" }, nothing));
  }

  // Rows scroll together, so that columns stay below each other.
  host.addEventListener(
    "scroll",
    ({ target }) => {
      for (const other of host.querySelectorAll(".ls-shots"))
        if (other !== target && other.scrollLeft !== target.scrollLeft)
          other.scrollLeft = target.scrollLeft;
    },
    { capture: true, passive: true },
  );

  // `chosen` are the columns voted best, by row.
  return function draw(value, chosen = new Map()) {
    view.value = value;
    view.heads = headsOf(value);
    const rows = rowsOf(value);
    const now = JSON.stringify([rows, view.heads, value.grid, rows.length ? null : value.running]);
    if (now !== shape) {
      shape = now;
      build(value);
    }
    const known = new Map((value.cells || []).map((c) => [`${c.prompt}:${c.column}`, c]));
    for (const [key, one] of view.cells) {
      const [row, column] = key.split(":").map(Number);
      one.update(known.get(key), value.running, (chosen.get(row) || []).includes(column));
    }
  };
}

// How the pictures were made, in one line.
export function made(value) {
  const size = value.width ? `${value.width} × ${value.height}` : "";
  const steps = value.steps ? `${value.steps} steps` : "";
  const guidance = Number.isFinite(value.guidance) ? `guidance ${fixed(value.guidance, 1)}` : "";
  const seconds = Number.isFinite(value.seconds) ? `${fixed(value.seconds, 1)} s` : "";
  return [size, steps, guidance, seconds].filter(Boolean).join(" · ");
}

export const voteButton = (onclick) =>
  button("Vote blind", { class: "ls-vote-open", onclick }, "check");
