"""Public endpoints for gradio_client, named after the Studio methods they call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from lora_studio.errors import LoraStudioError
from lora_studio.web.identity import seat
from lora_studio.web.jobs import UNKNOWN_ERROR, states

log = logging.getLogger(__name__)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns any error into gr.Error with one plain sentence."""
    try:
        yield
    except gr.Error:
        raise
    except LoraStudioError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        log.exception("unforeseen error in a public endpoint")
        raise gr.Error(UNKNOWN_ERROR, print_exception=False) from error


def _payloads(submit: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    """What a job yields and at last returns; leaving early cancels it."""
    with _plain_errors():
        handle = submit()
        try:
            for job_state, payload in states(handle):
                if job_state["state"] == "error":
                    raise gr.Error(job_state["error"], print_exception=False)
                if job_state["state"] == "stopped":
                    raise gr.Error("The job was stopped.", print_exception=False)
                if payload:
                    yield payload.get("result") or payload
        finally:
            handle.cancel()


def _result(submit: Callable[[], Any]) -> dict[str, Any]:
    *_, last = _payloads(submit)
    return last


def register(studio: Any) -> None:
    """Adds the endpoints to the Blocks being built."""

    def search_adapters(
        query: str = "",
        base: str = "",
        sort: str = "relevance",
        limit: int = 48,
        modality: str = "",
        request: gr.Request | None = None,
    ) -> dict:
        """Searches the gallery by what adapters do.

        Args:
            query: a task in words; empty lists everything.
            base: base model to keep to; empty for all.
            sort: "relevance", "newest", "size" or "title".
            limit: most hits to return.
            modality: "text" or "image"; empty for both.
        """
        filters = {"base": base or None, "modality": modality or None}
        with _plain_errors():
            return seat(studio, request).search_adapters(
                query, sort=sort, limit=int(limit), **filters
            )

    def plan_composition(recipe: dict, request: gr.Request | None = None) -> dict:
        """Dry run of a recipe: rank, size, cosine to each source, sign conflict, warnings.

        Args:
            recipe: a recipe, schema 1.
        """
        return _result(lambda: seat(studio, request).plan_composition(recipe))

    def compose_adapter(recipe: dict, title: str = "", request: gr.Request | None = None) -> dict:
        """Composes a recipe and saves the result in the gallery.

        Args:
            recipe: a recipe, schema 1.
            title: name of the new adapter.
        """
        return _result(lambda: seat(studio, request).compose_adapter(recipe, title=title))

    def compare_outputs(
        prompts: list[str],
        columns: list[dict],
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        base: str = "",
        image: dict | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[dict]:
        """Runs prompts through columns in one batch; yields the cells so far, then the result.

        With an image base each cell carries "image", the name of a PNG served at
        /ls/image/<name> for about an hour.

        Args:
            prompts: texts to complete, or what to draw.
            columns: {"kind": "base" | "adapter" | "random" | "recipe", ...}; the base comes first.
            max_new_tokens: longest answer, in tokens.
            temperature: 0 is greedy.
            seed: of the first row's generator; each further row has one more, for all columns.
            base: base model; empty for the studio's own.
            image: for an image base: {"steps", "guidance", "width", "height", "negative",
                "scheduler"}; what is missing is the model's own.
        """
        text = {"max_new_tokens": int(max_new_tokens), "temperature": float(temperature)}
        sampling = {**text, **(image or {})}
        mine = seat(studio, request)
        yield from _payloads(
            lambda: mine.compare_outputs(prompts, columns, sampling, seed=int(seed), base=base)
        )

    for function in (search_adapters, plan_composition, compose_adapter, compare_outputs):
        gr.api(function, api_name=function.__name__)
