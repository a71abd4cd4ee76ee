// The hidden island that carries the session between the browser's store, Python and the others.

import { listen } from "./keys.js";
import { openTab, session, setKeeper, snapshot, update } from "./state.js";
import { toast } from "./toast.js";

const KEPT = ["base", "basket", "draft", "columns", "made", "retrieval"];

export function mount({ props, trigger, watch }) {
  let last = "";
  setKeeper(() => {
    const value = snapshot();
    const text = JSON.stringify(value);
    if (text === last || !session.restored) return;
    last = text;
    props.value = value;
    trigger("keep");
  });

  const receive = () => {
    const value = props.value || {};
    if (!value.restored || JSON.stringify(value) === last) return;
    const kept = Object.fromEntries(
      KEPT.filter((name) => value[name]).map((name) => [name, value[name]]),
    );
    update({
      ...kept,
      draft: { ...session.draft, ...(kept.draft || {}) },
      restored: true,
      opened: value.opened || null,
    });
    trigger("base");
    if (value.notice) toast(value.notice, { kind: "error" });
    if (value.open) setTimeout(() => openTab(value.open), 50);
  };

  window.loraStudio = {
    setBase: (base) => {
      if (base && base !== session.base) update({ base });
    },
  };
  watch("value", receive);
  receive();
  listen();
}
