// Everything about one adapter, in a drawer: numbers, norms by layer, samples, relatives, warnings.

import { layerBars } from "./bars.js";
import { button, bytes, count, fixed, h, icon, rankText, swap, table } from "./dom.js";
import { closeDialog, showDialog } from "./dialog.js";
import { downloads, promise } from "./download.js";
import { face } from "./face.js";
import { keeping, moderating, standing } from "./keeping.js";
import { me, shared } from "./me.js";
import { reportCard } from "./measures.js";
import { getJson, post } from "./net.js";
import { copyChips } from "./words.js";
import { drop, hueOf, picked, subscribe, toggle } from "./state.js";
import { toast } from "./toast.js";

const SAMPLES = 6;

function fact(name, value) {
  return value ? h("div", { class: "ls-fact" }, h("dt", null, name), h("dd", null, value)) : null;
}

function section(title, ...body) {
  return h("section", { class: "ls-section" }, h("h3", null, title), body);
}

function moduleTable(rows) {
  return h(
    "details",
    { class: "ls-more" },
    h("summary", null, `${rows.length} modules`),
    table(
      ["Module", "Rank", "Shape", "Norm"],
      1,
      h(
        "tbody",
        null,
        rows
          .slice(0, 400)
          .map((row) =>
            h(
              "tr",
              null,
              h("td", { class: "ls-mono" }, row.module),
              h("td", { class: "ls-right" }, String(row.rank)),
              h("td", { class: "ls-right" }, `${row.d_out} × ${row.d_in}`),
              h("td", { class: "ls-right" }, fixed(row.norm)),
            ),
          ),
      ),
    ),
  );
}

function described(entry) {
  return (
    {
      samples: "Found by its sample inputs.",
      card: "Found by its card: it has no sample inputs.",
      centroid: "Found by a vector of its sample inputs, which stayed with its contributor.",
    }[entry.described_by] || "Not yet placed in the search by meaning."
  );
}

function samples(entry) {
  const list = entry.samples || [];
  if (!list.length) return null;
  return section(
    "Sample inputs",
    h(
      "ul",
      { class: "ls-samples" },
      list.slice(0, SAMPLES).map((text) => h("li", null, text)),
    ),
    list.length > SAMPLES
      ? h(
          "details",
          { class: "ls-more" },
          h("summary", null, `${list.length - SAMPLES} more`),
          h(
            "ul",
            { class: "ls-samples" },
            list.slice(SAMPLES).map((text) => h("li", null, text)),
          ),
        )
      : null,
  );
}

function relatives(entry, reload) {
  const list = entry.similar || [];
  if (!list.length) return null;
  return section(
    "Similar adapters",
    h(
      "div",
      { class: "ls-relatives" },
      list.map((hit) =>
        h(
          "button",
          { type: "button", class: "ls-relative", onclick: () => openDrawer(hit.id, reload) },
          face(hit, 32),
          h("span", { class: "ls-relative-title" }, hit.title),
          h("span", { class: "ls-num ls-quiet" }, fixed(hit.similarity)),
        ),
      ),
    ),
  );
}

function depth(entry, norms) {
  const blocks = (entry.blocks || []).map((row) => row.block.replace(/^(unet|transformer)\./, ""));
  const title = blocks.length ? "Norm of the update by block" : "Norm of the update by layer";
  return [title, layerBars(norms, "Norm of the update", fixed, blocks)];
}

function moderation(entry, reload) {
  if (!shared() || !me.moderator) return null;
  const again = () => openDrawer(entry.id, reload);
  return section("Moderation", h("div", { class: "ls-actions" }, moderating(entry, again)));
}

