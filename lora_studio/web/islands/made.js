// What was composed here, as a tree: each composition stands with the one it was changed from.

import { getJson } from "./net.js";
import { MOST_MADE, changed, openTab, replace, session, update } from "./state.js";
import { toast } from "./toast.js";

const UNDO_SECONDS = 12;

export const madeOf = (id) => session.made.find((one) => one.recipe_id === id);

const inUse = () => session.basket.filter((row) => row.enabled);
const titlesInUse = () => inUse().map((row) => row.title);

function titleOf(titles) {
  const whole = titles.join(" + ");
  return whole.length <= 80 ? whole : `${titles[0]} + ${titles.length - 1} more`;
}

// Puts one at the head of the list; what is known of it from before stays.
function put({ recipe_id, ...said }) {
  const known = madeOf(recipe_id);
  const rows = inUse();
  const made = {
    parent: "",
    said: [],
    at: new Date().toISOString(),
    sources: rows.map((row) => row.id),
    base: session.base,
    ...known,
    recipe_id,
    ...said,
  };
  made.title = said.title || known?.title || titleOf(titlesInUse());
  const others = session.made.filter((one) => one !== known);
  update({ made: [made, ...others].slice(0, MOST_MADE) });
  return made;
}

// Says what was changed, unless nothing of the one before is in it: then a new tree begins.
async function link(recipe_id, parent) {
  const told = await getJson("api/changes", { before: parent, after: recipe_id });
  const made = madeOf(recipe_id);
  if (!told.related || !made || !madeOf(parent)) return;
  Object.assign(made, { parent, said: told.changes });
  changed();
}

// A plan that is carried out at run time is called after its method.
const planTitle = (done) => (done.method ? `${done.method}: ${titleOf(titlesInUse())}` : "");

// Keeps what a composition became; `done` is the studio's answer.
export function remember(done) {
  const { recipe_id, drafted: method, parent } = done;
  const adapter_id = done.adapter_id || null;
  const known = madeOf(recipe_id);
  const title = done.entry?.title || session.draft.title || planTitle(done);
  const made = put({ recipe_id, adapter_id, method, title });
  update({ opened: { recipe_id, adapter_id, title: made.title, method, notes: [] } });
  if (!known && parent && parent !== recipe_id)
    link(recipe_id, parent).catch((error) => console.debug(error));
  return made;
}

// What was opened by a link, a file or from the tree, if the studio knows it.
export function rememberOpened() {
  const { recipe_id, adapter_id = null, title = "", method = "" } = session.opened || {};
  if (recipe_id && !madeOf(recipe_id)) put({ recipe_id, adapter_id, title, method });
}

// Puts a found composition on screen; one click brings back what was there.
export function open(found, said) {
  const had = session.basket.length > 0;
  const undo = replace(found);
  rememberOpened();
  openTab("compose");
  const action = had ? { label: "Undo", run: undo } : null;
  toast(said, { action, seconds: UNDO_SECONDS });
}

export async function goBack(made) {
  try {
    const found = await getJson(`api/session/${encodeURIComponent(made.recipe_id)}`);
    found.opened.title = made.title;
    open(found, `Back at “${made.title}”.`);
  } catch (error) {
    toast(error.message, { kind: "error", action: { label: "Forget it", run: () => forget(made) } });
  }
}

// Takes some out of the tree; what was made of them hangs on what they were made of.
function without(gone) {
  const kept = session.made.filter((one) => !gone.includes(one));
  return kept.map((one) => {
    let { parent, said } = one;
    for (let above = madeOf(parent); gone.includes(above); above = madeOf(parent)) {
      parent = above.parent;
      said = [...above.said, ...said];
    }
    return { ...one, parent, said: parent ? said : [] };
  });
}

export function forget(...gone) {
  const before = session.made;
  update({ made: without(gone) });
  const what = gone.length > 1 ? `${gone.length} compositions are` : `“${gone[0].title}” is`;
  toast(`${what} out of the history; the adapters stay in the gallery.`, {
    action: { label: "Undo", run: () => update({ made: before }) },
    seconds: UNDO_SECONDS,
  });
}
