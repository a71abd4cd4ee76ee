"""Compare: prompts by columns under one seed, streamed together; and the test prompts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.errors import InvalidRequest
from lora_studio.web.island import island
from lora_studio.web.jobs import State, state
from lora_studio.web.session import base_of, columns_of, test_sources_of

if TYPE_CHECKING:
    from lora_studio.web.app import Page

MAX_PROMPTS = 16
TEST_PROMPTS = 50


def prompts_of(text: str) -> list[str]:
    """One prompt a line; empty lines are dropped."""
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise InvalidRequest("Type a prompt, one a line, or pick an example.")
    if len(prompts) > MAX_PROMPTS:
        raise InvalidRequest(f"A comparison takes {MAX_PROMPTS} prompts at most. Remove some.")
    return prompts


def build(page: Page) -> None:
    """The compare tab."""
    studio, default = page.studio, page.settings.base_model
    with gr.Row(elem_id="ls-compare-form", equal_height=False):
        with gr.Column(scale=3, min_width=300, elem_classes=["ls-panel"]):
            prompts = gr.Textbox(
                label="Prompts, one a line",
                placeholder="Turn the sentence into past tense: The girl opens the door.",
                lines=3,
                max_lines=8,
                elem_id="ls-prompts",
            )
            hint = island("hint", {}, ["pick"], elem_id="ls-hint")
            suites = gr.Dropdown(
                [(suite["title"], suite["name"]) for suite in studio.list_suites()],
                value=[],
                multiselect=True,
                label="Test files beside the adapters' own",
                info="Tasks that no adapter was trained for; they need several at once.",
                elem_id="ls-suites",
                visible=bool(studio.list_suites()),
            )
        with gr.Column(scale=2, min_width=300, elem_classes=["ls-panel"]):
            island("columns", elem_id="ls-columns")
            with gr.Row(elem_classes=["ls-tight"]):
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=80)
                temperature = gr.Number(
                    0, label="Temperature", minimum=0, maximum=2, step=0.1, min_width=80
                )
                tokens = gr.Number(
                    64, label="Max tokens", precision=0, minimum=1, maximum=1024, min_width=80
                )
    with gr.Row(elem_id="ls-compare-run", elem_classes=["ls-tight"]):
        run = gr.Button("Run", variant="primary", elem_id="ls-run", min_width=96, scale=0)
        test = gr.Button(
            f"Run {TEST_PROMPTS} test prompts", elem_id="ls-test", min_width=200, scale=0
        )
        job = island("job", {"title": "Compare"}, ["stop"], elem_id="ls-compare-job")
    grid = island("compare", elem_id="ls-compare")
    table = island("scores", elem_id="ls-scores")

    def compare_outputs(
        session: dict[str, Any],
        text: str,
        seed: float | None,
        temperature: float | None,
        tokens: float | None,
        request: gr.Request,
    ) -> Iterator[tuple[State, Any]]:
        view: dict[str, Any] = {}

        def submit() -> Any:
            columns = columns_of(session, studio, base_of(session, default))
            prompts = prompts_of(text)
            view.update(
                prompts=prompts,
                columns=[{"title": c.get("title", ""), "kind": c["kind"]} for c in columns],
                cells=[],
            )
            sampling = {
                "temperature": float(temperature or 0),
                "max_new_tokens": int(tokens or 64),
            }
            return studio.compare_outputs(
                prompts, columns, sampling, seed=int(seed or 0), base=base_of(session, default)
            )

        for job_state, payload in page.jobs.stream(request, "compare", submit):
            done = (payload or {}).get("result")
            view.update(done or payload or {})
            shown = {**view, "running": job_state["state"] in ("queued", "running")}
            yield job_state, {**shown, "serial": job_state["serial"]} if view else gr.skip()

    def run_tests(
        session: dict[str, Any], suites: list[str] | None, seed: float | None, request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        def submit() -> Any:
            base = base_of(session, default)
            columns = columns_of(session, studio, base)
            sources = [*test_sources_of(session), *(suites or [])]
            if not sources:
                raise InvalidRequest("Pick adapters first: their test prompts are what is run.")
            return studio.run_tests(
                columns, sources, n=TEST_PROMPTS, seed=int(seed or 0), base=base
            )

        for job_state, payload in page.jobs.stream(request, "compare", submit):
            done = (payload or {}).get("result")
            yield job_state, done if done else gr.skip()

    def hint_for(session: dict[str, Any], text: str) -> dict[str, Any]:
        base = base_of(session, default)
        words: list[str] = []
        examples: list[str] = []
        for line in [line.strip() for line in text.splitlines() if line.strip()][:MAX_PROMPTS]:
            answer = studio.hint_for(line, base)
            if answer:
                words += [word for word in answer["unknown"] if word not in words]
                examples = examples or list(answer["examples"])
        return {"unknown": words, "examples": examples}

    def stop(shown: dict[str, Any] | None, request: gr.Request) -> tuple[State, Any]:
        page.jobs.stop(request.session_hash, "compare")
        return state("stopped"), {**(shown or {}), "running": False}

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    running = run.click(
        compare_outputs,
        [page.session, prompts, seed, temperature, tokens],
        [job, grid],
        trigger_mode="once",
        **quiet,
    )
    testing = test.click(
        run_tests, [page.session, suites, seed], [job, table], trigger_mode="once", **quiet
    )
    job.stop(stop, [grid], [job, grid], cancels=[running, testing], queue=False, **quiet)
    prompts.change(
        hint_for, [page.session, prompts], [hint], queue=False, trigger_mode="always_last", **quiet
    )
    hint.pick(None, [hint], [prompts], js="(hint) => hint.picked", **quiet)
