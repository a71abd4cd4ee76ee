// The visitor's session, shared by all islands: base, basket, method, columns. One instance a page.

const HUES = 6;
export const MOST_MADE = 50; // compositions that are remembered
const listeners = new Set();
let keep = () => {};
let planned = false;

export const session = {
  base: "",
  basket: [],
  draft: { method: "", params: {}, seed: 0, title: "" },
  columns: [],
  made: [], // what was composed or opened, the latest first; see history.js
  retrieval: null,
  parked: {}, // base model -> what was picked for it while another one is in use
  opened: null, // the composition that is on screen: {recipe_id, adapter_id, title, notes}
  restored: false,
};

// Counts how often the whole request was replaced; what edits a part of it is then drawn anew.
let turns = 0;
export const turn = () => turns;
export const turned = () => (turns += 1);

const OF_A_BASE = ["basket", "columns", "retrieval"];

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function setKeeper(action) {
  keep = action;
}

export function snapshot() {
  return JSON.parse(JSON.stringify(session));
}

export function changed() {
  if (planned) return;
  planned = true;
  queueMicrotask(() => {
    planned = false;
    for (const listener of listeners) listener(session);
    keep();
  });
}

export function update(values) {
  Object.assign(session, values);
  changed();
}

export const picked = (id) => session.basket.find((row) => row.id === id);

// Picking gives an adapter its hue; map, rows and columns all use it. Past six, grey.
export function hueOf(id) {
  const place = session.basket.findIndex((row) => row.id === id);
  return place >= 0 && place < HUES ? `var(--ls-hue-${place + 1})` : "var(--ls-hue-rest)";
}

// Works with another base model: what was picked for the old one waits until it is used again.
export function useBase(base) {
  if (!base || base === session.base) return false;
  const { [base]: back = {}, ...parked } = session.parked;
  if (session.basket.length)
    parked[session.base] = Object.fromEntries(OF_A_BASE.map((name) => [name, session[name]]));
  const draft = { ...session.draft, title: "" };
  update({ base, parked, draft, basket: [], columns: [], retrieval: null, ...back });
  return true;
}

// What the basket keeps of an adapter, or of a hit with its reason.
export const basketRow = (entry) => ({
  id: entry.id,
  title: entry.title,
  weight: 1,
  enabled: true,
  max_rank: entry.max_rank,
  layer_norms: entry.layer_norms,
  thumbnail: entry.thumbnail || "",
  base_model: entry.base_model || "",
  region: {},
  module_weights: {},
  units: {},
  parents: entry.parents || [],
  reason: entry.reason || "",
  reason_kind: entry.reason_kind || "",
  similarity: entry.similarity ?? null,
});

export function add(entry) {
  if (picked(entry.id)) return;
  if (useBase(entry.base_model))
    document.dispatchEvent(new CustomEvent("ls-base-followed", { detail: entry.base_model }));
  session.basket.push(basketRow(entry));
  changed();
}

const REQUEST = ["base", "basket", "draft", "columns", "retrieval", "opened", "parked"];

// Puts a whole request on screen, such as one that a file carried; gives back what undoes it.
export function replace({ base, basket, draft, retrieval, opened }) {
  const { made: _, ...before } = snapshot();
  useBase(base);
  turned();
  update({ basket, draft: { ...session.draft, ...draft }, retrieval: retrieval || null, opened });
  return () => {
    turned();
    update(Object.fromEntries(REQUEST.map((name) => [name, before[name]])));
  };
}

export function drop(id) {
  session.basket = session.basket.filter((row) => row.id !== id);
  changed();
}

export const toggle = (entry) => (picked(entry.id) ? drop(entry.id) : add(entry));

export function sameColumn(a, b) {
  return a.kind === b.kind && a.id === b.id && a.method === b.method && a.recipe_id === b.recipe_id;
}

export function addColumn(column) {
  if (session.columns.length >= 7 || session.columns.some((other) => sameColumn(other, column)))
    return false;
  session.columns.push(column);
  changed();
  return true;
}

export const TABS = ["gallery", "map", "compose", "compare", "leaderboard"];

export function openTab(name) {
  const tabs = document.querySelectorAll(
    "#ls-tabs > .tab-wrapper [role=tab], #ls-tabs [role=tablist] [role=tab]",
  );
  const wanted = [...tabs].find(
    (tab) => TABS.includes(name) && tab.textContent.trim().toLowerCase() === name,
  );
  if (wanted) wanted.click();
  window.scrollTo({ top: 0 });
}
