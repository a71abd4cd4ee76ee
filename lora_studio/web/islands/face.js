// What stands for an adapter: its picture, or the fingerprint of its weights where it has none.

import { h } from "./dom.js";
import { glyph } from "./glyph.js";

const site = (path) => new URL(`ls/${path}`, document.baseURI).href;

export const imageAddress = (name) => site(`image/${encodeURIComponent(name)}`);

// The digest in the address makes a new picture a new address, so that caches never lie.
const thumbnailAddress = (entry) =>
  `${site(`thumbnail/${encodeURIComponent(entry.id)}`)}?v=${String(entry.thumbnail).slice(0, 12)}`;

// Beside its title a small picture says nothing more; a large one is given words of its own.
export function face(entry, size = 48, larger = size, alt = "") {
  if (!entry.thumbnail) return glyph(entry, size);
  const node = h("img", {
    class: "ls-face",
    src: thumbnailAddress(entry),
    alt,
    width: larger,
    height: larger,
    loading: "lazy",
    decoding: "async",
    onerror: () => node.replaceWith(glyph(entry, size)),
  });
  return node;
}
