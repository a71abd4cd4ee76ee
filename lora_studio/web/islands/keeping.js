// What people may do to an adapter where several share the studio: its owner, moderators, anybody.

import { button, h } from "./dom.js";
import { closeDialog, showDialog } from "./dialog.js";
import { post } from "./net.js";
import { toast } from "./toast.js";

const route = (entry, verb) => `api/adapter/${encodeURIComponent(entry.id)}/${verb}`;
const commas = (text) => text.split(",").map((part) => part.trim());
const lines = (text) => text.split("\n").map((part) => part.trim());

// Asks for a change, says what became of it, and shows what the gallery holds then.
export async function act(entry, verb, body, said) {
  try {
    await post(route(entry, verb), body);
  } catch (error) {
    toast(error.message, { kind: "error" });
    return false;
  }
  document.dispatchEvent(new Event("ls-gallery-changed"));
  toast(said);
  return true;
}

// A small dialog with fields and one button that carries them out.
function ask({ title, fields, label, kind = "primary", run }) {
  const go = button(label, { kind, type: "submit" });
  const form = h("form", { class: "ls-form" }, fields, h("div", { class: "ls-actions" }, go));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    if (await run()) closeDialog();
    go.disabled = false;
  });
  showDialog({ title, body: form, kind: "box" });
  form.querySelector("input, textarea, button").focus();
}

function field(label, value, { rows = 0, help = "" } = {}) {
  const node = rows
    ? h("textarea", { class: "ls-text ls-area", rows, value })
    : h("input", { class: "ls-text", type: "text", value });
  return {
    node,
    row: h(
      "label",
      { class: "ls-section" },
      h("span", { class: "ls-label" }, label),
      node,
      help ? h("span", { class: "ls-help" }, help) : null,
    ),
  };
}

function edit(entry, done) {
  const fields = {
    title: field("Title", entry.title || ""),
    description: field("What it does", entry.description || "", { rows: 3 }),
    licence: field("Licence", entry.licence || ""),
    contributor: field("Contributor", entry.contributor || ""),
    tags: field("Tags", (entry.tags || []).join(", "), { help: "Separated by commas." }),
    trigger_words: field("Trigger words", (entry.trigger_words || []).join(", ")),
    samples: field("Sample inputs, one a line", (entry.samples || []).join("\n"), { rows: 4 }),
  };
  const reads = { tags: commas, trigger_words: commas, samples: lines };
  const run = async () => {
    const typed = Object.entries(fields).map(([name, { node }]) => [
      name,
      (reads[name] || String)(node.value),
    ]);
    const saved = await act(entry, "edit", Object.fromEntries(typed), "The card is changed.");
    if (saved) setTimeout(done);
    return saved;
  };
  const rows = Object.values(fields).map(({ row }) => row);
  ask({ title: "Edit the card", fields: rows, label: "Save", run });
}

function report(entry) {
  const reason = field("What is wrong with it?", "", {
    rows: 3,
    help: "Moderators read this, with your id.",
  });
  ask({
    title: `Report “${entry.title}”`,
    fields: [reason.row],
    label: "Send",
    run: () => act(entry, "report", { reason: reason.node.value }, "The moderators will look at it."),
  });
}

function purge(entry) {
  ask({
    title: `Remove “${entry.title}” for good?`,
    fields: [h("p", null, "Its file is deleted. Nobody can bring it back.")],
    label: "Remove for good",
    kind: "danger",
    run: () => act(entry, "purge", {}, "It is gone for good."),
  });
}

// Chips that say who sees an adapter, besides everyone.
export function standing(entry) {
  const said = {
    private: "only you see it",
    unlisted: "found by its link only",
  }[entry.visibility];
  const held = entry.review_state === "quarantined";
  return [
    said ? h("span", { class: "ls-tag ls-tag-kind ls-tag-mark" }, said) : null,
    held ? h("span", { class: "ls-tag ls-tag-held ls-tag-mark" }, "held back by a moderator") : null,
    entry.new
      ? h("span", { class: "ls-tag ls-tag-new ls-tag-mark", title: "No moderator has looked at it yet" }, "new")
      : null,
  ];
}

// Buttons for the foot of the drawer; `done` shows the adapter as it is then.
export function keeping(entry, remove, done) {
  const may = (action) => (entry.may || []).includes(action);
  const open = entry.visibility !== "private";
  const show = async () => {
    const visibility = open ? "private" : "public";
    const said = open ? "Only you see it now." : "Everyone sees it now.";
    if (await act(entry, "show", { visibility }, said)) done();
  };
  return [
    may("edit") ? button("Edit", { class: "ls-edit", onclick: () => edit(entry, done) }) : null,
    may("show")
      ? button(open ? "Make private" : "Make public", { class: "ls-show", onclick: show })
      : null,
    may("report") && !entry.mine
      ? button("Report", { kind: "quiet", class: "ls-tell", onclick: () => report(entry) }, "warn")
      : null,
    may("delete") ? button("Delete", { kind: "quiet", onclick: remove }, "trash") : null,
  ];
}

// What moderators may do, for the drawer and for the list of what waits.
export function moderating(entry, done, purging = true) {
  const may = (action) => (entry.may || []).includes(action);
  const review = (verb, said) => async () => {
    if (await act(entry, verb, {}, said)) done();
  };
  const held = entry.review_state === "quarantined";
  return [
    may("approve") && entry.review_state !== "reviewed"
      ? button(held ? "Let it back" : "Approve", {
          class: "ls-approve",
          onclick: review("approve", "It may be chosen for people now."),
        })
      : null,
    may("quarantine") && !held
      ? button("Hold back", {
          class: "ls-quarantine",
          onclick: review("quarantine", "Only its owner and moderators see it now."),
        })
      : null,
    purging && may("purge")
      ? button("Remove for good", { kind: "quiet", class: "ls-purge", onclick: () => purge(entry) })
      : null,
  ].filter(Boolean);
}
