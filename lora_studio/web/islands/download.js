// Files for other programs. The studio reads each back before it hands it out, and says so here.

import { button, bytes, h, icon } from "./dom.js";
import { address, fetched } from "./net.js";
import { toast } from "./toast.js";

const FORMATS = [
  ["diffusers", "diffusers", "One file for load_lora_weights"],
  ["kohya", "ComfyUI, A1111", "One file with kohya's names"],
];

async function save(id, format, node) {
  node.disabled = true;
  try {
    const path = `download/adapter/${encodeURIComponent(id)}/${format}.safetensors`;
    const response = await fetched(path);
    const said = response.headers.get("content-disposition") || "";
    const name = (said.match(/filename="([^"]+)"/) || [])[1] || `lora-${format}.safetensors`;
    const blob = await response.blob();
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    node.classList.add("is-on");
    toast(`${name}, ${bytes(blob.size)}: read back and verified.`);
  } catch (error) {
    toast(error.message, { kind: "error" });
  }
  node.disabled = false;
}

// PEFT for every adapter; for those of image models also what other programs read.
export function downloads(entry) {
  const peft = h(
    "a",
    {
      class: "ls-btn ls-btn-plain",
      href: address(`download/adapter/${encodeURIComponent(entry.id)}.zip`),
      download: "",
    },
    icon("download"),
    h("span", null, "PEFT zip"),
  );
  if (entry.modality !== "image") return [peft];
  const others = FORMATS.map(([format, label, title]) => {
    const node = button(
      label,
      { title, class: `ls-save-${format}`, onclick: () => save(entry.id, format, node) },
      "download",
    );
    return node;
  });
  return [peft, others];
}

export const promise = (entry) =>
  entry.modality === "image"
    ? h(
        "p",
        { class: "ls-help" },
        "Every file is read back and compared with the adapter before it is handed out.",
      )
    : null;
