// Requests to the studio's own JSON routes, relative to wherever the page is served.

export const address = (path) => new URL(`studio/${path}`, document.baseURI).href;

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok)
    throw new Error(body.error || "The studio did not answer. Try again in a moment.");
  return body;
}

function unreachable(error) {
  if (error.name === "AbortError") throw error;
  throw new Error("The studio cannot be reached. It may be restarting; try again in a moment.");
}

export async function getJson(path, params = {}, signal = undefined) {
  const url = new URL(address(path));
  for (const [name, value] of Object.entries(params)) {
    for (const item of Array.isArray(value) ? value : [value]) {
      if (item !== null && item !== undefined && item !== "") url.searchParams.append(name, item);
    }
  }
  return answer(await fetch(url, { signal }).catch(unreachable));
}

// Sends JSON, or a file as it is.
export async function post(path, data = null, params = {}) {
  const file = data instanceof Blob;
  const type = file ? "application/octet-stream" : "application/json";
  const headers = { "X-Lora-Studio": "1", "Content-Type": type };
  const body = file ? data : data === null ? undefined : JSON.stringify(data);
  const url = new URL(address(path));
  for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value);
  return answer(await fetch(url, { method: "POST", headers, body }).catch(unreachable));
}

// A file of ours, or the error the studio gave instead of it.
export async function fetched(path) {
  const response = await fetch(address(path)).catch(unreachable);
  if (!response.ok) await answer(response);
  return response;
}

let methods = null;

export function listMethods() {
  if (!methods)
    methods = getJson("api/methods").catch((error) => {
      methods = null;
      throw error;
    });
  return methods;
}
