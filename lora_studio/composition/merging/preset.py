"""The default: try the methods that tend to win, keep what answers the sample prompts best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from lora_studio.composition.method import METHODS, Inputs, Range, method
from lora_studio.composition.plan import Merged
from lora_studio.composition.probe import Agreement, ModelProbe, WalkingProbe

CANDIDATES: Mapping[str, Mapping[str, Any]] = {
    "svd": {"auto_scale": True},
    "lego": {"auto_scale": True, "gauge": "balanced"},
    "cat": {"auto_scale": True},
    "refit": {},
}
"""Method -> its parameters; a method with a `rank` gets the limit of the result. Kept few, since
the more are judged on the same prompts, the more of the winner's lead is luck."""


@dataclass(frozen=True)
class Tried:
    """One candidate, made on some of the samples, and how it does on the others."""

    name: str
    params: dict[str, Any]
    plan: Merged
    found: Agreement

    @property
    def key(self) -> tuple[tuple[float, float], int]:
        """Order of preference: what is answered, then the smaller rank."""
        return self.found.key, -self.plan.adapter.max_rank


@method("preset", title="Best on samples", kind="merging", uses_model=True, needs_samples=True)
def preset(
    inputs: Inputs,
    *,
    rank: Annotated[
        int, Range(0, 512, 1, "Largest rank of the result; 0 = twice the largest source rank")
    ] = 0,
) -> Merged:
    """Tries SVD, LEGO, concatenation and refit; keeps the best on sample prompts held back.

    Every candidate is made, its strength chosen included, on three quarters of the sources' sample
    inputs and judged on the rest: of language models by how many of the sources' own answers it
    reproduces, of image models by how much of what each source changes in the denoiser's
    predictions; the winner is made again on all of them. Among equals the smaller rank wins; `cat`
    takes part only within the rank limit. Test prompts are never seen. Without the base model or
    samples it is balanced LEGO at scale 1, and says so.
    """
    limit = rank or 2 * max(a.max_rank for a in inputs.adapters)
    chosen = {n: _params(n, g, limit) for n, g in CANDIDATES.items() if _fits(n, inputs, limit)}
    if inputs.probe is None:
        note = "No base model is running, so nothing could be tried: LEGO at scale 1 was used."
        return _untried(inputs, chosen, note)
    making = judging = inputs.probe
    if walking := isinstance(making, WalkingProbe):
        making, judging = making.split()
    tried = [_try(n, given, inputs, making, judging) for n, given in chosen.items()]
    if not all(one.found.prompts for one in tried):
        note = "The sources have too few sample inputs to try on: LEGO at scale 1 was used."
        return _untried(inputs, chosen, note)
    ranked = sorted(tried, key=lambda one: one.key, reverse=True)
    best = ranked[0]
    plan = best.plan
    if walking:
        inputs.progress(0.0, f"making {METHODS.get(best.name).title} on all samples")
        plan = _make(best.name, best.params, inputs)
    return replace(plan, notes=(_verdict(ranked, walking), *plan.notes))


def _fits(name: str, inputs: Inputs, limit: int) -> bool:
    found = METHODS.get(name)
    if found.modality not in ("both", inputs.modality):
        return False
    if any(p.name == "rank" for p in found.params):
        return True
    active = [a for a, w in zip(inputs.adapters, inputs.weights, strict=True) if w]
    names = {module for a in active for module in a.factors}
    ranks = (sum(a.ranks.get(module, 0) for a in active) for module in names)
    return max(ranks, default=0) <= limit


def _params(name: str, given: Mapping[str, Any], limit: int) -> dict[str, Any]:
    ranked = any(p.name == "rank" for p in METHODS.get(name).params)
    return {**given, **({"rank": limit} if ranked else {})}


def _make(name: str, params: Mapping[str, Any], inputs: Inputs) -> Merged:
    plan = METHODS.get(name)(inputs, **params)
    assert isinstance(plan, Merged)
    return plan


def _try(
    name: str,
    params: dict[str, Any],
    inputs: Inputs,
    making: ModelProbe,
    judging: ModelProbe,
) -> Tried:
    inputs.progress(0.0, f"trying {METHODS.get(name).title} on sample prompts")
    plan = _make(name, params, replace(inputs, probe=making))
    (found,) = judging.agreement([(plan.adapter, 1.0)])
    return Tried(name, params, plan, found)


def _untried(inputs: Inputs, chosen: Mapping[str, dict[str, Any]], note: str) -> Merged:
    params = {**chosen["lego"], "auto_scale": False}
    return Merged(_make("lego", params, replace(inputs, probe=None)).adapter, (note,))


def _verdict(ranked: Sequence[Tried], held_out: bool) -> str:
    """What won, on what, and by how much."""
    best, *others = ranked
    what = "sample prompts of the sources (not test prompts)"
    what += ", held back from it" if held_out else ""
    said = (
        f"{METHODS.get(best.name).title} was best: on {best.found.prompts} {what}, "
        f"{best.found.exact:.0%} {best.found.meaning}"
    )
    rest = [f"{METHODS.get(o.name).title} {o.found.exact:.0%}" for o in others]
    return f"{said}; {', '.join(rest)}." if rest else f"{said}."
