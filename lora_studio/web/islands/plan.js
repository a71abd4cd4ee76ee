// What a dry run says: rank, size, cosine of the result to each source, sign conflict, warnings.

import { images } from "./bases.js";
import { layerBars } from "./bars.js";
import { curvePlot } from "./curves.js";
import { bytes, count, empty, fixed, h, icon, percent, swap } from "./dom.js";
import { hueOf, session, subscribe } from "./state.js";

const figure = (name, value) =>
  h("div", { class: "ls-figure" }, h("dt", null, name), h("dd", null, value));

export function cosineBar({ id, title, cosine }, signed) {
  const share = Math.max(-1, Math.min(1, cosine || 0));
  const style = signed
    ? { left: `${share < 0 ? 50 + 50 * share : 50}%`, width: `${50 * Math.abs(share)}%` }
    : { left: "0", width: `${100 * share}%` };
  return h(
    "div",
    { class: "ls-cosine", vars: { "--ls-hue": hueOf(id) } },
    h("span", { class: "ls-cosine-title", title }, title),
    h(
      "span",
      { class: `ls-cosine-track ${signed ? "is-signed" : ""}`, "aria-hidden": "true" },
      h("span", { class: "ls-cosine-fill", style }),
    ),
    h("span", { class: "ls-num" }, fixed(cosine)),
  );
}

const BLOCK = /(text_encoder\w*)|((?:down|up)_blocks\.\d+|mid_block|\btransformer_blocks\.\d+)/;
const PARTS = ["text", "down", "mid", "up"];

export const blockOf = (name) => (name.match(BLOCK) || ["other"])[0];

// Blocks from the denoiser's entrance to its exit.
export function blockOrder(a, b) {
  const part = (name) => PARTS.findIndex((start) => name.startsWith(start));
  const number = (name) => Number((name.match(/\d+$/) || [0])[0]);
  return part(a) - part(b) || number(a) - number(b);
}

// Mean over the modules of each block of a denoiser, from its entrance to its exit: [[block, mean]].
function byBlock(modules) {
  const groups = new Map();
  for (const [name, value] of Object.entries(modules)) {
    const block = blockOf(name);
    groups.set(block, [...(groups.get(block) || []), value]);
  }
  return [...groups]
    .sort(([a], [b]) => blockOrder(a, b))
    .map(([name, values]) => [name, values.reduce((sum, value) => sum + value, 0) / values.length]);
}

// Mean over the modules of each layer; modules outside numbered layers share one bar.
function byLayer(modules) {
  const groups = new Map();
  for (const [name, value] of Object.entries(modules)) {
    const layer = (name.match(/\.(\d+)\./) || ["", "–"])[1];
    groups.set(layer, [...(groups.get(layer) || []), value]);
  }
  return [...groups]
    .sort((a, b) => Number(a[0]) - Number(b[0]))
    .map(([, values]) => values.reduce((sum, value) => sum + value, 0) / values.length);
}

function conflict(plan) {
  const whole = plan.sign_conflict;
  const modules = plan.sign_conflict_by_module || {};
  const blocks = images() ? byBlock(modules) : [];
  const layers = images() ? blocks.map(([, mean]) => mean) : byLayer(modules);
  const names = blocks.map(([name]) => name);
  if (!Number.isFinite(whole)) return null;
  return h(
    "section",
    { class: "ls-section" },
    h("h3", null, "Sign conflict"),
    h(
      "div",
      { class: "ls-meter" },
      h(
        "span",
        { class: "ls-meter-track" },
        h("span", { class: "ls-meter-fill", style: { width: `${100 * Math.min(1, whole)}%` } }),
      ),
      h("span", { class: "ls-num" }, percent(whole)),
    ),
    h(
      "p",
      { class: "ls-help" },
      "Share of the sources’ magnitude that cancels out. Independent adapters always cancel some.",
    ),
    layers.length > 1
      ? [
          h("h3", null, names.length ? "By block" : "By layer"),
          layerBars(layers, "Sign conflict", percent, names),
        ]
      : null,
  );
}

function routed(plan) {
  return [
    h(
      "p",
      { class: "ls-note" },
      plan.tries
        ? "A routed plan: which adapters are merged and which stay as they are is tried out on the base model when it is composed."
        : "A routed plan: the sources stay as they are and are weighed while the model runs. Nothing is merged, so there is no rank or size to predict.",
    ),
    (plan.warnings || []).map(warning),
  ];
}

function scheduled(plan) {
  return [
    h(
      "dl",
      { class: "ls-figures is-pair" },
      figure("Model calls a step", fixed(plan.passes, 1)),
      figure("Predictions mixed", String(plan.branches)),
    ),
    h(
      "p",
      { class: "ls-note" },
      "It runs while a picture is made: nothing is merged, so there is no rank or size to predict.",
    ),
    (plan.notes || []).map((note) => h("p", { class: "ls-note" }, note)),
    (plan.warnings || []).map(warning),
    curvePlot(plan.curves || {}),
  ];
}

function body(plan) {
  if (plan.scheduled) return scheduled(plan);
  return plan.routed ? routed(plan) : merged(plan);
}

const warning = (text) => h("p", { class: "ls-note is-warn" }, icon("warn"), h("span", null, text));

function merged(plan) {
  const rank = plan.rank || {};
  return [
    h(
      "dl",
      { class: "ls-figures" },
      figure("Rank", rank.min === rank.max ? String(rank.max) : `${rank.min}–${rank.max}`),
      figure("Size", bytes(plan.bytes)),
      figure("Parameters", count(plan.parameters)),
      figure("Norm", Number.isFinite(plan.norm_ratio) ? `${fixed(plan.norm_ratio)} ×` : "–"),
    ),
    (plan.warnings || []).map(warning),
    h(
      "section",
      { class: "ls-section" },
      h("h3", null, "Cosine of the result to each source"),
      (plan.cosines || []).map((row) =>
        cosineBar(
          row,
          plan.cosines.some((other) => other.cosine < 0),
        ),
      ),
    ),
    conflict(plan),
  ];
}

// What a dry run was made for; when it changes, the figures are out of date.
const request = () =>
  JSON.stringify([
    session.basket.map((row) => [
      row.id,
      row.weight,
      row.enabled,
      row.region,
      row.module_weights,
      row.units,
    ]),
    session.draft.method,
    session.draft.params,
    session.draft.seed,
  ]);

export function mount({ host, props, watch }) {
  let made = null;
  let base = ""; // the base model of the plan
  const stale = h("p", { class: "ls-note" }, "The request has changed since this dry run.");
  const age = () => {
    const old = made !== null && base === session.base && made !== request();
    stale.hidden = !old;
    host.classList.toggle("is-stale", old);
  };
  const draw = () => {
    const known = (props.value || {}).plan;
    const plan = known && base === session.base ? known : null;
    host.dataset.ready = plan ? "1" : "";
    swap(
      host,
      plan
        ? h("div", { class: "ls-plan-body" }, stale, body(plan))
        : empty(
            "No dry run yet",
            "A dry run costs nothing: it shows rank, size and conflicts before anything is written.",
          ),
    );
    age();
  };
  const receive = () => {
    const { plan } = props.value || {};
    made = plan ? request() : null;
    base = session.base;
    draw();
  };
  let seen = session.base;
  watch("value", receive);
  subscribe(() => {
    if (seen === session.base) return age();
    seen = session.base;
    return draw();
  });
  receive();
}
