// A file that was dropped to be added carries a composition: it can be opened instead.

import { button, h, icon, swap } from "./dom.js";
import { open } from "./made.js";
import { listMethods } from "./net.js";

async function told({ draft, basket }) {
  const methods = await listMethods().catch(() => []);
  const method = methods.find((one) => one.name === draft.method)?.title || draft.method;
  return `${method} of ${basket.map((row) => row.title).join(", ")}`;
}

export function mount({ host, props, watch }) {
  const draw = async () => {
    const { session: found, name, why } = props.value || {};
    if (why) return swap(host, h("p", { class: "ls-note" }, icon("warn"), h("span", null, why)));
    if (!found) return swap(host);
    const what = h("span", null, `${name} was composed.`);
    swap(
      host,
      h(
        "div",
        { class: "ls-offer", role: "status" },
        what,
        button("Open in Compose", {
          class: "ls-offer-open",
          onclick: () => open(found, `The composition of ${name} is open.`),
        }),
      ),
    );
    what.textContent = `${name} was composed: ${await told(found)}.`;
    return undefined;
  };
  watch("value", draw);
  draw();
}