function body(entry, reload) {
  const card = reportCard(entry.measures, entry.twins, (id) => openDrawer(id, reload));
  const norms = (entry.layer_norms || []).filter(Number.isFinite);
  return [
    (entry.warnings || []).map((text) =>
      h("p", { class: "ls-note is-warn" }, icon("warn"), h("span", null, text)),
    ),
    h("p", { class: "ls-lead" }, entry.description || "No description."),
    h(
      "div",
      { class: "ls-tags" },
      shared() ? standing(entry) : null,
      (entry.tags || []).map((tag) => h("span", { class: "ls-tag" }, tag)),
    ),
    moderation(entry, reload),
    h(
      "dl",
      { class: "ls-facts" },
      fact("Rank", rankText(entry).replace("rank ", "")),
      fact("Modules", `${entry.modules} (${(entry.module_kinds || []).join(", ")})`),
      fact("Parameters", count(entry.parameters)),
      fact("Size", bytes(entry.bytes)),
      fact("Norm", fixed(entry.norm)),
      fact("Base model", entry.base_model),
      fact("Contributor", entry.contributor),
      fact("Licence", entry.licence),
      fact("Test prompts", entry.tests ? String(entry.tests) : ""),
      fact("Format", entry.source_format),
      fact("Makes", { text: "text", image: "images" }[entry.modality]),
      entry.modality === "image" ? fact("Parts", (entry.components || []).join(", ")) : null,
    ),
    (entry.trigger_words || []).length
      ? section("Trigger words", copyChips(entry.trigger_words))
      : null,
    entry.trained ? section("How it was trained", h("p", null, entry.trained)) : null,
    norms.length ? section(...depth(entry, norms)) : null,
    card ? section("Report card", card) : null,
    samples(entry),
    h("p", { class: "ls-quiet ls-small" }, described(entry)),
    relatives(entry, reload),
    (entry.module_table || []).length ? section("Modules", moduleTable(entry.module_table)) : null,
    promise(entry),
    h("p", { class: "ls-quiet ls-small ls-mono ls-break" }, `id ${entry.id}`),
  ];
}

async function remove(entry, reload) {
  try {
    await post(`api/adapter/${encodeURIComponent(entry.id)}/delete`);
  } catch (error) {
    toast(error.message, { kind: "error" });
    return;
  }
  closeDialog();
  drop(entry.id);
  reload();
  toast(`Deleted “${entry.title}”.`, {
    seconds: 10,
    action: {
      label: "Undo",
      run: () =>
        post(`api/adapter/${encodeURIComponent(entry.id)}/restore`).then(reload, (error) =>
          toast(error.message, { kind: "error" }),
        ),
    },
  });
}

export async function openDrawer(id, reload = () => {}) {
  let entry;
  try {
    entry = await getJson(`api/adapter/${encodeURIComponent(id)}`);
  } catch (error) {
    toast(error.message, { kind: "error" });
    return;
  }
  const pick = button("", { kind: "primary", onclick: () => toggle(entry) });
  const head = h(
    "div",
    { class: "ls-drawer-head" },
    face(entry, 64, entry.thumbnail ? 160 : 64, `Pictures made with ${entry.title}`),
    h(
      "div",
      null,
      h("h2", null, entry.title || "Untitled adapter"),
      h(
        "p",
        { class: "ls-quiet" },
        [rankText(entry), entry.kind, entry.contributor].filter(Boolean).join(" · "),
      ),
    ),
  );
  const draw = () => {
    const on = Boolean(picked(entry.id));
    swap(
      pick,
      icon(on ? "check" : "plus"),
      h("span", null, on ? "In the basket" : "Add to basket"),
    );
    pick.classList.toggle("is-on", on);
    head.style.setProperty("--ls-hue", on ? hueOf(entry.id) : "var(--ls-ink-soft)");
  };
  draw();
  const again = () => openDrawer(entry.id, reload);
  const gone = () => remove(entry, reload);
  showDialog({
    title: entry.title || "Adapter",
    head,
    body: body(entry, reload),
    footer: [
      pick,
      downloads(entry),
      shared()
        ? keeping(entry, gone, again)
        : button("Delete", { kind: "quiet", onclick: gone }, "trash"),
    ],
  });
  const stop = subscribe(() => {
    if (pick.isConnected) draw();
    else stop();
  });
}
