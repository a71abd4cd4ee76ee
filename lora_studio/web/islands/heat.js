// Who spoke at each token of an answer: tokens down, layers across; a token says why when chosen.

import { showDialog } from "./dialog.js";
import { h, percent, swap, table } from "./dom.js";
import { hueOf } from "./state.js";

const SPARE = [1, 2, 3, 4, 5, 6]; // hues of adapters that are not in the basket

const sum = (values) => values.reduce((total, x) => total + x, 0);
const shown = (token) => token.replace(/\n/g, "↵").replace(/^ +| +$/g, "·") || "·";

function huesOf(value) {
  const known = value.adapters.map((id) => hueOf(id));
  const free = SPARE.map((n) => `var(--ls-hue-${n})`).filter((hue) => !known.includes(hue));
  return known.map((hue) => (hue.includes("rest") ? free.shift() || hue : hue));
}

// Of one token in one layer: what each adapter wrote as shares, and all of it together.
function cellOf(value, layer, token) {
  const wrote = value.wrote[layer][token];
  const total = sum(wrote);
  return { shares: wrote.map((x) => (total ? x / total : 0)), total };
}

function bar(shares, hues) {
  return h(
    "span",
    { class: "ls-heat-bar" },
    shares.map((share, place) =>
      share > 0.005
        ? h("span", { vars: { "--ls-hue": hues[place] }, style: { flexGrow: String(share) } })
        : null,
    ),
  );
}

function overall(value, token) {
  const sums = value.adapters.map((_, place) =>
    sum(value.layers.map((_, layer) => value.wrote[layer][token][place])),
  );
  const total = sum(sums);
  return sums.map((x) => (total ? x / total : 0));
}

function says(value, shares) {
  const order = shares.map((share, place) => [share, place]).sort((a, b) => b[0] - a[0]);
  return order
    .filter(([share]) => share >= 0.005)
    .map(([share, place]) => `${value.titles[place][1]} ${percent(share)}`)
    .join(", ");
}

// Why a token came out so: the shares of each layer, how far the router let each pass, loud units.
function why(value, token, hues) {
  const units = new Map(value.units.map(([layer, place, loud]) => [`${layer}:${place}`, loud]));
  const rows = value.layers.map((number, layer) => {
    const { shares } = cellOf(value, layer, token);
    const passed = value.weights[layer][token].map((x, place) =>
      h(
        "div",
        { class: "ls-heat-unit", title: value.titles[place][1], vars: { "--ls-hue": hues[place] } },
        h("span", { class: "ls-swatch" }),
        percent(x),
      ),
    );
    const loud = (units.get(`${layer}:${token}`) || []).slice(0, 3).map(([module, place, unit]) =>
      h(
        "div",
        { class: "ls-heat-unit", vars: { "--ls-hue": hues[place] } },
        h("span", { class: "ls-swatch" }),
        h("span", { class: "ls-mono" }, `${module.split(".").pop()} · unit ${unit}`),
      ),
    );
    return h(
      "tr",
      null,
      h("td", null, String(number)),
      h("td", { title: says(value, shares) }, bar(shares, hues)),
      h("td", null, passed),
      h("td", null, loud),
    );
  });
  return [
    h(
      "p",
      { class: "ls-heat-said", role: "status" },
      h("strong", null, `“${shown(value.tokens[token])}” `),
      says(value, overall(value, token)) || "nobody wrote anything",
    ),
    table(["Layer", "Wrote", "Let pass", "Loudest rank units"], 4, h("tbody", null, rows)),
  ];
}

export function heat(value) {
  const hues = huesOf(value);
  const most = Math.max(
    1e-12,
    ...value.layers.flatMap((_, l) => value.tokens.map((_, t) => cellOf(value, l, t).total)),
  );
  const detail = h("div", { class: "ls-heat-why" });
  let chosen = -1;

  function choose(token, focus = false) {
    const rows = [...grid.querySelectorAll(".ls-heat-token")];
    rows[chosen]?.setAttribute("aria-pressed", "false");
    chosen = token;
    rows[token].setAttribute("aria-pressed", "true");
    if (focus) rows[token].focus();
    swap(detail, why(value, token, hues));
  }

  const row = (text, token) =>
    h(
      "button",
      {
        type: "button",
        class: `ls-heat-token ${token < value.answer ? "is-prompt" : ""}`,
        "aria-pressed": "false",
        "aria-label": `${text.trim() || "space"}: ${says(value, overall(value, token)) || "nobody"}`,
        onclick: () => choose(token),
        onkeydown: (event) => {
          const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
          if (!step) return;
          event.preventDefault();
          choose(Math.min(value.tokens.length - 1, Math.max(0, token + step)), true);
        },
      },
      h("span", { class: "ls-heat-text ls-mono" }, shown(text)),
      value.layers.map((_, layer) => {
        const { shares, total } = cellOf(value, layer, token);
        return h(
          "span",
          { class: "ls-heat-cell", style: { opacity: String(0.25 + (0.75 * total) / most) } },
          bar(shares, hues),
        );
      }),
    );

  const grid = h(
    "div",
    { class: "ls-heat-grid", vars: { "--ls-layers": String(value.layers.length) } },
    h(
      "div",
      { class: "ls-heat-head ls-small ls-quiet", "aria-hidden": "true" },
      h("span", null, "Token, layer"),
      value.layers.map((number) => h("span", null, String(number))),
    ),
    value.tokens.map(row),
  );
  const key = h(
    "ul",
    { class: "ls-heat-key" },
    value.titles.map(([, title], place) =>
      h(
        "li",
        { vars: { "--ls-hue": hues[place] } },
        h("span", { class: "ls-swatch" }),
        h("span", null, title),
      ),
    ),
  );
  const body = h(
    "div",
    { class: "ls-heat-body" },
    h(
      "p",
      { class: "ls-help" },
      "Each row is a token as it was read; the token after it is what came of it. The width of a colour is the adapter’s share of what was written to the layer, its strength how much was written at all. Choose a token to see why.",
    ),
    key,
    h("div", { class: "ls-heat-both" }, grid, detail),
  );
  choose(Math.max(0, value.answer - 1));
  return body;
}

export function mount({ props, watch }) {
  let last = null;
  watch("value", () => {
    const value = props.value || {};
    if (!value.tokens || value.serial === last) return;
    last = value.serial;
    showDialog({ title: `Who spoke in “${value.column.title}”`, body: heat(value), kind: "heat" });
  });
}
