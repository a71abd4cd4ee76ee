"""Compare: prompts by columns under one seed, streamed together; grids, votes, test prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.web.island import island
from lora_studio.web.pages.compare_form import FOR_IMAGES, FOR_TEXT, Fields
from lora_studio.web.pages.compare_form import build as build_form
from lora_studio.web.pages.compare_runs import TEST_PROMPTS, Runs, next_seed

if TYPE_CHECKING:
    from lora_studio.web.app import Page

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
ONCE: dict[str, Any] = {"trigger_mode": "once", **QUIET}
PICK = "(hint, text, image) => (hint.images ? [text, hint.picked] : [hint.picked, image])"


def build(page: Page) -> None:
    """The compare tab."""
    form, hint, suites = build_form(page.session, page.studio.list_suites())
    runs = Runs(page, form)
    with gr.Row(elem_id="ls-compare-run", elem_classes=["ls-tight"]):
        run = gr.Button("Run", variant="primary", elem_id="ls-run", min_width=96)
        again = gr.Button("Another seed", elem_id="ls-again", elem_classes=FOR_IMAGES)
        test = gr.Button(
            f"Run {TEST_PROMPTS} test prompts", elem_id="ls-test", elem_classes=FOR_TEXT
        )
        job = island("job", {"title": "Compare"}, ["stop"], elem_id="ls-compare-job")
    axes = island("axes", {}, ["grid"], elem_id="ls-axes")
    grid = island("compare", {}, ["explain"], elem_id="ls-compare")
    heat = island("heat", elem_id="ls-heat")
    island("ballots", elem_id="ls-ballots")
    table = island("scores", elem_id="ls-scores")
    asked = [page.session, suites, form.seed]
    started = _wire_pictures(runs, form, (run, again, axes), [job, grid])
    started.append(test.click(runs.tests, asked, [job, table], **ONCE))
    started.append(grid.explain(runs.explain, [page.session, grid], [job, heat], **ONCE))
    job.stop(runs.stop, [grid], [job, grid], cancels=started, queue=False, **QUIET)
    form.prompts.change(
        runs.hint,
        [page.session, form.prompts],
        [hint],
        queue=False,
        trigger_mode="always_last",
        **QUIET,
    )
    fields = [form.prompts, form.drawn]
    hint.pick(None, [hint, *fields], fields, js=PICK, **QUIET)


def _wire_pictures(
    runs: Runs, form: Fields, buttons: tuple[gr.Button, gr.Button, gr.HTML], shown: list[gr.HTML]
) -> list[Any]:
    """What starts a comparison or a grid; returns the running events."""
    run, again, axes = buttons

    def grid(values: dict[Any, Any], request: gr.Request) -> Any:
        yield from runs.grid(values, (values[axes] or {}).get("axes") or {}, request)

    first = run.click(runs.outputs, form.inputs, shown, **ONCE)
    reseeded = again.click(next_seed, [form.seed, form.drawn], [form.seed], queue=False, **QUIET)
    second = reseeded.then(runs.outputs, form.inputs, shown, **QUIET)
    third = axes.grid(grid, {*form.inputs, axes}, shown, **ONCE)
    return [first, second, third]
