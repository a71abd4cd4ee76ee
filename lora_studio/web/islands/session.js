// The hidden island that carries the session between the browser's store, Python and the others.

import { about, follow, images, learn } from "./bases.js";
import { listen } from "./keys.js";
import { rememberOpened } from "./made.js";
import {
  openTab,
  session,
  setKeeper,
  snapshot,
  subscribe,
  turned,
  update,
  useBase,
} from "./state.js";
import { toast } from "./toast.js";

const KEPT = ["base", "basket", "draft", "columns", "made", "retrieval", "parked"];

export function mount({ props, trigger, watch }) {
  let last = "";
  setKeeper(() => {
    const value = snapshot();
    const text = JSON.stringify(value);
    if (text === last || !session.restored) return;
    const moved = last && JSON.parse(last).base !== value.base;
    last = text;
    props.value = value;
    trigger("keep");
    if (moved) trigger("base");
  });

  const receive = () => {
    const value = props.value || {};
    if (!value.restored || JSON.stringify(value) === last) return;
    const kept = Object.fromEntries(
      KEPT.filter((name) => value[name]).map((name) => [name, value[name]]),
    );
    turned();
    update({
      ...kept,
      draft: { ...session.draft, ...(kept.draft || {}) },
      restored: true,
      opened: value.opened || null,
    });
    if (value.open) rememberOpened();
    trigger("base");
    if (value.notice) toast(value.notice, { kind: "error" });
    if (value.open) setTimeout(() => openTab(value.open), 50);
  };

  window.loraStudio = {
    setBase: (base) => {
      if (useBase(base))
        document.dispatchEvent(new CustomEvent("ls-base-chosen", { detail: base }));
    },
  };
  document.addEventListener("ls-base-followed", async ({ detail: base }) => {
    await learn(base);
    const kept = Object.keys(session.parked).length ? " What you had picked before is kept." : "";
    toast(`Now working with ${about(base).title}.${kept}`);
  });
  subscribe(() => {
    follow();
    document.body.classList.toggle("ls-images", images());
  });
  watch("value", receive);
  receive();
  listen();
}
