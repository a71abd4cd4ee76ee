// A blind vote: pictures without their titles, in another order in every row, one row at a time.

import { button, h, swap } from "./dom.js";
import { imageAddress } from "./face.js";
import { post } from "./net.js";
import { headsOf, rowsOf } from "./sheet.js";
import { toast } from "./toast.js";

const MOST = 8;

// A small seeded generator (mulberry32), so that an order can be made again.
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t ^= t + Math.imul(t ^ (t >>> 7), 61 | t);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function hash(text) {
  let value = 2166136261;
  for (let i = 0; i < text.length; i += 1)
    value = Math.imul(value ^ text.charCodeAt(i), 16777619);
  return value >>> 0;
}

function shuffled(count, seed) {
  const next = generator(seed);
  const order = Array.from({ length: count }, (_, place) => place);
  for (let i = count - 1; i > 0; i -= 1) {
    const j = Math.floor(next() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// The ballot of a finished comparison, or null where there is nothing to choose between.
export function ballotOf(value) {
  const heads = headsOf(value);
  if (value.grid || value.running || heads.length < 2 || heads.length > MOST) return null;
  const rows = rowsOf(value);
  const images = new Map(
    (value.cells || [])
      .filter((cell) => cell.done && cell.image)
      .map((cell) => [`${cell.prompt}:${cell.column}`, cell.image]),
  );
  const whole = rows
    .map((_, row) => row)
    .filter((row) => heads.every((__, column) => images.has(`${row}:${column}`)));
  if (!whole.length) return null;
  const columns = heads.map((head, place) => ({
    title: head.title,
    ...(place ? (value.sources || [])[place - 1] : {}),
  }));
  const asked = rows.map((row) => ({ prompt: row.title, seed: row.seed || 0 }));
  const id = hash(JSON.stringify([value.base, columns, asked, value.steps, value.guidance]));
  return { id: id.toString(16), base: value.base, columns, rows: asked, images, whole };
}

export function vote(host, ballot, finished) {
  const votes = [];
  const count = ballot.columns.length;

  async function end() {
    document.removeEventListener("keydown", key, true);
    const { id, base, columns, rows } = ballot;
    if (!votes.some((one) => one.best.length)) return finished(null);
    try {
      const told = await post("api/votes", { id, base, columns, rows, votes });
      document.dispatchEvent(new Event("ls-votes-changed"));
      return finished({ ...told, chosen: new Map(votes.map(({ row, best }) => [row, best])) });
    } catch (error) {
      toast(error.message, { kind: "error" });
      return finished(null);
    }
  }

  function cast(best) {
    votes.push({ row: ballot.whole[votes.length], best });
    if (votes.length === ballot.whole.length) end();
    else draw();
  }

  function undo() {
    votes.pop();
    draw();
  }

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || !host.isConnected) return;
    const order = orderOf(votes.length);
    const number = Number(event.key);
    if (number >= 1 && number <= count) cast([order[number - 1]]);
    else if (event.key === "t" || event.key === "0") cast(order);
    else if (event.key === "s") cast([]);
    else if (event.key === "u" && votes.length) undo();
    else if (event.key === "Escape") end();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  const orderOf = (place) => shuffled(count, hash(`${ballot.id}:${ballot.whole[place]}`));

  function draw() {
    const row = ballot.whole[votes.length];
    const order = orderOf(votes.length);
    swap(
      host,
      h(
        "section",
        { class: "ls-vote", role: "group", "aria-label": "Blind vote" },
        h("h3", { class: "ls-prompt-text" }, ballot.rows[row].prompt),
        h(
          "p",
          { class: "ls-help", "aria-live": "polite" },
          `Which is best? ${votes.length + 1} of ${ballot.whole.length}. Titles are hidden and `,
          "the order is drawn anew for every row.",
        ),
        h(
          "div",
          { class: "ls-shots", vars: { "--ls-columns": String(count) } },
          order.map((column, place) =>
            h(
              "button",
              {
                type: "button",
                class: "ls-shot ls-candidate",
                "aria-label": `Picture ${place + 1} is best`,
                onclick: () => cast([column]),
              },
              h("img", {
                src: imageAddress(ballot.images.get(`${row}:${column}`)),
                alt: `Picture ${place + 1}`,
              }),
              h("kbd", { "aria-hidden": "true" }, String(place + 1)),
            ),
          ),
        ),
        h(
          "div",
          { class: "ls-actions" },
          button("Equally good", { class: "ls-vote-tie", onclick: () => cast(order) }),
          button("Skip", { class: "ls-vote-skip", onclick: () => cast([]) }),
          votes.length ? button("Undo", { kind: "quiet", onclick: undo }) : null,
          button("Stop here", { kind: "quiet", onclick: end }),
          h("span", { class: "ls-help ls-vote-keys" }, `Keys: 1–${count} best, T equal, S skip, U undo.`),
        ),
      ),
    );
  }

  document.addEventListener("keydown", key, true);
  draw();
  host.scrollIntoView({ block: "center" });
}
