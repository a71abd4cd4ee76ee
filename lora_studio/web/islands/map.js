// The map of rank units: canvas or table, coloured by cluster or adapter, with the cluster table.

import {
  adapterTitle,
  clusterTable,
  legend,
  moduleName,
  sameCluster,
  unitTable,
} from "./clusters.js";
import { button, empty, h, percent, swap } from "./dom.js";
import { listenTo } from "./gestures.js";
import { HUES, clusterOf, grouping, litBy } from "./groups.js";
import { sharedSeed, summary } from "./map_notes.js";
import { mapTools } from "./map_tools.js";
import { address } from "./net.js";
import { composed, isResult, owner, resultKey, shareBar, sharesOf, sharesText } from "./owners.js";
import { Plot } from "./plot.js";
import { readPoints } from "./points.js";
import { openTab, session, subscribe, update } from "./state.js";

const LABEL =
  "Map of rank units. Arrows move between units, Enter chooses a cluster, brackets change cluster.";
const READING =
  "Each point is one rank unit: one direction read and one direction written. " +
  "Units that lie together do similar things to the model.";

function colours(host) {
  const css = getComputedStyle(host);
  const read = (name) => css.getPropertyValue(name).trim();
  return {
    hues: Array.from({ length: HUES }, (_, place) => read(`--ls-hue-${place + 1}`)),
    rest: read("--ls-hue-rest"),
    ground: read("--ls-canvas"),
    line: read("--ls-line"),
    label: read("--ls-ink-soft"),
    text: read("--ls-ink"),
    font: css.fontFamily,
  };
}

async function fetchPoints(value) {
  const response = await fetch(address(`files/map/${encodeURIComponent(value.file)}`));
  const made = value.result ? value.result.n : 0;
  if (response.ok)
    return readPoints(await response.arrayBuffer(), value.n, value.adapters.length, made);
  const { error } = await response.json().catch(() => ({}));
  throw new Error(error || "The map did not load. Cluster again.");
}

