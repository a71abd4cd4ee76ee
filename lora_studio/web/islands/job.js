// What a running job is doing: position in the queue, progress, a Stop button; errors with a toast.

import { button, fixed, h, icon, swap } from "./dom.js";
import { toast } from "./toast.js";

export function mount({ host, props, watch, trigger }) {
  const { title } = props.value || {};
  let dismiss = () => {};
  host.setAttribute("role", "status");
  const stop = button(
    "Stop",
    { kind: "plain", class: "ls-job-stop", onclick: () => trigger("stop") },
    "close",
  );
  const text = h("span", { class: "ls-job-text" });
  const bar = h("span", { class: "ls-progress-fill" });
  const track = h(
    "span",
    { class: "ls-progress", role: "progressbar", "aria-label": "Progress" },
    bar,
  );

  function working(value) {
    const waiting = value.state === "queued";
    text.textContent = waiting
      ? value.position > 1
        ? `Waiting: ${value.position - 1} before you`
        : "Waiting for the worker"
      : value.message || "Working";
    const known = Number.isFinite(value.fraction);
    track.classList.toggle("is-unknown", !known);
    bar.style.width = known ? `${Math.round(100 * value.fraction)}%` : "";
    if (known) track.setAttribute("aria-valuenow", String(Math.round(100 * value.fraction)));
    else track.removeAttribute("aria-valuenow");
    if (!stop.isConnected)
      swap(
        host,
        h("div", { class: "ls-job-run" }, h("div", { class: "ls-job-line" }, text, stop), track),
      );
  }

  function draw() {
    const value = props.value || {};
    host.dataset.state = value.state || "idle";
    dismiss();
    const detail = { title, state: value.state, error: value.error };
    document.dispatchEvent(new CustomEvent("ls-job", { detail }));
    if (value.state === "queued" || value.state === "running") working(value);
    else if (value.state === "error") {
      const [sentence, ...lines] = String(value.error).split("\n");
      swap(
        host,
        h(
          "div",
          { class: "ls-note is-error" },
          icon("warn"),
          h(
            "div",
            { class: "ls-job-error" },
            h("span", null, sentence),
            lines.length ? h("pre", { class: "ls-job-lines" }, lines.join("\n")) : null,
            value.code ? h("span", { class: "ls-job-code" }, `Reason: ${value.code}`) : null,
          ),
        ),
      );
      dismiss = toast(sentence.replace(/:$/, "."), { kind: "error" });
    } else if (value.state === "stopped") swap(host, h("p", { class: "ls-job-done" }, "Stopped."));
    else if (value.state === "done")
      swap(
        host,
        h(
          "p",
          { class: "ls-job-done" },
          icon("check"),
          h("span", null, value.note || `Done in ${fixed(value.seconds, 1)} s.`),
        ),
      );
    else swap(host);
  }
  watch("value", draw);
  draw();
}
