// Opens what a file was composed by: a recipe, an adapter or a picture that was made here.

import { button, h, icon, swap } from "./dom.js";
import { open } from "./made.js";
import { post } from "./net.js";
import { session, subscribe } from "./state.js";

const KINDS = ".yaml,.yml,.json,.zip,.safetensors,.png";

export function mount({ host }) {
  let busy = "";
  let problem = "";
  let drawn = null;

  const input = h("input", {
    type: "file",
    accept: KINDS,
    class: "ls-opener-file",
    tabindex: -1,
    "aria-hidden": "true",
    onchange: () => {
      const [file] = input.files;
      if (file) read(file);
      input.value = "";
    },
  });
  const pick = button("Open a recipe", { class: "ls-open", onclick: () => input.click() });
  const zone = h(
    "div",
    { class: "ls-opener-zone" },
    h(
      "p",
      { class: "ls-help" },
      "Go on from a file: drop a recipe.yaml, a mergekit YAML, or a zip, .safetensors or picture that was made here.",
    ),
    pick,
    input,
  );
  const said = h("div", { class: "ls-opener-said", role: "status" });
  host.append(zone, said);

  async function read(file) {
    busy = file.name;
    problem = "";
    draw();
    try {
      const found = await post("api/open", file, { name: file.name });
      busy = "";
      open(found, `The composition of ${file.name} is open.`);
    } catch (error) {
      problem = error.message;
    }
    busy = "";
    draw();
  }

  function draw() {
    const notes = session.opened?.notes || [];
    const now = JSON.stringify([busy, problem, notes]);
    if (now === drawn) return;
    drawn = now;
    pick.disabled = Boolean(busy);
    swap(
      said,
      busy ? h("p", { class: "ls-job-done" }, `Reading ${busy} …`) : null,
      problem
        ? h("p", { class: "ls-note is-error", role: "alert" }, icon("warn"), h("span", null, problem))
        : null,
      busy || problem ? null : notes.map((note) => h("p", { class: "ls-note" }, note)),
    );
  }

  // The whole tab takes a file; the zone says so while one is held over it.
  const page = host.closest("[role=tabpanel]") || host;
  const holds = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  page.addEventListener("dragover", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    zone.classList.add("is-over");
  });
  page.addEventListener("dragleave", (event) => {
    if (!page.contains(event.relatedTarget)) zone.classList.remove("is-over");
  });
  page.addEventListener("drop", (event) => {
    zone.classList.remove("is-over");
    const [file] = event.dataTransfer?.files || [];
    if (!file || event.defaultPrevented) return;
    event.preventDefault();
    read(file);
  });
  subscribe(draw);
  draw();
}
