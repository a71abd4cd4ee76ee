// Logo and name.

import { h } from "./dom.js";
import { address } from "./net.js";

export function mount({ host }) {
  host.append(
    h("img", { src: address("assets/logo.svg"), alt: "", width: 32, height: 32 }),
    h(
      "div",
      null,
      h("h1", { class: "ls-wordmark" }, "LoRA Studio"),
      h("p", { class: "ls-tagline" }, "Search, compose and compare adapters"),
    ),
  );
}
