"""Map: the rank units of the picked adapters, clustered, drawn on a canvas island."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.errors import InvalidRequest
from lora_studio.web.island import island
from lora_studio.web.jobs import State, state
from lora_studio.web.session import shown_of, sources_of

if TYPE_CHECKING:
    from lora_studio.web.app import Page

ALL = ""
MAX_MODULES_LISTED = 2000


def build(page: Page) -> None:
    """The map tab."""
    with gr.Row(elem_id="ls-map-controls", elem_classes=["ls-controls"], equal_height=False):
        module = gr.Dropdown(
            [("All modules, tiled", ALL)], value=ALL, label="Module", filterable=True, min_width=220
        )
        k = gr.Slider(0, 64, value=0, step=1, label="Clusters, 0 = automatic", min_width=240)
        basis = gr.Radio(["raw", "svd"], value="raw", label="Basis", min_width=140)
        gauge = gr.Radio(["raw", "balanced"], value="raw", label="Gauge", min_width=180)
    job = island("job", {"title": "Clustering"}, ["stop"], elem_id="ls-map-job")
    canvas = island("map", {}, ["cluster"], elem_id="ls-map")

    def cluster_units(
        session: dict[str, Any],
        module: str,
        k: float,
        basis: str,
        gauge: str,
        request: gr.Request,
    ) -> Iterator[tuple[State, Any, Any, Any]]:
        def submit() -> Any:
            sources = [{"id": s["id"], "weight": s["weight"]} for s in sources_of(session)]
            if not sources:
                raise InvalidRequest("Pick adapters in the gallery to see their units.")
            seat = page.seat(request)
            made = shown_of(session, seat)
            return seat.cluster_units(sources, module or ALL, int(k), basis, gauge, result=made)

        for job_state, payload in page.jobs.stream(request, "map", submit):
            done = (payload or {}).get("result")
            if not done:
                yield job_state, gr.skip(), gr.skip(), gr.skip()
                continue
            value = {name: item for name, item in done.items() if name != "path"}
            value |= {"file": page.maps.publish(done["path"]), "serial": job_state["serial"]}
            yield job_state, value, _choices(done), gr.update(maximum=done["max_k"])

    def stop(request: gr.Request) -> State:
        page.jobs.stop(request.session_hash, "map")
        return state("stopped")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    wires: dict[str, Any] = {
        "fn": cluster_units,
        "inputs": [page.session, module, k, basis, gauge],
        "outputs": [job, canvas, module, k],
        "trigger_mode": "always_last",
        **quiet,
    }
    changed = [module.input, k.input, basis.input, gauge.input]
    clustering = [canvas.cluster(**wires), gr.on(changed, **wires)]
    job.stop(stop, None, [job], cancels=clustering, queue=False, **quiet)


def _choices(done: dict[str, Any]) -> Any:
    names = done["all_modules"][:MAX_MODULES_LISTED]
    return gr.update(choices=[("All modules, tiled", ALL), *((name, name) for name in names)])
