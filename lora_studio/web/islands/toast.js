// Short messages at the edge of the page. Errors stay until closed; text only.

import { button, h, icon } from "./dom.js";

function shelf() {
  let node = document.getElementById("ls-toasts");
  if (!node) {
    node = h("div", { id: "ls-toasts", role: "region", "aria-label": "Messages" });
    document.body.append(node);
  }
  return node;
}

export function toast(
  text,
  { kind = "info", action = null, seconds = kind === "error" ? 12 : 5 } = {},
) {
  const close = () => node.remove();
  const node = h(
    "div",
    { class: `ls-toast ls-toast-${kind}`, role: kind === "error" ? "alert" : "status" },
    kind === "error" ? icon("warn") : null,
    h("span", { class: "ls-toast-text" }, text),
    action
      ? button(action.label, {
          kind: "link",
          onclick: () => {
            close();
            action.run();
          },
        })
      : null,
    button("", { kind: "icon", "aria-label": "Close message", onclick: close }, "close"),
  );
  shelf().append(node);
  setTimeout(close, 1000 * seconds);
  return close;
}
