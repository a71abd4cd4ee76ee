// One card of the gallery.

import { bytes, fixed, h, icon, rankText } from "./dom.js";
import { face } from "./face.js";
import { standing } from "./keeping.js";
import { shared } from "./me.js";
import { hueOf, picked, toggle } from "./state.js";

const KINDS = { demo: "demo", composed: "composed", uploaded: "uploaded" };

// What the reason of a hit is: its nearest sample, matched words, or a line of its card.
export const reasonKind = (hit) =>
  ({ sample: "Trained on", card: "Card says" })[hit.reason_kind] || "Matches";

function reason(hit) {
  if (!hit.reason) return null;
  return h(
    "p",
    { class: "ls-card-reason" },
    h("span", { class: "ls-quiet" }, `${reasonKind(hit)}: `),
    hit.reason,
  );
}

function similarity(hit) {
  if (!Number.isFinite(hit.similarity)) return null;
  const width = `${Math.max(0, Math.min(1, hit.similarity)) * 100}%`;
  return h(
    "div",
    { class: "ls-sim", title: "Cosine similarity to the search text" },
    h("span", { class: "ls-sim-track" }, h("span", { class: "ls-sim-fill", style: { width } })),
    h("span", { class: "ls-num" }, fixed(hit.similarity)),
  );
}

export function paintPick(node, id) {
  const on = Boolean(picked(id));
  node.classList.toggle("is-picked", on);
  node.style.setProperty("--ls-hue", on ? hueOf(id) : "var(--ls-ink-soft)");
  const pick = node.querySelector(".ls-pick");
  pick.setAttribute("aria-pressed", String(on));
  pick.replaceChildren(icon(on ? "check" : "plus", 16));
}

export function card(hit, open) {
  const title = hit.title || "Untitled adapter";
  const pick = h("button", {
    type: "button",
    class: "ls-pick",
    "aria-label": `Pick ${title}`,
    onclick: (event) => {
      event.stopPropagation();
      toggle(hit);
    },
  });
  const tags = (hit.tags || []).filter((tag) => tag !== hit.kind && tag !== hit.modality).slice(0, 3);
  const marks = shared() ? standing(hit).filter(Boolean) : [];
  const node = h(
    "article",
    { class: "ls-card", tabindex: 0, "data-id": hit.id, "aria-label": title },
    h(
      "div",
      { class: "ls-card-head" },
      face(hit, 56, 88, `Pictures made with ${title}`),
      h(
        "div",
        { class: "ls-card-titles" },
        h("h3", { class: "ls-card-title" }, title),
        h(
          "p",
          { class: "ls-card-meta" },
          [rankText(hit), bytes(hit.bytes), hit.contributor].filter(Boolean).join(" · "),
        ),
      ),
      pick,
    ),
    h("p", { class: "ls-card-text" }, hit.description || "No description."),
    reason(hit),
    h(
      "div",
      { class: "ls-card-foot" },
      h(
        "div",
        { class: "ls-tags" },
        marks,
        hit.modality === "image" ? h("span", { class: "ls-tag ls-tag-kind" }, "image") : null,
        hit.kind && hit.kind !== "demo"
          ? h("span", { class: "ls-tag ls-tag-kind" }, KINDS[hit.kind] || hit.kind)
          : null,
        tags.slice(0, marks.length ? 1 : 3).map((tag) => h("span", { class: "ls-tag" }, tag)),
      ),
      (hit.warnings || []).length
        ? h(
            "span",
            { class: "ls-card-warn", title: hit.warnings.join("\n") },
            icon("warn", 14),
            h("span", null, hit.warnings.length > 1 ? `${hit.warnings.length} warnings` : "1 warning"),
          )
        : null,
      similarity(hit),
    ),
  );
  node.addEventListener("click", () => open(hit.id));
  node.addEventListener("keydown", (event) => {
    if (event.target !== node) return;
    if (event.key === "Enter") {
      event.preventDefault();
      open(hit.id);
    }
    if (event.key === " ") {
      event.preventDefault();
      toggle(hit);
    }
  });
  paintPick(node, hit.id);
  return node;
}

export function skeleton() {
  return h(
    "div",
    { class: "ls-card ls-skeleton", "aria-hidden": "true" },
    h(
      "div",
      { class: "ls-card-head" },
      h("span", { class: "ls-bone ls-bone-round" }),
      h("span", { class: "ls-bone ls-bone-title" }),
    ),
    h("span", { class: "ls-bone" }),
    h("span", { class: "ls-bone ls-bone-short" }),
  );
}
