// Which methods a base model can be composed with, and why not the others.

import { changed, session } from "./state.js";

// In the order of the menu: the kind of a method, and the group a merge names.
const GROUPS = [
  ["merging", "", "Merge into one adapter"],
  ["merging", "shared_space", "Merge in a shared space"],
  ["merging", "updates", "Merge whole updates"],
  ["merging", "directions", "Merge direction by direction"],
  ["merging", "averages", "Average adapters"],
  ["merging", "peft", "Merge as PEFT does"],
  ["routing", "", "Route at run time"],
  ["denoising", "", "Compose while denoising"],
];

// Methods whose modality fits are offered; those that this base model cannot run are shown only.
export function fits(method, base) {
  const both = !method.modality || method.modality === "both";
  if (!both && method.modality !== base.modality) return { shown: false, fits: false, why: "" };
  const families = method.families || [];
  if (families.length && base.family && !families.includes(base.family))
    return { shown: true, fits: false, why: `only for ${families.join(", ")}` };
  if (method.needs_gate && !base.gate)
    return { shown: true, fits: false, why: "no gate fitted for this base model" };
  return { shown: true, fits: true, why: "" };
}

// [{label, items: [{method, fits, why}]}] in the order of the menu.
export function menu(methods, base) {
  return GROUPS.map(([kind, group, label]) => ({
    label,
    items: methods
      .filter((method) => method.kind === kind && (method.group || "") === group)
      .map((method) => ({ method, ...fits(method, base) }))
      .filter((item) => item.shown),
  })).filter((group) => group.items.length);
}

export function defaults(method) {
  return Object.fromEntries(method.params.map((param) => [param.name, param.default]));
}

// Puts a method into the draft with its own defaults.
export function choose(method) {
  session.draft.method = method.name;
  session.draft.params = defaults(method);
  changed();
}

// The method of the draft; one that suits the base model is put there if none does.
export function settled(methods, base) {
  const drafted = methods.find((method) => method.name === session.draft.method);
  if (drafted && fits(drafted, base).fits) return drafted;
  const method = usual(methods, base);
  choose(method);
  return method;
}

// What is chosen where nothing was: the tuned merge for text, for images what needs no tuning.
function usual(methods, base) {
  const wanted = base.modality === "image" ? ["switch", "cat"] : ["preset"];
  const able = methods.filter((method) => fits(method, base).fits);
  return wanted.map((name) => able.find((method) => method.name === name)).find(Boolean) || able[0];
}

// Whether a method asks where in the picture each adapter acts.
export function usesRegions(methods, name) {
  return Boolean(methods.find((one) => one.name === name)?.uses_regions);
}
