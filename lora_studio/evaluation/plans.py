"""From a composition to the plan of each prompt, as the engine takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged, Plan, Routed
from lora_studio.composition.choice import BLANK, BLANK_TEXT
from lora_studio.engines.hearing import hear
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine
from lora_studio.errors import InvalidRequest
from lora_studio.retrieval.embed import Embedder
from lora_studio.retrieval.head import Head
from lora_studio.retrieval.retriever import adapter_texts, centroid

Keep = Callable[[str, Adapter], None]
"""Makes an adapter resident under a name."""


def alone(name: str, weight: float = 1.0) -> RowPlan:
    """One adapter answers."""
    return RowPlan(((name, weight),))


def row_plans(
    plan: Plan, near: Sequence[Mapping[str, float]], count: int, name: str, keep: Keep
) -> list[RowPlan]:
    """The plan of each of `count` prompts.

    Args:
        near: for each prompt, adapter id -> cosine; or empty where the plan does not look.
        name: of a merged adapter. keep: is handed what the composition made.

    Raises:
        InvalidRequest: a plan of denoising steps.
    """
    if isinstance(plan, Merged):
        keep(name, plan.adapter)
        return [alone(name)] * count
    if not isinstance(plan, Routed):
        raise InvalidRequest("This composition makes pictures; there are no answers to judge.")
    for made, adapter in plan.made.items():
        keep(made, adapter)
    rows = [plan.row(one) for one in near] if near else [plan.row({})] * count
    return [RowPlan(row.terms, row.fuse, row.router) for row in rows]


def heard(
    plan: Plan,
    engine: TextEngine,
    prompts: Sequence[str],
    near: Sequence[Mapping[str, float]],
) -> Sequence[Mapping[str, float]]:
    """What prompts find their adapters by: `near`, or signals of the adapters, which are in the
    bank, where the plan listens to them."""
    if isinstance(plan, Routed) and plan.by == "activation":
        return hear(engine, prompts, list(plan.weights))
    return near


def similarities(
    embedder: Embedder,
    adapters: Mapping[str, Adapter],
    prompts: Sequence[str],
    head: Head | None = None,
) -> list[dict[str, float]]:
    """For each prompt, name -> cosine of its embedding to the adapter's centroid, both under the
    head if there is one, and `BLANK` -> to a blank text; adapters that say nothing of themselves
    are left out."""
    texts = {name: adapter_texts(adapter.card)[0] for name, adapter in adapters.items()}
    places = {
        name: centroid(embedder.encode(found))  # (dim,)
        for name, found in texts.items()
        if found
    }
    places[BLANK] = embedder.encode([BLANK_TEXT])[0]
    if not prompts:
        return []
    vectors = embedder.encode(list(prompts))  # (n, dim)
    if head is not None:
        vectors = head(vectors)
        places = {name: head(place)[0] for name, place in places.items()}
    return [{name: float(place @ v) for name, place in places.items()} for v in vectors]
