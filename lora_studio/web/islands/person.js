// The header's end where several people share the studio: who one is, signing in and out, review.

import { button, h, icon, swap } from "./dom.js";
import { me, signInLink, whoAmI } from "./me.js";
import { getJson } from "./net.js";
import { openReview } from "./review.js";
import { toast } from "./toast.js";

async function signOut() {
  try {
    await fetch(new URL("logout", document.baseURI).href, { method: "POST" });
  } catch (error) {
    console.debug(error);
  }
  window.location.reload();
}

function reviewButton() {
  const open = button("Review", { class: "ls-review-open", onclick: openReview }, "check");
  const number = h("span", { class: "ls-badge", hidden: true });
  open.append(number);
  const count = () =>
    getJson("api/review").then(
      (found) => {
        const waiting = found.reports.length + found.unreviewed.length;
        number.hidden = !waiting;
        number.textContent = String(waiting);
        open.setAttribute("aria-label", `Review: ${waiting} waiting`);
      },
      (error) => console.debug(error),
    );
  document.addEventListener("ls-gallery-changed", count);
  count();
  return open;
}

function person() {
  return h(
    "span",
    {
      class: "ls-chip ls-person-name",
      title: `Your id here: ${me.id}${me.moderator ? ". You are a moderator." : ""}`,
    },
    h("span", { class: "ls-basket-title" }, me.name),
  );
}

export function mount({ host }) {
  whoAmI().then(
    () => {
      const link = signInLink();
      swap(
        host,
        me.moderator ? reviewButton() : null,
        me.signed_in ? person() : null,
        me.signed_in && me.sign_in ? button("Sign out", { kind: "quiet", onclick: signOut }) : null,
        !me.signed_in && me.sign_in
          ? h("a", { class: "ls-btn ls-btn-plain ls-sign-in", ...link }, icon("arrow"), "Sign in")
          : null,
        !me.signed_in && !me.sign_in ? h("span", { class: "ls-chip" }, "visitor") : null,
      );
    },
    (error) => toast(error.message, { kind: "error" }),
  );
}
