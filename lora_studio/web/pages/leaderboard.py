"""Leaderboard: what every method scored on the demo's adapters; any cell measured again here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.web.island import island
from lora_studio.web.jobs import State, state

if TYPE_CHECKING:
    from lora_studio.web.app import Page

SLOT = "leaderboard"


def build(page: Page) -> None:
    """The leaderboard tab."""
    job = island("job", {"title": "Leaderboard"}, ["stop"], elem_id="ls-leaderboard-job")
    board = island("leaderboard", {}, ["measure"], elem_id="ls-leaderboard")

    def measure_cell(
        asked: dict[str, Any] | None, request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        cell = (asked or {}).get("asked") or {}

        def submit() -> Any:
            group, line = str(cell.get("group", "")), str(cell.get("line", ""))
            return page.seat(request).measure_cell(group, line)

        for job_state, payload in page.jobs.stream(request, SLOT, submit):
            done = (payload or {}).get("result")
            if not done:
                yield job_state, gr.skip()
                continue
            yield job_state, {"asked": cell, "result": done, "serial": job_state["serial"]}

    def stop(request: gr.Request) -> State:
        page.jobs.stop(request.session_hash, SLOT)
        return state("stopped")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    measuring = board.measure(measure_cell, [board], [job, board], trigger_mode="once", **quiet)
    job.stop(stop, None, [job], cancels=[measuring], queue=False, **quiet)
