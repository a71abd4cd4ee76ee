// Weights by layer and module of one adapter, closed until they are asked for: a slider a block of
// a picture's pipeline, and rules: modules by name, and one weight or a gradient over the layers.

import { layerBars } from "./bars.js";
import { blockSlider } from "./blocks.js";
import { button, debounce, fixed, h, swap } from "./dom.js";
import { getJson, post } from "./net.js";
import { changed } from "./state.js";

const PAUSE = 250; // milliseconds without typing before the studio is asked

const known = new Map();
let serial = 0;

const route = (item) => `api/adapter/${encodeURIComponent(item.id)}`;

async function entryOf(item) {
  if (!known.has(item.id)) known.set(item.id, getJson(route(item)));
  try {
    return await known.get(item.id);
  } catch (error) {
    known.delete(item.id);
    throw error;
  }
}

// "0.5" is a number, "1, 0.5, 0" a gradient; anything else stays as it was typed and is refused.
function parsed(text) {
  const parts = text.split(/[,;\s]+/).filter(Boolean);
  const numbers = parts.map(Number);
  if (!parts.length || !numbers.every(Number.isFinite)) return text;
  return numbers.length > 1 ? numbers : numbers[0];
}

const written = (weight) => (Array.isArray(weight) ? weight.join(", ") : String(weight));

// Parts of module names that are offered: "*q_proj*", "*mlp*".
function parts(entry) {
  const names = (entry.module_table || []).map((row) => row.module.split("."));
  const words = names.flatMap((name) => name.slice(-2)).filter((word) => !/^\d+$/.test(word));
  return ["*", ...[...new Set(words)].sort().map((word) => `*${word}*`)];
}

function ruleList(item, blocks) {
  const names = new Set(blocks.map((row) => row.block));
  const ours = ([key]) => !names.has(key);
  const rules = Object.entries(item.module_weights || {})
    .filter(ours)
    .map(([key, weight]) => ({ key, text: written(weight) }));
  const list = h("div", { class: "ls-rules" });
  const shown = h("div", { class: "ls-rules-shown" });
  let asked = 0;

  function save() {
    const others = Object.entries(item.module_weights || {}).filter((row) => !ours(row));
    const filled = rules.filter(({ key, text }) => key.trim() || text.trim());
    const mine = filled.map(({ key, text }) => [key.trim(), parsed(text)]);
    item.module_weights = Object.fromEntries([...others, ...mine]);
    changed();
    check();
  }

  const check = debounce(async () => {
    const weights = item.module_weights;
    const mine = (asked += 1);
    if (!Object.keys(weights).length) return tell({ keys: {}, layers: [] });
    try {
      const told = await post(`${route(item)}/weights`, { weights });
      if (mine === asked) tell(told);
    } catch (error) {
      if (mine === asked) swap(shown, h("p", { class: "ls-help" }, error.message));
    }
    return undefined;
  }, PAUSE);

  function tell({ keys, layers, modules }) {
    for (const rule of rules) {
      const { error, modules: fit } = keys[rule.key.trim()] || {};
      const twice = rules.some((other) => other !== rule && other.key.trim() === rule.key.trim());
      const wrong = twice ? "Another rule is for the same modules." : error || "";
      rule.line.textContent = wrong || (fit ? `${fit} of ${modules} modules` : "");
      rule.line.classList.toggle("is-wrong", Boolean(wrong));
      for (const box of rule.boxes) box.setAttribute("aria-invalid", String(Boolean(wrong)));
    }
    swap(shown, layers.length > 1 ? layerBars(layers, "Mean weight", fixed) : null);
  }

  function row(rule) {
    const id = `ls-rule-${(serial += 1)}`;
    const box = (name, label, hint, more = {}) =>
      h("input", {
        type: "text",
        class: "ls-text",
        value: rule[name],
        placeholder: hint,
        "aria-label": `${label} of ${item.title}`,
        "aria-describedby": id,
        spellcheck: "false",
        oninput: (event) => {
          rule[name] = event.target.value;
          save();
        },
        ...more,
      });
    const key = box("key", "Modules", "*mlp* or *", { list: listId, maxlength: 300 });
    const text = box("text", "Weights", "1 or 1, 0.5, 0");
    rule.boxes = [key, text];
    rule.line = h("p", { class: "ls-help ls-rule-line", id, "aria-live": "polite" });
    const drop = button(
      "",
      {
        kind: "icon",
        "aria-label": `Remove this rule of ${item.title}`,
        onclick: () => {
          rules.splice(rules.indexOf(rule), 1);
          draw();
          save();
        },
      },
      "close",
    );
    return h("div", { class: "ls-rule" }, key, text, drop, rule.line);
  }

  const listId = `ls-parts-${(serial += 1)}`;
  const offered = h("datalist", { id: listId });
  entryOf(item).then(
    (entry) => swap(offered, parts(entry).map((part) => h("option", { value: part }))),
    (error) => console.debug(error),
  );
  const draw = () => swap(list, rules.map(row));
  const add = button(
    "Add a rule",
    {
      kind: "link",
      class: "ls-rule-add",
      onclick: () => {
        rules.push({ key: rules.length ? "" : "*", text: "" });
        draw();
        rules[rules.length - 1].boxes[rules.length > 1 ? 0 : 1].focus();
      },
    },
    "plus",
  );
  draw();
  if (rules.length) check();
  return [
    h(
      "p",
      { class: "ls-help" },
      "One number, or several for a gradient from the first layer to the last, times the weight above. Modules by the beginning of their name or a part of it, as *mlp*; * is all. The longest that fits counts.",
    ),
    list,
    add,
    shown,
    offered,
  ];
}

export function moduleWeights(item) {
  const place = h("div", { class: "ls-block-rows" });
  const set = Object.keys(item.module_weights || {}).length;
  const title = "Weights by layer and module";
  const node = h(
    "details",
    { class: "ls-more ls-module-weights" },
    h("summary", null, set ? `${title} (${set} set)` : title),
    place,
  );
  node.addEventListener("toggle", async () => {
    if (!node.open || place.firstChild) return;
    try {
      const { blocks = [] } = await entryOf(item);
      const sliders = blocks.map((block) => blockSlider(item, block));
      swap(place, sliders, ruleList(item, blocks));
    } catch (error) {
      swap(place, h("p", { class: "ls-help" }, error.message));
    }
  });
  return node;
}
