// The gallery: search as you type, facets, sort, a grid that grows while it is scrolled.

import { about, learnAll } from "./bases.js";
import { card, paintPick, skeleton } from "./card.js";
import { debounce, empty, button, h, icon, swap } from "./dom.js";
import { openDrawer } from "./drawer.js";
import { facets } from "./facets.js";
import { askToSignIn, me, shared } from "./me.js";
import { getJson } from "./net.js";
import { session, subscribe } from "./state.js";

const PAGE = 48;
const EXAMPLES = ["turn the sentence into past tense", "say it politely", "dates and JSON"];
const PICTURE_EXAMPLES = ["a shape with a neon outline"];
const SORTS = { relevance: "Relevance", newest: "Newest", title: "Title", size: "Size" };

// Shows or hides the upload form, which Gradio draws above the gallery.
function uploadButton() {
  const node = button(
    "Add adapter",
    { class: "ls-upload-open", "aria-expanded": "false", onclick: () => flip() },
    "plus",
  );
  function flip() {
    if (shared() && !me.may.includes("upload")) {
      askToSignIn("Sign in to add adapters.");
      return;
    }
    const shown = document.body.classList.toggle("ls-uploading");
    node.setAttribute("aria-expanded", String(shown));
    node.classList.toggle("is-on", shown);
    if (shown) document.getElementById("ls-upload").scrollIntoView({ block: "nearest" });
  }
  return node;
}

