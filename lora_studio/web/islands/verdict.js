// The verdict: asked for whenever the request changes, step by step, while Compose is on screen.

import { button, debounce, empty, h, icon, swap } from "./dom.js";
import { fits } from "./menu.js";
import { about } from "./bases.js";
import { listMethods, post } from "./net.js";
import { changed, session, subscribe } from "./state.js";
import { cards } from "./verdict_cards.js";
import { heat } from "./verdict_heat.js";
import { methodTable } from "./verdict_table.js";

const PAUSE = 350; // milliseconds without a change before anything is asked
const AGAIN = 500; // between two questions while adapters are compared for the first time

const active = () => session.basket.filter((row) => row.enabled && row.weight && !row.missing);

// What the verdict depends on, as the studio is sent it.
function asked(all) {
  const { method, params, seed } = session.draft;
  const basket = active().map(({ id, weight, enabled, region, module_weights, units }) => ({
    id,
    weight,
    enabled,
    region,
    module_weights,
    units,
  }));
  return { base: session.base, all, session: { basket, draft: { method, params, seed } } };
}

// Puts a method with its parameters on screen.
function use(methods, name, params) {
  const method = methods.find((one) => one.name === name);
  if (!method || !fits(method, about()).fits) return;
  const usual = Object.fromEntries(method.params.map((param) => [param.name, param.default]));
  session.draft.method = name;
  session.draft.params = { ...usual, ...params };
  changed();
}

function weigh(sources, weights) {
  sources.forEach(({ id }, place) => {
    const row = session.basket.find((one) => one.id === id);
    if (row) row.weight = weights[place];
  });
  changed();
}

function progress({ fraction, message }) {
  const known = Number.isFinite(fraction);
  return h(
    "div",
    { class: "ls-job-run", role: "status" },
    h("p", { class: "ls-job-text" }, `${message[0].toUpperCase()}${message.slice(1)}`),
    h(
      "span",
      { class: `ls-progress ${known ? "" : "is-unknown"}` },
      h("span", {
        class: "ls-progress-fill",
        style: known ? { width: `${Math.round(100 * fraction)}%` } : {},
      }),
    ),
    h("p", { class: "ls-help" }, "This is kept: the next verdict on them takes a moment."),
  );
}

const bones = () => [
  h("div", { class: "ls-bone" }),
  h("div", { class: "ls-bone" }),
  h("div", { class: "ls-bone ls-bone-short" }),
];

export function mount({ host }) {
  let methods = [];
  let seen = ""; // the request that was asked last
  let all = false;
  let turn = 0; // rises with each question; answers to earlier ones are not shown
  let visible = false;
  let found = null;
  let error = "";

  const body = h("div", { class: "ls-verdict-body" });
  const every = h("input", {
    type: "checkbox",
    class: "ls-switch",
    id: "ls-verdict-all",
    onchange: () => {
      all = every.checked;
      changed();
    },
  });
  swap(
    host,
    h(
      "div",
      { class: "ls-verdict-head" },
      h("h2", { class: "ls-step" }, h("span", { class: "ls-step-number" }, "4"), "Verdict"),
      h("label", { class: "ls-inline ls-small", for: "ls-verdict-all" }, every, "All methods"),
    ),
    body,
  );

  const state = (name) => {
    host.dataset.state = name;
    host.classList.toggle("is-stale", name === "stale");
  };

  function draw() {
    if (error) {
      const box = empty("No verdict on these", error, button("Ask again", { onclick: again }));
      box.classList.add("is-error");
      return swap(body, box);
    }
    if (!active().length)
      return swap(
        body,
        empty("Nothing to judge yet", "Pick adapters: what merging them would do is told here."),
      );
    if (!found) return swap(body, bones());
    const act = {
      use: (name, params) => use(methods, name, params),
      weigh: (weights) => weigh(found.sources, weights),
    };
    if (!found.ready) return swap(body, progress(found), cards(found, act));
    if (found.refused)
      return swap(
        body,
        h("p", { class: "ls-note is-warn" }, icon("warn"), h("span", null, found.refused)),
        cards(found, act),
      );
    return swap(
      body,
      cards(found, act, found.conflict ? heat(found.conflict) : null),
      methodTable(found, act),
    );
  }

  async function ask() {
    turn += 1;
    const mine = turn;
    const request = asked(all);
    state("asking");
    error = "";
    try {
      for (;;) {
        const answer = await post("api/verdict", request);
        if (mine !== turn) return;
        found = answer;
        if (answer.ready && !answer.left) break;
        draw();
        if (!answer.ready) await new Promise((wake) => setTimeout(wake, AGAIN));
        if (mine !== turn) return;
      }
      state("ready");
    } catch (problem) {
      if (mine !== turn) return;
      error = problem.message;
      state("error");
    }
    draw();
  }

  const later = debounce(() => visible && active().length && ask(), PAUSE);

  function again() {
    seen = "";
    look();
  }

  function look() {
    if (!visible) return;
    const request = JSON.stringify(asked(all));
    if (request === seen || !session.draft.method) return;
    seen = request;
    turn += 1;
    error = "";
    const same = found && found.sources && sameSet(found.sources);
    if (!active().length || !same) found = null;
    state(active().length ? (found ? "stale" : "asking") : "empty");
    draw();
    later();
  }

  // A change of weight or method leaves the old figures there, greyed; another set does not.
  const sameSet = (sources) =>
    sources.map(({ id }) => id).join() ===
    active()
      .map(({ id }) => id)
      .join();

  new IntersectionObserver((entries) => {
    visible = entries.some((entry) => entry.isIntersecting);
    look();
  }).observe(host);
  listMethods().then(
    (list) => {
      methods = list;
    },
    (problem) => console.debug(problem),
  );
  subscribe(look);
  draw();
}