export function mount({ host, props, trigger, watch }) {
  const view = { value: null, points: null, by: "cluster", selected: null, focus: -1 };
  let table = false;
  let showing = false;
  let asked = "";
  let received = null;
  const canvas = h("canvas", {
    tabindex: 0,
    role: "application",
    class: "ls-canvas",
    "aria-label": LABEL,
  });
  const plot = new Plot(canvas);
  const card = h("div", { class: "ls-hover", hidden: true });
  const said = h("p", { class: "ls-said", "aria-live": "polite" });
  const side = h("div", { class: "ls-map-side" });
  const units = h("div", { class: "ls-unit-table", hidden: true });
  const caveat = h("div");
  const stage = h("div", { class: "ls-stage" }, canvas, card, units);
  const paint = () => plot.draw(colours(host));

  function zoom(factor, x, y) {
    plot.zoom(factor, x, y);
    paint();
  }

  function colourBy(by) {
    view.by = by;
    light(null, -1);
    recolour();
  }

  const tools = mapTools({
    zoom: (factor) => zoom(factor),
    choose: colourBy,
    flip: (on) => {
      table = on;
      canvas.hidden = table;
      units.hidden = !table;
      render();
    },
    show: (on) => {
      showing = on;
      if (on) view.by = "adapter"; // whose the units are is what one wants to see
      tools.colour(view.by);
      ask();
    },
  });

  const main = h("div", { class: "ls-map-main" }, tools.node, stage, said);
  const body = h("div", { class: "ls-map-body" }, main, side);

  const hueAt = (source) => {
    const { id } = view.value.adapters[source] || {};
    const place = session.basket.findIndex((row) => row.id === id);
    return place < HUES ? place : -1;
  };
  plot.slices = (index) =>
    sharesOf(view.points, index).map(([source, share]) => [hueAt(source), share]);

  function recolour() {
    if (!view.points) return;
    const {
      places,
      group,
      legend: entries,
    } = grouping(view.points, view.value, view.by, session.basket);
    Object.assign(view, { places, legend: entries });
    plot.group = group;
    render();
  }

  function render() {
    if (!view.value) return;
    const focus = (place) => {
      if (place === -2) return;
      light(null, place);
      render();
    };
    swap(
      side,
      legend(view.legend, view.focus, focus),
      resultKey(view.value, view.points),
      clusterTable(view.value, view.places, view.selected, choose),
      h("p", { class: "ls-help" }, summary(view)),
    );
    if (table) unitTable(units, view.points, view.value, plot.lit);
    else paint();
  }

  // Lights the units of one cluster, or of one entry of the legend, and dims the others.
  function light(cluster, place) {
    Object.assign(view, { selected: cluster, focus: place });
    plot.lit = view.points ? litBy(view.points, view.value, plot.group, cluster, place) : null;
  }

  function choose(cluster) {
    light(cluster, -1);
    const where = cluster && cluster.module ? ` of ${cluster.module}` : "";
    said.textContent = cluster
      ? `Cluster ${cluster.cluster + 1}${where}: ${cluster.size} units, ${percent(cluster.energy)} of the energy.`
      : "";
    host.dataset.selected = cluster ? String(cluster.cluster) : "";
    render();
  }

  function tell(index, announce = false) {
    plot.cursor = index;
    paint();
    card.hidden = index < 0;
    if (index < 0) return;
    const { points, value } = view;
    const [x, y] = plot.screen(index);
    const lines = [
      adapterTitle(value, points.adapter[index]),
      moduleName(value, points.module[index]),
      `unit ${points.unit[index]} · cluster ${points.cluster[index] + 1} · energy ${percent(points.energy[index])}`,
    ];
    const code = h("span", { class: "ls-mono" }, lines[1]);
    const parts = [h("strong", null, lines[0]), code, h("span", null, lines[2])];
    if (isResult(points, index)) {
      lines.push(`owned by ${sharesText(value, points, index) || "nobody"}`);
      parts.push(shareBar(value, points, index), h("span", null, lines[3]));
    }
    swap(card, ...parts);
    card.style.left = `${Math.min(x + 12, plot.width - 220)}px`;
    const tall = card.offsetHeight;
    card.style.top = `${y + 16 + tall > plot.height ? Math.max(4, y - tall - 16) : y + 16}px`;
    if (announce) said.textContent = lines.join(", ");
  }

  listenTo(canvas, plot, {
    paint,
    tell,
    zoom,
    ready: () => view.points !== null,
    pick: (index) => {
      const cluster = index < 0 ? null : clusterOf(view.points, view.value, index);
      choose(sameCluster(cluster, view.selected) ? null : cluster);
    },
    clear: () => {
      tell(-1);
      choose(null);
    },
    turn: (way) => {
      const order = [...(view.value.clusters || [])].sort((a, b) => b.energy - a.energy);
      const place = order.findIndex((item) => sameCluster(item, view.selected));
      if (order.length) choose(order[(place + way + order.length) % order.length]);
    },
  });

  async function receive() {
    const value = props.value || {};
    if (!value.file || value.serial === received) return;
    received = value.serial;
    try {
      const points = await fetchPoints(value);
      if (value.serial !== received) return; // a newer map is on its way
      Object.assign(view, { value, points, selected: null, focus: -1 });
    } catch (error) {
      fail(error.message);
      return;
    }
    const rows = []; // points of the result, in the order of their shares
    view.points.row.forEach((row, i) => row >= 0 && rows.push(i));
    swap(caveat, sharedSeed(value.shared_seed));
    if (!body.isConnected) swap(host, caveat, body);
    plot.show(view.points, value.modules || []);
    plot.strength = Float32Array.from(
      { length: value.result ? value.result.n : 0 },
      (_, row) => owner(view.points, rows[row]).share,
    );
    plot.resize();
    recolour();
    host.dataset.ready = String(value.n);
    host.dataset.result = value.result ? String(value.result.n) : "";
    window.studioMap = { point: (index) => plot.screen(index), n: value.n, result: rows };
    if (showing && session.shown && !value.result) {
      showing = false;
      said.textContent = "That composition is no longer in the gallery.";
      ask();
    }
  }

  function fail(text) {
    const again = () => {
      asked = "";
      ask();
    };
    swap(host, empty("The map is not there", text, button("Try again", { onclick: again })));
  }

  const key = () =>
    JSON.stringify([
      session.shown,
      ...session.basket.filter((row) => row.enabled).map((row) => [row.id, row.weight]),
    ]);

  // Which composition the map is to show; the page reads it when the map is clustered.
  function settleResult() {
    const made = composed();
    tools.offer(made, showing);
    const shown = showing && made ? made.adapter_id : "";
    if ((session.shown || "") !== shown) update({ shown });
  }

  function nothingPicked() {
    asked = "";
    host.dataset.ready = "";
    const go = button("Open the gallery", { onclick: () => openTab("gallery") });
    swap(host, empty("Pick adapters to see what they are made of", READING, go));
  }

  function ask() {
    if (!host.offsetParent || !session.restored) return;
    if (!session.basket.some((row) => row.enabled)) {
      nothingPicked();
      return;
    }
    settleResult();
    if (key() !== asked) {
      asked = key();
      setTimeout(() => trigger("cluster"), 30);
      const text = h("p", { class: "ls-quiet" }, "Clustering the rank units…");
      if (!view.points) swap(host, h("div", { class: "ls-stage is-waiting" }, text));
    }
    if (view.points && !body.isConnected) swap(host, caveat, body);
  }

  function fit() {
    if (!host.offsetParent) return;
    ask();
    if (!body.isConnected) return;
    plot.resize();
    paint();
  }

  new ResizeObserver(fit).observe(host.closest(".ls-block") || host);
  const themed = { attributes: true, attributeFilter: ["class"] };
  new MutationObserver(paint).observe(document.body, themed);
  document.addEventListener("ls-job", ({ detail }) => {
    const over = detail.state === "error" || detail.state === "stopped";
    if (detail.title === "Clustering" && over && !view.points) fail(detail.error || "Stopped.");
  });
  subscribe(ask);
  watch("value", receive);
  swap(host, h("div", { class: "ls-stage is-waiting" }));
  ask();
  receive();
}
