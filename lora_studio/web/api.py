"""Public endpoints for gradio_client, named after the Studio methods they call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from lora_studio.errors import LoraStudioError
from lora_studio.web.jobs import _states, explain, result_of


def register(studio: Any) -> None:
    """Adds the endpoints to the Blocks being built."""

    def search_adapters(
        query: str = "", base: str = "", sort: str = "relevance", limit: int = 48
    ) -> dict:
        """Searches the gallery by what adapters do.

        Args:
            query: a task in words; empty lists everything.
            base: base model to keep to; empty for all.
            sort: "relevance", "newest", "size" or "title".
            limit: most hits to return.
        """
        with _plain_errors():
            return studio.search_adapters(query, base=base or None, sort=sort, limit=int(limit))

    def plan_composition(recipe: dict) -> dict:
        """Dry run of a recipe: rank, size, cosine to each source, sign conflict, warnings.

        Args:
            recipe: a recipe, schema 1.
        """
        with _plain_errors():
            return result_of(studio.plan_composition(recipe))

    def compose_adapter(recipe: dict, title: str = "") -> dict:
        """Composes a recipe and saves the result in the gallery.

        Args:
            recipe: a recipe, schema 1.
            title: name of the new adapter.
        """
        with _plain_errors():
            return result_of(studio.compose_adapter(recipe, title=title))

    def compare_outputs(
        prompts: list[str],
        columns: list[dict],
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        base: str = "",
    ) -> Iterator[dict]:
        """Runs prompts through columns in one batch; yields the cells so far, then the result.

        Args:
            prompts: texts to complete.
            columns: {"kind": "base" | "adapter" | "random" | "recipe", ...}; the base comes first.
            max_new_tokens: longest answer, in tokens.
            temperature: 0 is greedy.
            seed: of every row's own generator.
            base: base model; empty for the studio's own.
        """
        with _plain_errors():
            sampling = {"max_new_tokens": int(max_new_tokens), "temperature": float(temperature)}
            handle = studio.compare_outputs(prompts, columns, sampling, seed=int(seed), base=base)
            try:
                for job_state, payload in _states(handle):
                    if job_state["state"] == "error":
                        raise gr.Error(job_state["error"], print_exception=False)
                    if payload:
                        yield payload.get("result") or payload
            finally:
                handle.cancel()

    for function in (search_adapters, plan_composition, compose_adapter, compare_outputs):
        gr.api(function, api_name=function.__name__)


class _plain_errors:
    """Turns any error into gr.Error with one plain sentence."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, gr.Error) or error is None or not isinstance(error, Exception):
            return
        if isinstance(error, LoraStudioError):
            raise gr.Error(str(error), print_exception=False) from error
        raise gr.Error(explain(error), print_exception=False) from error
