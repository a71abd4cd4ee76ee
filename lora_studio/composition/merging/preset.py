"""The default: try the methods that tend to win, keep what answers the sample prompts best."""

from __future__ import annotations

from typing import Annotated

from lora_studio.adapter import Adapter
from lora_studio.composition.method import METHODS, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.scale import Scaled, best_scale, describe

CANDIDATES = ("svd", "lego", "cat")


@method("preset", title="Best on samples", kind="merging", uses_model=True)
def preset(
    inputs: Inputs,
    *,
    rank: Annotated[
        int, Range(0, 512, 1, "Largest rank of the result; 0 = twice the largest source rank")
    ] = 0,
) -> Merged:
    """Tries SVD, LEGO and concatenation at several strengths; keeps the best on sample prompts.

    Every candidate is auto-scaled on the sources' own sample inputs, never on test prompts, and
    judged by how many of the sources' own answers it reproduces (of pictures: by how much of what
    each source changes in the denoiser's predictions); among equals the smaller rank wins. `cat`
    takes part only within the rank limit. Without the base model or samples it is balanced LEGO at
    scale 1, and says so.
    """
    limit = rank or 2 * max(a.max_rank for a in inputs.adapters)
    plans = {name: _candidate(name, inputs, limit) for name in CANDIDATES}
    fits = {name: a for name, a in plans.items() if a.max_rank <= limit}
    if inputs.probe is None:
        note = "No base model is running, so nothing could be tried: LEGO at scale 1 was used."
        return Merged(fits["lego"], (note,))
    best: tuple[tuple[tuple[float, float], int], str, Scaled] | None = None
    for name, adapter in fits.items():
        inputs.progress(0.0, f"trying {name} on sample prompts")
        scaled = best_scale(adapter, inputs)
        if scaled is None:
            note = "The sources have no sample inputs to try on: LEGO at scale 1 was used."
            return Merged(fits["lego"], (note,))
        key = (scaled.agreement.key, -adapter.max_rank)
        if best is None or key > best[0]:
            best = (key, name, scaled)
    assert best is not None
    _, name, scaled = best
    return Merged(scaled.adapter, (f"{METHODS.get(name).title} was best.", describe(scaled)))


def _candidate(name: str, inputs: Inputs, limit: int) -> Adapter:
    params = {"svd": {"rank": limit}, "lego": {"rank": limit, "gauge": "balanced"}, "cat": {}}
    plan = METHODS.get(name)(inputs, **params[name])
    assert isinstance(plan, Merged)
    return plan.adapter
