// Who is looking at the page, where several people share the studio.

import { getJson } from "./net.js";
import { toast } from "./toast.js";

export const me = { name: "", signed_in: false, moderator: false, sign_in: false, may: [] };

let asked = null;

// Whether several people share the studio: only then does its header show who one is.
export const shared = () => document.getElementById("ls-person") !== null;

export function whoAmI() {
  if (!asked)
    asked = getJson("api/me").then(
      (found) => Object.assign(me, found),
      (error) => {
        asked = null;
        throw error;
      },
    );
  return asked;
}

const framed = () => window.self !== window.top;

// Inside another site's frame browsers keep cookies away, so that signing in opens the page itself.
export const signInLink = () => ({
  href: new URL(`login${window.location.search}`, document.baseURI).href,
  target: framed() ? "_blank" : null,
  rel: framed() ? "noopener" : null,
});

export function askToSignIn(why) {
  const { href, target } = signInLink();
  const run = () => (target ? window.open(href, target) : window.location.assign(href));
  toast(why, me.sign_in ? { action: { label: "Sign in", run } } : {});
}
