// The bar at the foot of the page: what is picked, and where to go with it.

import { button, h, icon, swap } from "./dom.js";
import { drop, hueOf, openTab, session, subscribe, update } from "./state.js";

const TABS = ["Gallery", "Map"]; // Compose and Compare list the basket themselves

export function mount({ host }) {
  const draw = () => {
    const rows = session.basket;
    host.classList.toggle("is-empty", !rows.length);
    document.body.classList.toggle("ls-has-basket", rows.length > 0);
    if (!rows.length) return swap(host);
    swap(
      host,
      h(
        "div",
        { class: "ls-basket-bar", role: "region", "aria-label": "Basket" },
        h("strong", { class: "ls-basket-count" }, `${rows.length} picked`),
        h(
          "div",
          { class: "ls-basket-rows" },
          rows.map((row) =>
            h(
              "span",
              { class: "ls-basket-item", vars: { "--ls-hue": hueOf(row.id) } },
              h("span", { class: "ls-swatch", "aria-hidden": "true" }),
              h("span", { class: "ls-basket-title", title: row.title }, row.title),
              h(
                "button",
                {
                  type: "button",
                  class: "ls-basket-drop",
                  "aria-label": `Drop ${row.title}`,
                  onclick: () => drop(row.id),
                },
                icon("close", 12),
              ),
            ),
          ),
        ),
        h(
          "div",
          { class: "ls-basket-go" },
          button("Clear", {
            kind: "quiet",
            onclick: () => update({ basket: [], retrieval: null }),
          }),
          button("Map", { class: "ls-to-map", onclick: () => openTab("map") }),
          button("Compose", { kind: "primary", onclick: () => openTab("compose") }, "arrow"),
        ),
      ),
    );
    return undefined;
  };
  const follow = () => {
    const tab = document.querySelector("#ls-tabs [role=tab][aria-selected=true]");
    host.hidden = !tab || !TABS.includes(tab.textContent.trim());
    host.dataset.tab = tab ? tab.textContent.trim() : "";
  };
  const tabs = document.querySelector("#ls-tabs");
  if (tabs)
    new MutationObserver(follow).observe(tabs, {
      attributes: true,
      subtree: true,
      attributeFilter: ["aria-selected"],
    });
  follow();
  subscribe(draw);
  draw();
}