export function mount({ host }) {
  const filters = {
    modality: new Set(),
    base: new Set(),
    tags: new Set(),
    ranks: new Set(),
    contributors: new Set(),
    licences: new Set(),
  };
  const view = { query: "", sort: "relevance", shown: 0, total: 0, base: null, loading: false };
  view.focused = null; // id of the card that had the focus
  let flight = null;

  const input = h("input", {
    type: "search",
    class: "ls-search-input",
    placeholder: "What should the model be good at?",
    "aria-label": "Search adapters by what they do",
    autocomplete: "off",
    spellcheck: "false",
  });
  const sort = h(
    "select",
    { class: "ls-select", "aria-label": "Sort by" },
    Object.entries(SORTS).map(([value, name]) => h("option", { value }, name)),
  );
  const side = facets(filters, () => load());
  const grid = h("div", { class: "ls-grid", role: "list", "aria-busy": "true" });
  const line = h("p", { class: "ls-count", "aria-live": "polite" });
  const foot = h("div", { class: "ls-sentinel" });

  // The focused card, which a new drawing of the grid must not lose.
  const held = () => {
    const card = document.activeElement.closest(".ls-card");
    return card && grid.contains(card) ? card : null;
  };
  const holdFocus = () => {
    if (held()) view.focused = held().dataset.id;
  };

  async function load(more = false) {
    if (flight) flight.abort();
    flight = new AbortController();
    const mine = flight;
    holdFocus();
    view.loading = true;
    grid.setAttribute("aria-busy", "true");
    const slow = setTimeout(
      () => {
        if (!more && mine === flight) swap(grid, Array.from({ length: 6 }, skeleton));
      },
      view.total ? 250 : 0,
    );
    try {
      const found = await getJson(
        "api/search",
        {
          query: view.query,
          base: [...filters.base],
          modality: [...filters.modality],
          sort: view.sort,
          limit: PAGE,
          offset: more ? view.shown : 0,
          tags: [...filters.tags],
          ranks: [...filters.ranks],
          contributors: [...filters.contributors],
          licences: [...filters.licences],
        },
        mine.signal,
      );
      clearTimeout(slow);
      show(found, more);
    } catch (error) {
      clearTimeout(slow);
      if (error.name !== "AbortError") fail(error);
    } finally {
      if (mine === flight) {
        view.loading = false;
        grid.setAttribute("aria-busy", "false");
      }
    }
  }

  function show(found, more) {
    holdFocus();
    const focused = document.activeElement === document.body || held() ? view.focused : null;
    view.focused = null;
    if (!more) {
      swap(grid);
      view.shown = 0;
    }
    for (const hit of found.hits) {
      const node = card(hit, open);
      node.setAttribute("role", "listitem");
      grid.append(node);
      if (hit.id === focused) node.focus({ preventScroll: true });
    }
    view.shown += found.hits.length;
    view.total = found.total;
    side.draw(found.facets);
    suggest(found.facets.modality || []);
    const how = { semantic: " by meaning", keyword: " by words" }[found.mode] || "";
    line.textContent = `${found.total} ${found.total === 1 ? "adapter" : "adapters"}${view.query ? `${how} for “${view.query}”` : ""}`;
    if (!found.total) nothing();
    host.dataset.ready = String(view.shown);
  }

  function nothing() {
    const filtered =
      view.query || Object.entries(filters).some(([name, set]) => set.size && name !== "base");
    swap(
      grid,
      filtered
        ? empty(
            "Nothing matches",
            "Try other words, or take a filter away.",
            button("Clear search and filters", { onclick: reset }),
          )
        : empty(
            "No adapters for this base model yet",
            "Add one with the button above, or look at those of other base models.",
            button("Show all adapters", { onclick: reset }),
          ),
    );
  }

  function fail(error) {
    line.textContent = "";
    swap(
      grid,
      h(
        "div",
        { class: "ls-empty is-error", role: "alert" },
        icon("warn", 24),
        h("p", { class: "ls-empty-title" }, "The gallery did not answer"),
        h("p", null, error.message),
        button("Try again", { onclick: () => load() }),
      ),
    );
    host.dataset.ready = "error";
  }

  function reset() {
    input.value = view.query = "";
    Object.values(filters).forEach((set) => set.clear());
    load();
  }

  const open = (id) => openDrawer(id, () => load());
  const search = debounce(() => {
    view.query = input.value.trim();
    load();
  }, 180);
  input.addEventListener("input", search);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      if (input.value) {
        input.value = "";
        search();
      } else input.blur();
    }
    if (event.key === "ArrowDown") {
      event.preventDefault();
      grid.querySelector(".ls-card[tabindex]")?.focus();
    }
  });
  sort.addEventListener("change", () => {
    view.sort = sort.value;
    load();
  });
  const example = (text) =>
    button(text, {
      kind: "chip",
      onclick: () => {
        input.value = text;
        search();
      },
    });
  const chips = h("div", { class: "ls-chips" });
  function suggest(kinds) {
    const pictures = kinds.some((kind) => kind.value === "image" && kind.count);
    const texts = [...(pictures ? PICTURE_EXAMPLES : []), ...EXAMPLES].slice(0, 4);
    swap(chips, h("span", { class: "ls-quiet" }, "Try"), texts.map(example));
  }
  suggest([]);

  // A base model chosen in the header narrows the gallery to its adapters.
  function narrowTo(base) {
    filters.modality.clear();
    filters.base.clear();
    filters.base.add(base);
  }

  const upload = uploadButton();
  const narrow = h(
    "details",
    { class: "ls-side" },
    h("summary", null, icon("filter"), "Filters"),
    side.root,
  );
  narrow.open = window.innerWidth > 900;
  host.append(
    h(
      "div",
      { class: "ls-search" },
      h(
        "div",
        { class: "ls-search-box" },
        icon("search", 20),
        input,
        h("kbd", { "aria-hidden": "true" }, "/"),
      ),
      sort,
      upload,
    ),
    chips,
    h(
      "div",
      { class: "ls-gallery-body" },
      narrow,
      h("div", { class: "ls-main" }, line, grid, foot),
    ),
  );

  new IntersectionObserver(
    ([entry]) => {
      if (entry.isIntersecting && !view.loading && view.shown && view.shown < view.total)
        load(true);
    },
    { rootMargin: "600px" },
  ).observe(foot);

  subscribe(() => {
    grid.querySelectorAll(".ls-card[data-id]").forEach((node) => paintPick(node, node.dataset.id));
    if (session.restored && view.base === null) start();
  });
  document.addEventListener("ls-base-chosen", ({ detail: base }) => {
    narrowTo(base);
    load();
  });
  document.addEventListener("ls-gallery-changed", () => load());
  swap(grid, Array.from({ length: 6 }, skeleton));
  async function start() {
    view.base = session.base;
    await learnAll();
    if (about().kind !== "demo" && session.base) narrowTo(session.base);
    load();
  }
  if (session.restored) start();
  else
    setTimeout(() => {
      if (view.base === null) load();
    }, 1200);
}
