// A numbered heading of one step.

import { h } from "./dom.js";

export function mount({ host, props }) {
  const { text, title } = props.value || {};
  host.append(
    h(
      "h2",
      { class: "ls-step" },
      text ? h("span", { class: "ls-step-number", "aria-hidden": "true" }, text) : null,
      title || "",
    ),
  );
}
