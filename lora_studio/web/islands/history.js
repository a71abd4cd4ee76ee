// The history of compositions as a tree that can be walked: a chain of changes goes straight down,
// what else was tried from one of them branches off.

import { button, h, swap } from "./dom.js";
import { forget, goBack } from "./made.js";
import { listMethods } from "./net.js";
import { session, subscribe } from "./state.js";

const time = (at) => {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  const clock = { hour: "2-digit", minute: "2-digit" };
  return today
    ? date.toLocaleTimeString([], clock)
    : date.toLocaleDateString([], { day: "numeric", month: "short", ...clock });
};

// [{made, level, children, above}] roots of the tree of one base model, oldest first.
function grown(list) {
  const nodes = new Map(list.map((made) => [made.recipe_id, { made, children: [] }]));
  const roots = [];
  const oldest = [...nodes.values()].sort((a, b) => (a.made.at < b.made.at ? -1 : 1));
  for (const node of oldest) {
    node.above = nodes.get(node.made.parent) || null;
    (node.above ? node.above.children : roots).push(node);
  }
  return roots;
}

export function mount({ host }) {
  let methods = [];
  let drawn = "";
  let focused = ""; // the one that takes part in tabbing

  const items = () => [...host.querySelectorAll("[role=treeitem]")];
  const itemOf = (id) => host.querySelector(`[data-recipe="${CSS.escape(id)}"]`);

  function focus(node) {
    if (!node) return;
    for (const other of items()) other.tabIndex = other === node ? 0 : -1;
    focused = node.dataset.recipe;
    node.focus();
  }

  function move(event, node) {
    const all = items();
    const place = all.indexOf(event.currentTarget);
    const go = {
      ArrowDown: () => focus(all[place + 1]),
      ArrowUp: () => focus(all[place - 1]),
      ArrowLeft: () => node.above && focus(itemOf(node.above.made.recipe_id)),
      ArrowRight: () => node.children[0] && focus(itemOf(node.children[0].made.recipe_id)),
      Home: () => focus(all[0]),
      End: () => focus(all[all.length - 1]),
      Enter: () => goBack(node.made),
      " ": () => goBack(node.made),
      Delete: () => {
        focused = (all[place + 1] || all[place - 1] || all[0]).dataset.recipe;
        forget(node.made);
        itemOf(focused)?.focus();
      },
    }[event.key];
    if (!go || event.target !== event.currentTarget) return;
    event.preventDefault();
    event.stopPropagation();
    go();
  }

  function item(node, level) {
    const { made } = node;
    const here = session.opened?.recipe_id === made.recipe_id;
    const method = methods.find((one) => one.name === made.method)?.title || "";
    const said = made.said.join(", ");
    const title = node.above && node.above.made.title === made.title ? "" : made.title;
    const [first, second] = said
      ? [said, [title, time(made.at)]]
      : [title || made.title, [method, time(made.at)]];
    const away = button(
      "",
      {
        kind: "icon",
        class: "ls-history-forget",
        tabindex: -1,
        "aria-label": `Forget ${first}`,
        onclick: (event) => {
          event.stopPropagation();
          forget(made);
        },
      },
      "close",
    );
    return h(
      "div",
      {
        class: `ls-history-item ${here ? "is-here" : ""}`,
        role: "treeitem",
        tabindex: -1,
        "data-recipe": made.recipe_id,
        "aria-level": level,
        "aria-current": here ? "true" : null,
        "aria-selected": here ? "true" : "false",
        "aria-label": `${first}, ${second.filter(Boolean).join(", ")}`,
        onclick: () => goBack(made),
        onkeydown: (event) => move(event, node),
      },
      h("span", { class: "ls-history-dot", "aria-hidden": "true" }),
      h(
        "span",
        { class: "ls-history-text" },
        h("span", { class: "ls-history-said" }, first),
        h("span", { class: "ls-quiet ls-small" }, second.filter(Boolean).join(" · ")),
      ),
      here ? h("span", { class: "ls-tag ls-tag-kind" }, "here") : null,
      away,
    );
  }

  // A chain from `node` on; what branches off stands between a composition and its first change.
  function chain(node, level) {
    const parts = [];
    for (let now = node, deep = level; now; now = now.children[0], deep += 1) {
      parts.push(item(now, deep));
      const side = now.children.slice(1).map((child) => chain(child, deep + 1));
      parts.push(side.map((branch) => h("div", { class: "ls-history-branch", role: "group" }, branch)));
    }
    return parts;
  }

  function draw() {
    const mine = session.made.filter((one) => !one.base || one.base === session.base);
    const key = JSON.stringify([mine, session.opened?.recipe_id, methods.length]);
    if (key === drawn) return;
    drawn = key;
    const held = host.contains(document.activeElement);
    const roots = grown(mine);
    swap(
      host,
      h(
        "div",
        { class: "ls-history-head" },
        h("h2", { class: "ls-step" }, "History"),
        mine.length
          ? button("Forget all", { kind: "link", class: "ls-history-clear", onclick: () => forget(...mine) })
          : null,
      ),
      mine.length
        ? h(
            "div",
            { class: "ls-history-trees", role: "tree", "aria-label": "Compositions, by what was changed" },
            roots.map((root) => h("div", { class: "ls-history-tree", role: "none" }, chain(root, 1))),
          )
        : h(
            "p",
            { class: "ls-help" },
            "Compositions are kept here with what was changed from one to the next. Choose one to go back to it.",
          ),
    );
    const all = items();
    const stop = itemOf(focused) || itemOf(session.opened?.recipe_id || "") || all[0];
    if (stop) stop.tabIndex = 0;
    if (held && stop) stop.focus({ preventScroll: true });
  }

  listMethods().then(
    (found) => {
      methods = found;
      draw();
    },
    (error) => console.debug(error),
  );
  subscribe(draw);
  draw();
}
