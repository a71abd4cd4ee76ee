"""What Compare asks the studio for: a comparison, a grid of pictures, test prompts, hints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from lora_studio.errors import InvalidRequest
from lora_studio.web.jobs import State, state
from lora_studio.web.pages.compare_form import MAX_PROMPTS, Fields, Values
from lora_studio.web.session import base_of, columns_of, recipe_of, test_sources_of

if TYPE_CHECKING:
    from lora_studio.web.app import Page

TEST_PROMPTS = 50
SLOT = "compare"

Shown = dict[str, Any]


class Runs:
    """Handlers of the page's events, over one form."""

    def __init__(self, page: Page, form: Fields) -> None:
        self._page = page
        self._form = form

    def _base(self, session: dict[str, Any]) -> str:
        return base_of(session, self._page.settings.base_model)

    def outputs(self, values: Values, request: gr.Request) -> Iterator[tuple[State, Any]]:
        """Runs the columns on the prompts."""

        def submit(view: Shown) -> Any:
            form, session = self._form, values[self._form.session]
            base, first = self._base(session), form.first_seed(values)
            studio = self._page.seat(request)
            images = studio.get_base_model(base)["modality"] == "image"
            prompts, columns = form.asked(values, images), columns_of(session, studio, base)
            view |= {
                "base": base,
                "modality": "image" if images else "text",
                "prompts": prompts,
                "seeds": [first + place for place in range(len(prompts))],
                "columns": [{"title": c.get("title", ""), "kind": c["kind"]} for c in columns],
                "sources": _sources(session),
                "requests": [column for column in columns if column["kind"] != "base"],
                "cells": [],
            }
            sampling = form.sampling(values, images)
            return studio.compare_outputs(prompts, columns, sampling, seed=first, base=base)

        yield from self._streamed(request, submit)

    def grid(
        self, values: Values, axes: dict[str, Any], request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        """Runs the composition on screen with two settings varied."""

        def submit(view: Shown) -> Any:
            form, session = self._form, values[self._form.session]
            base = self._base(session)
            varied = [axis.get("kind") for axis in axes.values()]
            prompt = "" if "prompt" in varied else form.asked(values, True)[0]
            view |= {"base": base, "modality": "image", "grid": True, "cells": []}
            view |= {"prompts": [], "columns": [], "rows": [], "prompt": prompt}
            sampling, first = form.sampling(values, True), form.first_seed(values)
            recipe = recipe_of(session, base)
            studio = self._page.seat(request)
            return studio.compare_grid(axes, recipe, prompt, sampling, first, base)

        yield from self._streamed(request, submit)

    def tests(
        self,
        session: dict[str, Any],
        suites: list[str] | None,
        seed: float | None,
        request: gr.Request,
    ) -> Iterator[tuple[State, Any]]:
        """Runs the test prompts of what is picked."""

        def submit() -> Any:
            studio, base = self._page.seat(request), self._base(session)
            columns = columns_of(session, studio, base)
            sources = [*test_sources_of(session), *(suites or [])]
            if not sources:
                raise InvalidRequest("Pick adapters first: their test prompts are what is run.")
            seeded = int(seed or 0)
            return studio.run_tests(columns, sources, n=TEST_PROMPTS, seed=seeded, base=base)

        for job_state, payload in self._page.jobs.stream(request, SLOT, submit):
            done = (payload or {}).get("result")
            yield job_state, done if done else gr.skip()

    def explain(
        self, session: dict[str, Any], shown: Shown | None, request: gr.Request
    ) -> Iterator[tuple[State, Any]]:
        """Who spoke in the answer that was asked about."""
        view = shown or {}
        asked = view.get("asked") or {}

        def submit() -> Any:
            studio, base = self._page.seat(request), str(view.get("base") or self._base(session))
            place, number = int(asked.get("column", 0)), int(asked.get("prompt", 0))
            requests, prompts = view.get("requests") or [], view.get("prompts") or []
            if not (0 < place <= len(requests) and 0 <= number < len(prompts)):
                raise InvalidRequest("That answer is not shown. Run the comparison again.")
            found = {(c["prompt"], c["column"]): c["text"] for c in view.get("cells") or []}
            text, prompt = str(found.get((number, place), "")), str(prompts[number])
            seed = int((view.get("seeds") or [0])[0])
            return studio.explain_answer(prompt, text, requests[place - 1], base, seed)

        for job_state, payload in self._page.jobs.stream(request, SLOT, submit):
            done = (payload or {}).get("result")
            if not done:
                yield job_state, gr.skip()
                continue
            yield job_state, {**done, "serial": job_state["serial"]}

    def stop(self, shown: Shown | None, request: gr.Request) -> tuple[State, Any]:
        """Ends the run; what was answered stays."""
        self._page.jobs.stop(request.session_hash, SLOT)
        return state("stopped"), {**(shown or {}), "running": False}

    def hint(self, session: dict[str, Any], text: str) -> dict[str, Any]:
        """Words of the prompts that the demo's model has never met."""
        base = self._base(session)
        words: list[str] = []
        examples: list[str] = []
        for line in [line.strip() for line in text.splitlines() if line.strip()][:MAX_PROMPTS]:
            answer = self._page.studio.hint_for(line, base)
            if answer:
                words += [word for word in answer["unknown"] if word not in words]
                examples = examples or list(answer["examples"])
        return {"unknown": words, "examples": examples}

    def _streamed(
        self, request: gr.Request, submit: Callable[[Shown], Any]
    ) -> Iterator[tuple[State, Any]]:
        """Runs `submit`, which writes into a dict what is shown from the start."""
        view: Shown = {}
        running = self._page.jobs.stream(request, SLOT, lambda: submit(view))
        for job_state, payload in running:
            view.update((payload or {}).get("result") or payload or {})
            shown = {**view, "running": job_state["state"] in ("queued", "running")}
            yield job_state, {**shown, "serial": job_state["serial"]} if view else gr.skip()


def next_seed(seed: float | None, prompts: str) -> int:
    """The first seed that no row of this run has used."""
    rows = [line for line in prompts.splitlines() if line.strip()]
    return int(seed or 0) + max(1, len(rows))


def _sources(session: dict[str, Any]) -> list[dict[str, str]]:
    """What each column after the base stands for, so that votes can name it."""
    columns = (session or {}).get("columns") or []
    named = ("id", "recipe_id")
    return [{k: str(column.get(k) or "") for k in named} for column in columns]
