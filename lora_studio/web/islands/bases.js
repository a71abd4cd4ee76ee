// What is known of base models: title, modality, family. Controls for text or for images follow it.

import { getJson } from "./net.js";
import { changed, session } from "./state.js";

const known = new Map();
let asked = null;

export const about = (base = session.base) =>
  known.get(base) || { id: base, title: base, kind: "", modality: "text", family: "" };

export const images = () => about().modality === "image";

// Learns of the base model in use; whoever follows the session is told once it is known.
export async function follow() {
  if (!session.base || asked === session.base) return;
  asked = session.base;
  await learn(session.base);
  changed();
}

export async function learn(base) {
  if (known.has(base)) return about(base);
  try {
    known.set(base, await getJson("api/base", { id: base }));
  } catch (error) {
    console.debug(error); // text is taken for granted until the studio answers
  }
  return about(base);
}

export async function learnAll() {
  for (const found of await getJson("api/bases").catch(() => [])) known.set(found.id, found);
}
