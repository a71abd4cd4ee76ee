// Small DOM helpers. Text always becomes a text node: no value is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(node.style, value);
    else if (name === "vars")
      for (const key of Object.keys(value)) node.style.setProperty(key, value[key]);
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return node;
}

export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const s = (tag, props, ...children) =>
  fill(document.createElementNS(SVG, tag), props, children);

export function swap(node, ...children) {
  node.replaceChildren(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
}

const PATHS = {
  plus: "M12 5v14M5 12h14",
  check: "M5 12.5l4.5 4.500L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4",
  download: "M12 4v11m0 0l-4.5-4.500M12 15l4.5-4.500M5 20h14",
  link: "M10 14a4 4 0 0 0 5.7 0l3-3a4 4 0 0 0-5.7-5.700l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3a4 4 0 0 0 5.7 5.700l1-1",
  trash: "M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 3v1.500M12 19.500V21M3 12h1.500M19.5 12H21M5.6 5.600l1 1M17.4 17.400l1 1M5.6 18.400l1-1M17.4 6.600l1-1",
  moon: "M20 14.500A8 8 0 0 1 9.5 4a8 8 0 1 0 10.5 10.500z",
  warn: "M12 4l9 16H3zM12 10v4.500M12 17.300v.2",
  arrow: "M5 12h14m0 0l-5-5m5 5l-5 5",
  table: "M4 5h16v14H4zM4 10h16M4 14.500h16M10 5v14",
  map: "M6 8h.01M10 15h.01M16 7h.01M18 14h.01M13 11h.01M7 18h.01",
  filter: "M4 6h16M7 12h10M10 18h4",
  layers: "M12 4l8 4.500-8 4.500-8-4.500zM4 12.500l8 4.500 8-4.500M4 16.500l8 4.500 8-4.500",
};

export function icon(name, size = 16) {
  return s(
    "svg",
    { viewBox: "0 0 24 24", width: size, height: size, class: "ls-icon", "aria-hidden": "true" },
    s("path", { d: PATHS[name] }),
  );
}

export function button(label, props = {}, iconName = null) {
  const { kind = "plain", ...rest } = props;
  return h(
    "button",
    { type: "button", ...rest, class: `ls-btn ls-btn-${kind} ${props.class || ""}` },
    iconName ? icon(iconName) : null,
    label ? h("span", null, label) : null,
  );
}

export function bytes(n) {
  if (!Number.isFinite(n)) return "–";
  if (n < 1024) return `${n} B`;
  if (n < 1024 ** 2) return `${(n / 1024).toFixed(0)} kB`;
  if (n < 1024 ** 3) return `${(n / 1024 ** 2).toFixed(1)} MB`;
  return `${(n / 1024 ** 3).toFixed(1)} GB`;
}

export function count(n) {
  if (!Number.isFinite(n)) return "–";
  if (n < 1000) return String(n);
  if (n < 1e6) return `${(n / 1e3).toFixed(n < 1e4 ? 1 : 0)} k`;
  return `${(n / 1e6).toFixed(1)} M`;
}

export const fixed = (n, digits = 2) =>
  Number.isFinite(n) ? n.toFixed(digits).replace("-", "−") : "–";
export const percent = (n) => (Number.isFinite(n) ? `${Math.round(100 * n)}\u00a0%` : "–");

export function rankText(entry) {
  const ranks = entry.ranks || [];
  if (!ranks.length) return entry.max_rank ? `rank ${entry.max_rank}` : "";
  return ranks.length > 1 ? `rank ${ranks[0]}–${ranks[ranks.length - 1]}` : `rank ${ranks[0]}`;
}

// Hands the browser a file that was made here.
export function saveAs(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function debounce(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

export function empty(title, text, ...actions) {
  return h(
    "div",
    { class: "ls-empty" },
    h("p", { class: "ls-empty-title" }, title),
    h("p", null, text),
    actions.length ? h("div", { class: "ls-empty-actions" }, actions) : null,
  );
}

// A table that scrolls sideways where it must. Names after the first `plain` heads stand right.
export function table(heads, plain, ...bodies) {
  const head = (name, place) => h("th", { class: place < plain || !name ? "" : "ls-right" }, name);
  return h(
    "div",
    { class: "ls-scroll" },
    h("table", { class: "ls-table" }, h("thead", null, h("tr", null, heads.map(head))), bodies),
  );
}
