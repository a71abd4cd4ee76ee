// Beside the map: a legend that focuses, the cluster table, the units of a cluster as a table.

import { fixed, h, percent, swap, table } from "./dom.js";
import { hueOf } from "./state.js";
import { RESULT, isResult, sharesText } from "./owners.js";
import { shorten } from "./plot.js";

const UNITS_SHOWN = 300;

function mark(place) {
  if (place === RESULT)
    return h("span", { class: "ls-ringed", "aria-hidden": "true" }, h("span"));
  return h("span", {
    class: `ls-mark ls-mark-${place < 0 ? "rest" : place % 6}`,
    vars: { "--ls-hue": place < 0 ? "var(--ls-hue-rest)" : `var(--ls-hue-${place + 1})` },
    "aria-hidden": "true",
  });
}

export function legend(groups, focus, choose) {
  return h(
    "div",
    { class: "ls-legend", role: "group", "aria-label": "Legend: choose one to dim the others" },
    groups.map(({ place, title, size }) =>
      h(
        "button",
        {
          type: "button",
          class: `ls-legend-item ${focus === place ? "is-on" : ""}`,
          "aria-pressed": String(focus === place),
          onclick: () => choose(focus === place ? -1 : place),
        },
        mark(place),
        h("span", { class: "ls-legend-title" }, title),
        h("span", { class: "ls-num ls-quiet" }, String(size)),
      ),
    ),
  );
}

function share(cluster, adapters) {
  const total = Object.values(cluster.adapters || {}).reduce((sum, value) => sum + value, 0) || 1;
  const titled = adapters
    .map(({ id, title }) => ({ id, title, n: (cluster.adapters || {})[id] || 0 }))
    .filter((item) => item.n);
  const said = titled.map(({ title, n }) => `${title}: ${n}`).join(", ");
  return h(
    "span",
    { class: "ls-share", role: "img", "aria-label": said, title: said },
    titled.map(({ id, n }) =>
      h("span", { style: { width: `${(100 * n) / total}%`, background: hueOf(id) } }),
    ),
  );
}

export const sameCluster = (a, b) =>
  Boolean(a && b) && a.cluster === b.cluster && (a.module || "") === (b.module || "");

export function clusterTable(value, places, selected, choose) {
  const list = [...(value.clusters || [])].sort((a, b) => b.energy - a.energy);
  const many = (value.modules || []).length > 1;
  return h(
    "div",
    { class: "ls-scroll ls-cluster-scroll" },
    h(
      "table",
      { class: "ls-table ls-cluster-table" },
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", null, "Cluster"),
          many ? h("th", null, "Module") : null,
          h("th", { class: "ls-right" }, "Units"),
          h("th", { class: "ls-right" }, "Energy"),
          h("th", null, "Adapters"),
          h(
            "th",
            { class: "ls-right", title: "Mean cosine of a unit to its cluster's centre" },
            "Cohesion",
          ),
        ),
      ),
      h(
        "tbody",
        null,
        list.map((cluster) => {
          const on = sameCluster(cluster, selected);
          const place = places.has(cluster.cluster) ? places.get(cluster.cluster) : -1;
          return h(
            "tr",
            {
              class: on ? "is-on" : "",
              "data-cluster": cluster.cluster,
              onclick: () => choose(on ? null : cluster),
            },
            h(
              "td",
              null,
              h(
                "button",
                { type: "button", class: "ls-cluster-name", "aria-pressed": String(on) },
                mark(place),
                String(cluster.cluster + 1),
              ),
            ),
            many
              ? h(
                  "td",
                  { class: "ls-mono ls-module-cell", title: cluster.module },
                  shorten(cluster.module, 22),
                )
              : null,
            h("td", { class: "ls-right" }, String(cluster.size)),
            h("td", { class: "ls-right" }, percent(cluster.energy)),
            h("td", null, share(cluster, value.adapters || [])),
            h("td", { class: "ls-right" }, fixed(cluster.cohesion)),
          );
        }),
      ),
    ),
  );
}

export function unitTable(node, points, value, lit) {
  const rows = [];
  for (const wanted of value.result ? [true, false] : [false]) {
    for (let i = 0; i < points.n && rows.length < UNITS_SHOWN; i += 1) {
      if ((!lit || lit[i]) && isResult(points, i) === wanted) rows.push(i);
    }
  }
  swap(
    node,
    h(
      "p",
      { class: "ls-help" },
      lit
        ? `The chosen units${rows.length === UNITS_SHOWN ? `, the first ${UNITS_SHOWN}` : ""}.`
        : `The first ${rows.length} of ${points.n} units. Choose a cluster to see its own.`,
    ),
    table(
      [...(value.result ? ["Adapter", "Owned by"] : ["Adapter"]), "Module", "Unit", "Energy", "Cluster"],
      value.result ? 3 : 2,
      h(
        "tbody",
        null,
        rows.map((i) =>
          h(
            "tr",
            null,
            h("td", null, adapterTitle(value, points.adapter[i])),
            value.result
              ? h("td", null, isResult(points, i) ? sharesText(value, points, i) : "")
              : null,
            h("td", { class: "ls-mono" }, moduleName(value, points.module[i])),
            h("td", { class: "ls-right" }, String(points.unit[i])),
            h("td", { class: "ls-right" }, percent(points.energy[i])),
            h("td", { class: "ls-right" }, String(points.cluster[i] + 1)),
          ),
        ),
      ),
    ),
  );
}

export function adapterTitle(value, place) {
  const adapters = value.adapters || [];
  if (value.result && place === adapters.length) return `Result: ${value.result.title}`;
  return (adapters[place] || { title: "?" }).title;
}

export function moduleName(value, place) {
  return shorten((value.all_modules || [])[place] || value.module || "?", 40);
}
