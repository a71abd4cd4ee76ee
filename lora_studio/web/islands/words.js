// Words to copy with one click: trigger words of an adapter.

import { h } from "./dom.js";
import { toast } from "./toast.js";

async function copy(word) {
  try {
    await navigator.clipboard.writeText(word);
    toast(`Copied “${word}”.`);
  } catch (error) {
    toast(`“${word}” could not be copied; select and copy it by hand.`, { kind: "error" });
  }
}

export function copyChips(given) {
  const words = given.flatMap((text) => text.split(",")).map((word) => word.trim());
  return h(
    "div",
    { class: "ls-chips" },
    [...new Set(words)].filter(Boolean).map((word) =>
      h(
        "button",
        {
          type: "button",
          class: "ls-btn ls-btn-chip ls-word",
          "aria-label": `Copy ${word}`,
          onclick: () => copy(word),
        },
        h("span", null, word),
      ),
    ),
  );
}
