// What moderators look after: reports, uploads nobody has looked at, what is held back, the log.

import { button, empty, h, icon, table } from "./dom.js";
import { showDialog } from "./dialog.js";
import { openDrawer } from "./drawer.js";
import { moderating } from "./keeping.js";
import { getJson, post } from "./net.js";
import { toast } from "./toast.js";

const SHOWN = 50;

function section(title, rows, nothing) {
  return h(
    "section",
    { class: "ls-section" },
    h("h3", null, `${title} · ${rows.length}`),
    rows.length ? rows : h("p", { class: "ls-quiet ls-small" }, nothing),
  );
}

function row(entry, said) {
  return h(
    "article",
    { class: "ls-review-row" },
    h(
      "div",
      null,
      h("p", { class: "ls-strong" }, entry.title),
      h("p", { class: "ls-quiet ls-small ls-break" }, said),
      (entry.like || []).map((title) =>
        h(
          "p",
          { class: "ls-note is-warn" },
          icon("warn"),
          h("span", null, `Nearly the same update as “${title}”, which is held back.`),
        ),
      ),
    ),
    h(
      "div",
      { class: "ls-actions" },
      button("Look", { onclick: () => openDrawer(entry.id) }),
      moderating(entry, openReview, false),
    ),
  );
}

function banned({ id, reason }) {
  const free = async () => {
    try {
      await post("api/ban", { id, banned: false });
    } catch (error) {
      toast(error.message, { kind: "error" });
      return;
    }
    openReview();
  };
  return h(
    "article",
    { class: "ls-review-row" },
    h("p", { class: "ls-break" }, `${id}${reason ? `: ${reason}` : ""}`),
    h("div", { class: "ls-actions" }, button("Let them back", { onclick: free })),
  );
}

function stop(owner) {
  return async () => {
    try {
      await post("api/ban", { id: owner, reason: "" });
    } catch (error) {
      toast(error.message, { kind: "error" });
      return;
    }
    toast(`${owner} may only look now.`);
    openReview();
  };
}

function owners(found) {
  const known = new Set(found.banned.map(({ id }) => id));
  const all = [...found.reports.map((report) => report.entry), ...found.quarantined];
  const free = [...new Set(all.map((entry) => entry.owner))].filter((id) => id && !known.has(id));
  return free.map((id) =>
    h(
      "article",
      { class: "ls-review-row" },
      h("p", { class: "ls-break" }, id),
      h("div", { class: "ls-actions" }, button("Ban", { kind: "quiet", onclick: stop(id) })),
    ),
  );
}

const short = (text) => (/^[0-9a-f]{64}$/.test(text) ? text.slice(0, 8) : text);

function log({ rows, broken_at }) {
  const when = (seconds) => new Date(1000 * seconds).toLocaleString();
  const line = (one) =>
    h(
      "tr",
      null,
      h("td", { class: "ls-nowrap" }, when(one.time)),
      h("td", { class: "ls-break" }, one.actor || "visitor"),
      h("td", null, one.action),
      h("td", { class: "ls-mono", title: JSON.stringify(one.after) }, short(one.target)),
    );
  return h(
    "section",
    { class: "ls-section" },
    h("h3", null, "Log of changes"),
    broken_at === null
      ? h("p", { class: "ls-quiet ls-small" }, "Every row is as it was written.")
      : h(
          "p",
          { class: "ls-note is-error" },
          icon("warn"),
          h("span", null, `Row ${broken_at} is not as it was written.`),
        ),
    table(["When", "Who", "What", "Whom"], 4, h("tbody", null, rows.slice(0, SHOWN).map(line))),
  );
}

export async function openReview() {
  let found;
  let audit;
  try {
    [found, audit] = await Promise.all([getJson("api/review"), getJson("api/audit")]);
  } catch (error) {
    toast(error.message, { kind: "error" });
    return;
  }
  const by = (entry) => `by ${entry.owner || "nobody who signed in"}`;
  const people = [...found.banned.map(banned), ...owners(found)];
  showDialog({
    title: "Review",
    body: [
      found.reports.length || found.unreviewed.length
        ? null
        : empty("Nothing waits for you", "New uploads and reports appear here."),
      section(
        "Reports",
        found.reports.map((one) => row(one.entry, `“${one.reason}” (${one.reporter})`)),
        "No report is open.",
      ),
      section(
        "New uploads",
        found.unreviewed.map((entry) => row(entry, by(entry))),
        "Every upload has been looked at.",
      ),
      section(
        "Held back",
        found.quarantined.map((entry) => row(entry, by(entry))),
        "Nothing is held back.",
      ),
      people.length ? section("People", people, "") : null,
      log(audit),
    ],
  });
}
