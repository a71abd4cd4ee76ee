// What a composition became: downloads, a link that replays it, and the way on to Compare.

import { images } from "./bases.js";
import { button, bytes, h, icon, rankText, swap } from "./dom.js";
import { downloads, promise } from "./download.js";
import { glyph } from "./glyph.js";
import { address } from "./net.js";
import { addColumn, openTab, session, subscribe, update } from "./state.js";
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

const file = (path, label) =>
  h(
    "a",
    { class: "ls-btn ls-btn-plain", href: address(path), download: "" },
    icon("download"),
    h("span", null, label),
  );

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

function remember(done) {
  const entry = done.entry || {};
  const sources = session.basket.filter((row) => row.enabled).map((row) => row.id);
  const titles = session.basket
    .filter((row) => row.enabled)
    .map((row) => row.title)
    .join(" + ");
  const made = {
    recipe_id: done.recipe_id,
    adapter_id: done.adapter_id || null,
    title: entry.title || session.draft.title || `${done.method || ""}: ${titles}`.slice(0, 120),
    sources,
    base: session.base,
  };
  update({
    made: [made, ...session.made.filter((other) => other.recipe_id !== made.recipe_id)].slice(
      0,
      12,
    ),
  });
  document.dispatchEvent(new Event("ls-gallery-changed"));
  return made;
}

function show(host, done, made) {
  const entry = done.entry;
  const input = h("input", {
    class: "ls-text",
    readonly: true,
    value: link(made.recipe_id),
    "aria-label": "Link to this composition",
    onfocus: () => input.select(),
  });
  const recipe = encodeURIComponent(made.recipe_id);
  swap(
    host,
    h(
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
          h(
            "p",
            { class: "ls-quiet ls-small" },
            [
              done.existed ? "made before with this very recipe" : "",
              entry ? rankText(entry) : images() ? "runs at generation time" : "routed plan",
              entry ? bytes(entry.bytes) : "",
            ]
              .filter(Boolean)
              .join(" · "),
          ),
        ),
      ),
      (done.notes || []).map((note) => h("p", { class: "ls-note" }, note)),
      h(
        "div",
        { class: "ls-actions" },
        button(
          "Compare it",
          { kind: "primary", class: "ls-compare-it", onclick: () => compare(made) },
          "arrow",
        ),
        made.adapter_id
          ? downloads({ id: made.adapter_id, modality: images() ? "image" : "text" })
          : file(`download/routed/${recipe}.zip`, images() ? "Sources zip" : "Runnable zip"),
        file(`download/recipe/${recipe}.yaml`, "recipe.yaml"),
      ),
      made.adapter_id && images() ? promise({ modality: "image" }) : null,
      h(
        "div",
        { class: "ls-link" },
        input,
        button("Copy link", { onclick: () => copy(input.value, input) }, "link"),
      ),
    ),
  );
}

export function mount({ host, props, watch }) {
  let base = ""; // the base model of what is shown; with another one in use it is out of sight
  const draw = () => {
    const done = (props.value || {}).result;
    if (!done) return;
    base = session.base;
    host.hidden = false;
    show(host, done, remember(done));
  };
  const reopen = () => {
    host.hidden = Boolean(base) && base !== session.base;
    const opened = session.opened;
    if (!opened || host.firstChild) return;
    base = session.base;
    const title = session.draft.title || "Composition from a link";
    show(host, { entry: null }, { ...opened, title, sources: session.basket.map((row) => row.id) });
  };
  watch("value", draw);
  subscribe(reopen);
  if ((props.value || {}).result) draw();
  else reopen();
}
