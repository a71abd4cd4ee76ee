// The state of the studio in a few chips, the theme switch and the help button.

import { button, bytes, h, icon, swap } from "./dom.js";
import { showHelp } from "./keys.js";

const STATES = { ready: "ready", busy: "busy", starting: "starting", down: "down" };

function chip(label, value, { tone = "", title = "" } = {}) {
  return h(
    "span",
    { class: `ls-chip ${tone}`, title },
    h("span", { class: "ls-chip-label" }, label),
    h("span", null, value),
  );
}

function tone(state) {
  return { ready: "is-good", busy: "is-busy", starting: "is-busy", down: "is-bad" }[state] || "";
}

function chipsOf(status) {
  const model = (status.lanes || {}).model || {};
  const state = STATES[model.state] || "starting";
  const memory = status.memory || {};
  const known = String(status.device || "auto");
  const device = known === "auto" ? "model" : known; // the device shows once a model is loaded
  return [
    h(
      "span",
      {
        class: `ls-chip ls-chip-device ${tone(state)}`,
        title:
          known === "auto"
            ? `Model worker: ${state}; its device shows once a model is loaded`
            : `Model worker on ${known}: ${state}`,
      },
      h("span", { class: "ls-dot", "aria-hidden": "true" }),
      h("span", null, device),
      h("span", { class: "ls-chip-label" }, state),
    ),
    chip("memory", bytes(memory.rss), {
      title: `Of ${bytes(memory.total)}${memory.gpu ? `; GPU ${bytes(memory.gpu.used ?? memory.gpu)}` : ""}`,
    }),
    chip("queue", String(status.queue ?? 0), { title: "Jobs running or waiting" }),
    chip("search", status.search === "semantic" ? "by meaning" : "by words", {
      title:
        status.search === "semantic"
          ? "Text is compared with what adapters do"
          : "The embedder is starting; words are matched meanwhile",
    }),
    (status.damaged || []).length
      ? chip("damaged", String(status.damaged.length), {
          tone: "is-bad",
          title: `Files missing or altered, not shown: ${status.damaged.map((one) => one.title).join(", ")}`,
        })
      : null,
    status.persistent === false
      ? chip("storage", "until restart", {
          tone: "is-bad",
          title: "Uploads vanish when this host restarts",
        })
      : null,
  ];
}

function themeButton() {
  const dark = () => document.body.classList.contains("dark");
  const node = button("", { kind: "icon", onclick: flip });
  function draw() {
    swap(node, icon(dark() ? "sun" : "moon", 18));
    node.setAttribute("aria-label", dark() ? "Use the light theme" : "Use the dark theme");
  }
  function flip() {
    document.body.classList.toggle("dark");
    try {
      localStorage.setItem("lora-studio-theme", dark() ? "dark" : "light");
    } catch (error) {
      console.debug(error);
    }
  }
  new MutationObserver(draw).observe(document.body, {
    attributes: true,
    attributeFilter: ["class"],
  });
  draw();
  return node;
}

export function mount({ host, props, watch }) {
  const chips = h("div", { class: "ls-chip-row", role: "status", "aria-live": "off" });
  host.append(
    chips,
    themeButton(),
    button("?", { kind: "icon", "aria-label": "Keyboard help", onclick: showHelp }),
  );
  const draw = () => {
    const { status, error } = props.value || {};
    swap(
      chips,
      status
        ? chipsOf(status)
        : chip("studio", error || "starting", { tone: error ? "is-bad" : "is-busy" }),
    );
  };
  watch("value", draw);
  draw();
}
