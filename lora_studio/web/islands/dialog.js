// A modal layer: keeps the focus inside, closes on Escape or on its backdrop, gives the focus back.

import { button, h } from "./dom.js";

let open = null;

export function closeDialog() {
  if (open) open();
}
export const dialogOpen = () => open !== null;

export function showDialog({ title, body, kind = "drawer", footer = null, head = null }) {
  closeDialog();
  const before = document.activeElement;
  const close = () => {
    layer.remove();
    document.documentElement.classList.remove("ls-locked");
    open = null;
    (before?.isConnected ? before : twin(before))?.focus({ preventScroll: true });
  };
  const panel = h(
    "div",
    {
      class: `ls-dialog ls-dialog-${kind}`,
      role: "dialog",
      "aria-modal": "true",
      "aria-label": title,
      tabindex: -1,
    },
    h(
      "header",
      { class: "ls-dialog-head" },
      head || h("h2", null, title),
      button("", { kind: "icon", "aria-label": "Close", onclick: close }, "close"),
    ),
    h("div", { class: "ls-dialog-body" }, body),
    footer ? h("footer", { class: "ls-dialog-foot" }, footer) : null,
  );
  const layer = h(
    "div",
    {
      class: "ls-layer",
      onclick: (event) => {
        if (event.target === layer) close();
      },
    },
    panel,
  );
  layer.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      close();
    }
    if (event.key === "Tab") trap(panel, event);
  });
  document.documentElement.classList.add("ls-locked");
  document.body.append(layer);
  open = close;
  const foot = panel.querySelector(".ls-dialog-foot"); // messages stand above it
  document.documentElement.style.setProperty("--ls-foot", `${foot?.offsetHeight || 0}px`);
  panel.focus();
  return { close, panel };
}

// What stands now where a card stood that has been drawn anew since.
function twin(node) {
  const id = node?.dataset?.id;
  return id ? document.querySelector(`.ls-card[data-id="${CSS.escape(id)}"]`) : null;
}

function trap(panel, event) {
  const stops = [
    ...panel.querySelectorAll("button, a[href], input, select, textarea, [tabindex='0']"),
  ].filter((node) => !node.disabled && node.offsetParent !== null);
  if (!stops.length) return;
  const first = stops[0];
  const last = stops[stops.length - 1];
  if (event.shiftKey && (document.activeElement === first || document.activeElement === panel)) {
    event.preventDefault();
    last.focus();
  } else if (!event.shiftKey && document.activeElement === last) {
    event.preventDefault();
    first.focus();
  }
}
