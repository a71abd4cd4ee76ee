// The map of rank units: canvas or table, coloured by cluster or adapter, with the cluster table.

import { adapterTitle, clusterTable, legend, moduleName, sameCluster, unitTable } from "./clusters.js";
import { button, empty, fixed, h, icon, percent, swap } from "./dom.js";
import { address } from "./net.js";
import { Plot } from "./plot.js";
import { groupsOf, readPoints } from "./points.js";
import { openTab, session, subscribe } from "./state.js";

const HUES = 6;

export function mount({ host, props, trigger, watch }) {
  const view = { value: null, points: null, by: "cluster", selected: null, focus: -1, places: new Map(), table: false, asked: "", file: "" };
  const canvas = h("canvas", { tabindex: 0, role: "application", class: "ls-canvas", "aria-label": "Map of rank units. Arrows move between units, Enter chooses a cluster, brackets change cluster." });
  const plot = new Plot(canvas);
  const card = h("div", { class: "ls-hover", hidden: true });
  const said = h("p", { class: "ls-said", "aria-live": "polite" });
  const side = h("div", { class: "ls-map-side" });
  const units = h("div", { class: "ls-unit-table", hidden: true });
  const caveat = h("div");
  const stage = h("div", { class: "ls-stage" }, canvas, card, units);
  const body = h("div", { class: "ls-map-body" }, h("div", { class: "ls-map-main" }, tools(), stage, said), side);

  function tools() {
    const choice = (value, label) => h("label", { class: "ls-segment" }, h("input", { type: "radio", name: "ls-map-by", checked: view.by === value, onchange: () => { view.by = value; light(null, -1); recolour(); } }), h("span", null, label));
    const tableButton = button("Table", { "aria-pressed": "false", onclick: () => { view.table = !view.table; tableButton.setAttribute("aria-pressed", String(view.table)); tableButton.classList.toggle("is-on", view.table); canvas.hidden = view.table; units.hidden = !view.table; render(); } }, "table");
    return h("div", { class: "ls-map-tools" }, h("span", { class: "ls-label" }, "Colour by"), h("div", { class: "ls-segments", role: "radiogroup", "aria-label": "Colour by" }, choice("cluster", "Cluster"), choice("adapter", "Adapter")),
      h("span", { class: "ls-grow" }), tableButton,
      button("−", { kind: "icon", "aria-label": "Zoom out", onclick: () => { plot.zoom(1 / 1.5); paint(); } }), button("+", { kind: "icon", "aria-label": "Zoom in", onclick: () => { plot.zoom(1.5); paint(); } }));
  }

  function style() {
    const css = getComputedStyle(host);
    const read = (name) => css.getPropertyValue(name).trim();
    return { hues: Array.from({ length: HUES }, (_, place) => read(`--ls-hue-${place + 1}`)), rest: read("--ls-hue-rest"), line: read("--ls-line"), label: read("--ls-ink-soft"), text: read("--ls-ink"), font: css.fontFamily };
  }

  const paint = () => plot.draw(style());

  function recolour() {
    if (!view.points) return;
    const field = view.by === "cluster" ? view.points.cluster : view.points.adapter;
    const order = view.by === "cluster" ? groupsOf(field) : groupsOf(field).sort((a, b) => a[0] - b[0]);
    const places = new Map();
    for (const [group] of order) {
      const hue = view.by === "cluster" ? places.size : session.basket.findIndex((row) => row.id === (view.value.adapters[group] || {}).id);
      if (hue >= 0 && hue < HUES) places.set(group, hue);
      if (view.by === "cluster" && places.size >= HUES) break;
    }
    view.places = view.by === "cluster" ? places : new Map();
    plot.group = Int16Array.from(field, (value) => (places.has(value) ? places.get(value) : -1));
    const rest = order.filter(([group]) => !places.has(group));
    view.legend = order.filter(([group]) => places.has(group)).map(([group, size]) => ({ place: places.get(group), size, title: view.by === "cluster" ? `Cluster ${group + 1}` : adapterTitle(view.value, group) }));
    if (rest.length) view.legend.push({ place: -2, size: rest.reduce((sum, [, size]) => sum + size, 0), title: `${rest.length} more, in grey` });
    render();
  }

  function render() {
    if (!view.value) return;
    swap(side, legend(view.legend, view.focus, (place) => { if (place !== -2) { light(null, place); render(); } }),
      clusterTable(view.value, view.places, view.selected, choose),
      h("p", { class: "ls-help" }, `${view.points.n} units, ${view.value.k} clusters a module${Number.isFinite(view.value.explained) ? `; the two axes show ${percent(view.value.explained)} of the variance` : ""}. Clusters are numbered by falling energy in their module. Distances between far groups mean little.`));
    if (view.table) unitTable(units, view.points, view.value, plot.lit); else paint();
  }

  // Lights the units of one cluster, or of one entry of the legend, and dims the others.
  function light(cluster, place) {
    const { points, value } = view;
    view.selected = cluster;
    view.focus = place;
    plot.lit = null;
    if (!points || (!cluster && place < 0)) return;
    const module = cluster && cluster.module ? (value.all_modules || []).indexOf(cluster.module) : -1;
    plot.lit = Uint8Array.from(points.cluster, (mine, i) => Number(cluster
      ? mine === cluster.cluster && (module < 0 || points.module[i] === module) : plot.group[i] === place));
  }

  function choose(cluster) {
    light(cluster, -1);
    said.textContent = cluster ? `Cluster ${cluster.cluster + 1}${cluster.module ? ` of ${cluster.module}` : ""}: ${cluster.size} units, ${percent(cluster.energy)} of the energy.` : "";
    host.dataset.selected = cluster ? String(cluster.cluster) : "";
    render();
  }

  // The cluster of a point; those too weak for the table are counted here.
  function clusterOf(index) {
    const { points, value } = view;
    const found = { cluster: points.cluster[index], module: (value.all_modules || [])[points.module[index]] || value.module || "" };
    const known = (value.clusters || []).find((item) => sameCluster(item, found));
    if (known) return known;
    let size = 0;
    for (let i = 0; i < points.n; i += 1) size += Number(points.cluster[i] === found.cluster && points.module[i] === points.module[index]);
    return { ...found, size, energy: NaN };
  }

  function tell(index, announce = false) {
    plot.cursor = index;
    paint();
    card.hidden = index < 0;
    if (index < 0) return;
    const { points, value } = view;
    const [x, y] = plot.screen(index);
    const lines = [adapterTitle(value, points.adapter[index]), moduleName(value, points.module[index]), `unit ${points.unit[index]} · cluster ${points.cluster[index] + 1} · energy ${percent(points.energy[index])}`];
    swap(card, h("strong", null, lines[0]), h("span", { class: "ls-mono" }, lines[1]), h("span", null, lines[2]));
    Object.assign(card.style, { left: `${Math.min(x + 12, plot.width - 220)}px`, top: `${y > plot.height - 90 ? y - 84 : y + 12}px` });
    if (announce) said.textContent = lines.join(", ");
  }

  function keys(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!view.points) return;
    if (step) tell(plot.step(...step), true);
    else if (event.key === "Enter" && plot.cursor >= 0) choose(clusterOf(plot.cursor));
    else if (event.key === "[" || event.key === "]") turn(event.key === "]" ? 1 : -1);
    else if (event.key === "+" || event.key === "-") { plot.zoom(event.key === "+" ? 1.5 : 1 / 1.5); paint(); }
    else if (event.key === "0") { plot.zoom(1e-9); paint(); }
    else if (event.key === "Escape" && (plot.lit || plot.cursor >= 0)) { tell(-1); choose(null); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  function turn(way) {
    const order = [...(view.value.clusters || [])].sort((a, b) => b.energy - a.energy);
    const place = order.findIndex((item) => sameCluster(item, view.selected));
    if (order.length) choose(order[(place + way + order.length) % order.length]);
  }

  let drag = null;
  const spot = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  canvas.addEventListener("pointerdown", (event) => { drag = { at: spot(event), moved: false }; });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = spot(event);
    if (drag && plot.view.scale > 1 && event.buttons) {
      drag.moved = drag.moved || Math.hypot(x - drag.at[0], y - drag.at[1]) > 4;
      plot.pan(x - drag.at[0], y - drag.at[1]);
      drag.at = [x, y];
      paint();
    } else tell(plot.nearest(x, y));
  });
  canvas.addEventListener("pointerleave", () => { drag = null; tell(-1); });
  canvas.addEventListener("click", (event) => {
    if (drag && drag.moved) return;
    const index = plot.nearest(...spot(event));
    const cluster = index < 0 ? null : clusterOf(index);
    choose(sameCluster(cluster, view.selected) ? null : cluster);
  });
  canvas.addEventListener("wheel", (event) => { if (!event.ctrlKey) return; event.preventDefault(); plot.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...spot(event)); paint(); }, { passive: false });
  canvas.addEventListener("keydown", keys);

  async function receive() {
    const value = props.value || {};
    if (!value.file || value.serial === view.file) return;
    view.file = value.serial;
    try {
      const response = await fetch(address(`files/map/${encodeURIComponent(value.file)}`));
      if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || "The map did not load. Cluster again.");
      const points = readPoints(await response.arrayBuffer(), value.n);
      Object.assign(view, { value, points, selected: null, focus: -1 });
    } catch (error) {
      swap(host, empty("The map did not load", error.message, button("Try again", { onclick: ask })));
      return;
    }
    const shared = value.shared_seed || {};
    swap(caveat, shared.warning ? h("p", { class: "ls-note is-warn" }, icon("warn"), h("span", null, shared.warning, h("span", { class: "ls-quiet" }, ` (score ${fixed(shared.score)})`))) : null);
    if (!body.isConnected) swap(host, caveat, body);
    plot.show(view.points, value.modules || []);
    plot.resize();
    recolour();
    host.dataset.ready = String(value.n);
    window.studioMap = { point: (index) => plot.screen(index), n: value.n };
  }

  const key = () => JSON.stringify(session.basket.filter((row) => row.enabled).map((row) => [row.id, row.weight]));

  function ask() {
    const enabled = session.basket.some((row) => row.enabled);
    if (!host.offsetParent || !session.restored) return;
    if (!enabled) {
      view.asked = "";
      host.dataset.ready = "";
      swap(host, empty("Pick adapters to see what they are made of", "Each point is one rank unit: one direction read and one direction written. Units that lie together do similar things to the model.", button("Open the gallery", { onclick: () => openTab("gallery") })));
    } else if (key() !== view.asked) {
      view.asked = key();
      setTimeout(() => trigger("cluster"), 30);
      if (!view.points) swap(host, h("div", { class: "ls-stage is-waiting" }, h("p", { class: "ls-quiet" }, "Clustering the rank units…")));
    }
    if (enabled && view.points && !body.isConnected) swap(host, caveat, body);
  }

  new ResizeObserver(() => { if (host.offsetParent) { ask(); if (body.isConnected) { plot.resize(); paint(); } } }).observe(host.closest(".ls-block") || host);
  new MutationObserver(paint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  subscribe(ask);
  watch("value", receive);
  swap(host, h("div", { class: "ls-stage is-waiting" }));
  ask();
  receive();
}
