// Files for other programs. The studio reads each back before it hands it out, and says so here.

import { button, bytes, h, icon, saveAs, swap } from "./dom.js";
import { address, fetched } from "./net.js";
import { toast } from "./toast.js";

const FORMATS = [
  ["diffusers", "diffusers", "One file for load_lora_weights"],
  ["kohya", "ComfyUI, A1111", "One file with kohya's names"],
];

// Numbers of the factors, as chosen last on this page; "" is each format's usual type.
let dtype = "";
const DTYPES = [
  ["", "Usual numbers"],
  ["float32", "float32"],
  ["float16", "float16"],
  ["bfloat16", "bfloat16"],
];
const asked = () => (dtype ? `?dtype=${dtype}` : "");

// Which numbers the files are written in; `again` redraws what links to them.
function numbers(again) {
  const select = h(
    "select",
    { class: "ls-select ls-dtype", "aria-label": "Numbers in the files" },
    DTYPES.map(([value, label]) => h("option", { value }, label)),
  );
  select.value = dtype;
  select.addEventListener("change", () => {
    dtype = select.value;
    again();
  });
  return select;
}

async function save(id, format, node) {
  node.disabled = true;
  try {
    const path = `download/adapter/${encodeURIComponent(id)}/${format}.safetensors${asked()}`;
    const response = await fetched(path);
    const said = response.headers.get("content-disposition") || "";
    const name = (said.match(/filename="([^"]+)"/) || [])[1] || `lora-${format}.safetensors`;
    const blob = await response.blob();
    saveAs(blob, name);
    node.classList.add("is-on");
    toast(`${name}, ${bytes(blob.size)}: read back and verified.`);
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
  node.disabled = false;
}

const file = (path, label, title = "") =>
  h(
    "a",
    { class: "ls-btn ls-btn-plain", href: address(path), download: "", title },
    icon("download"),
    h("span", null, label),
  );

const peft = (id, title = "") =>
  file(`download/adapter/${encodeURIComponent(id)}.zip${asked()}`, "PEFT zip", title);

function single(id, format, label, title) {
  const node = button(
    label,
    { title, class: `ls-save-${format}`, onclick: () => save(id, format, node) },
    "download",
  );
  return node;
}

// PEFT for every adapter; for those of image models also what other programs read.
export function downloads(entry) {
  if (entry.modality !== "image") return [peft(entry.id)];
  return [peft(entry.id), FORMATS.map((row) => single(entry.id, ...row))];
}

function offered(made, { format, title, about }) {
  if (format === "peft") return peft(made.adapter_id, about);
  const recipe = encodeURIComponent(made.recipe_id);
  const ending = { routed: "zip", recipe: "yaml", mergekit: "yaml" }[format];
  if (ending) return file(`download/${format}/${recipe}.${ending}`, title, about);
  return single(made.adapter_id, format, title, about);
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

function serving({ rank, why }) {
  if (!why)
    return h("p", { class: "ls-help ls-vllm" }, "For vLLM: start it with ", h("code", null, `--max-lora-rank ${rank}`), ".");
  return h("p", { class: "ls-note ls-vllm" }, `Not with vLLM: ${why}`);
}

// Everything a composition can be taken away as, and why not as the rest.
export function exported(made, { offers, entry }) {
  if (!offers) return null;
  const missing = offers.files.filter((row) => row.why);
  const links = h("div", { class: "ls-actions" });
  const draw = () =>
    swap(links, offers.files.filter((row) => !row.why).map((row) => offered(made, row)));
  draw();
  return h(
    "section",
    { class: "ls-section ls-exports" },
    h("div", { class: "ls-exports-head" }, h("h3", null, "Download"), entry ? numbers(draw) : null),
    links,
    entry ? promise(entry) : null,
    offers.vllm ? serving(offers.vllm) : null,
    missing.length
      ? h(
          "details",
          { class: "ls-more" },
          h("summary", null, `Not as ${missing.map((row) => row.title).join(", ")}`),
          h(
            "ul",
            { class: "ls-samples" },
            missing.map((row) => h("li", null, `${row.title}: ${sentence(row.why)}`)),
          ),
        )
      : null,
  );
}

export const promise = (entry) =>
  entry.modality === "image"
    ? h(
        "p",
        { class: "ls-help" },
        "Every file is read back and compared with the adapter before it is handed out.",
      )
    : null;
