// What a composition became: downloads, a link that replays it, and the way on to Compare.

import { images } from "./bases.js";
import { button, bytes, h, rankText, swap } from "./dom.js";
import { exported } from "./download.js";
import { glyph } from "./glyph.js";
import { madeOf, remember } from "./made.js";
import { getJson } from "./net.js";
import { addColumn, openTab, session, subscribe } from "./state.js";
import { toast } from "./toast.js";

function link(recipeId) {
  const url = new URL(location.href);
  url.search = "";
  url.hash = "";
  url.searchParams.set("recipe", recipeId);
  return url.href;
}

async function copy(text, input) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Link copied.");
  } catch (error) {
    input.select();
    toast("Press Ctrl+C to copy the selected link.");
  }
}

function columnOf(made) {
  return made.adapter_id
    ? { kind: "adapter", id: made.adapter_id, title: made.title, sources: made.sources }
    : { kind: "composition", recipe_id: made.recipe_id, title: made.title, sources: made.sources };
}

function compare(made) {
  const single = session.basket.find((row) => row.enabled);
  if (!session.columns.length && single)
    addColumn({ kind: "adapter", id: single.id, title: single.title });
  addColumn(columnOf(made));
  openTab("compare");
}

// What kind of thing it is, in one line.
function kindOf({ existed, entry }) {
  const run = images() ? "runs at generation time" : "routed plan";
  const made = existed ? "made before with this very recipe" : "";
  const told = entry ? [rankText(entry), bytes(entry.bytes)] : [run];
  return [made, ...told].filter(Boolean).join(" · ");
}

function card(made, known) {
  const { entry = null, notes = [] } = known;
  const input = h("input", {
    class: "ls-text",
    readonly: true,
    value: link(made.recipe_id),
    "aria-label": "Link to this composition",
    onfocus: () => input.select(),
  });
  return h(
    "div",
    {
      class: "ls-result-card",
      "data-adapter": made.adapter_id || "",
      "data-recipe": made.recipe_id,
    },
    h(
      "div",
      { class: "ls-result-head" },
      entry ? glyph(entry, 56) : null,
      h(
        "div",
        null,
        h("h3", null, made.title),
        h("p", { class: "ls-quiet ls-small" }, kindOf(known)),
      ),
    ),
    notes.map((note) => h("p", { class: "ls-note" }, note)),
    h(
      "div",
      { class: "ls-actions" },
      button(
        "Compare it",
        { kind: "primary", class: "ls-compare-it", onclick: () => compare(made) },
        "arrow",
      ),
    ),
    exported(made, known),
    h(
      "div",
      { class: "ls-link" },
      input,
      button("Copy link", { onclick: () => copy(input.value, input) }, "link"),
    ),
  );
}

export function mount({ host, props, watch }) {
  let shown = ""; // recipe of the card
  let base = ""; // its base model; with another one in use it is out of sight

  async function show(made, known) {
    shown = made.recipe_id;
    base = made.base || session.base;
    swap(host, card(made, known));
    host.hidden = base !== session.base;
    try {
      const offers = await getJson(`api/exports/${encodeURIComponent(made.recipe_id)}`);
      if (shown === made.recipe_id) swap(host, card(made, { ...offers, ...known, offers }));
    } catch (error) {
      console.debug(error);
    }
  }

  const receive = () => {
    const done = (props.value || {}).result;
    if (!done) return;
    show(remember(done), { existed: done.existed, entry: done.entry, notes: done.notes });
    document.dispatchEvent(new Event("ls-gallery-changed"));
  };
  // What was opened by a link, from a file or from the history.
  const follow = () => {
    const id = session.opened?.recipe_id || "";
    if (id && id !== shown) show({ ...session.opened, ...madeOf(id) }, {});
    host.hidden = !id || base !== session.base;
  };
  watch("value", receive);
  subscribe(follow);
  if ((props.value || {}).result) receive();
  else follow();
}
