"""For many adapters: merge those that get on with each other, route to the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from lora_studio.composition.merging.refit import refit
from lora_studio.composition.method import Inputs, Range, method
from lora_studio.composition.plan import Merged, Routed
from lora_studio.composition.probe import WalkingProbe
from lora_studio.composition.routing.strengths import strengths

MERGED = "merged"
"""Name of the merged adapter in the plan."""


@method(
    "merge_rest",
    title="Merge, route the rest",
    kind="routing",
    uses_model=True,
    needs_samples=True,
)
def merge_rest(
    inputs: Inputs,
    *,
    rank: Annotated[
        int, Range(0, 4096, 1, "Rank of all that is kept together; 0 = half of all sources'")
    ] = 0,
    enough: Annotated[
        float,
        Range(
            0.1, 1.0, 0.05, "Share of its held-back samples a merged adapter has to answer still"
        ),
    ] = 0.8,
) -> Routed:
    """Merges what a merge can still answer for, and routes prompts of the others to themselves.

    All that is kept has one budget of rank. To begin with all adapters are merged, by `refit` on
    three quarters of their samples, at the rank of the whole budget. As long as one is answered for
    less than `enough` on its samples that were held back, the one answered for worst is taken out,
    keeps its own rank, and the rest is merged anew at what is left, which is at least that of its
    largest source. What remains is refitted on all samples. A prompt is sent, as by `selection`, to
    the adapter whose samples it resembles most, and the merged one answers for all that are in it:
    one adapter acts on a prompt, and taking one of the merged for another does no harm. Without the
    base model, or where everything fits the budget as it is, all are routed and nothing is merged.
    Our own arrangement of known parts: rank goes to who needs it, in whole adapters.
    """
    found = strengths(inputs)
    routed = Routed("selection", found, top_k=1)
    places = [i for i, weight in enumerate(inputs.weights) if weight]
    whole = sum(inputs.adapters[i].max_rank for i in places)
    budget = rank or -(-whole // 2)
    if len(places) < 2 or whole <= budget:
        note = f"All {len(places)} fit a rank of {budget} as they are: nothing was merged."
        return replace(routed, notes=(note,))
    if not isinstance(inputs.probe, WalkingProbe):
        note = "Merging needs the base model at work to see what a merge still answers: all routed."
        return replace(routed, notes=(note,))
    split = _share_out(inputs, inputs.probe, places, budget, enough)
    if split is None:
        note = "The sources have no sample inputs to judge a merge by: all are routed."
        return replace(routed, notes=(note,))
    inputs.progress(0.0, "merging what stays together on all samples")
    plan = _refitted(inputs, split.merged, split.rank)
    ids = list(inputs.ids) or [adapter.id for adapter in inputs.adapters]
    return replace(
        routed,
        notes=(_said(split, len(places), whole), *plan.notes),
        stand_ins={ids[i]: MERGED for i in split.merged},
        made={MERGED: plan.adapter},
    )


@dataclass(frozen=True)
class Split:
    """Who is merged and who is not, by place.

    Args:
        rank: of the merged adapter. alone: place -> share of its held-back samples the last merge
            that it took part in answered. held: the same of those that stay merged.
        kept: rank of everything together.
    """

    merged: tuple[int, ...]
    rank: int
    alone: Mapping[int, float]
    held: float
    kept: int


def _share_out(
    inputs: Inputs, probe: WalkingProbe, places: Sequence[int], budget: int, enough: float
) -> Split | None:
    """None where no sample is held back."""
    making, judging = probe.split()
    ranks = {i: inputs.adapters[i].max_rank for i in places}
    merged, alone = list(places), dict[int, float]()
    while True:
        left = budget - sum(ranks[i] for i in alone)
        left = max(left, max(ranks[i] for i in merged))
        inputs.progress(0.0, f"merging {len(merged)} at rank {left}, {len(alone)} routed to")
        plan = _refitted(replace(inputs, probe=making), merged, left)
        held = _judged(plan, judging, inputs, merged)
        if all(prompts == UNSEEN for prompts in held.values()):
            return None
        worst = min(merged, key=lambda i: (held[i], inputs.adapters[i].id))
        rest = [i for i in merged if i != worst]
        after = left - ranks[worst]
        if held[worst][0] >= enough or len(rest) < 2 or after < max(ranks[i] for i in rest):
            mean = sum(max(held[i][0], 0.0) for i in merged) / len(merged)
            kept = left + sum(ranks[i] for i in alone)
            return Split(tuple(merged), left, alone, mean, kept)
        merged, alone = rest, {**alone, worst: max(held[worst][0], 0.0)}


UNSEEN = (-1.0, 0.0)
"""Of a source without held-back samples: nothing shows that a merge answers for it."""


def _judged(
    plan: Merged, judging: WalkingProbe, inputs: Inputs, merged: Sequence[int]
) -> dict[int, tuple[float, float]]:
    """Place -> (share, log-probability) of its held-back samples' answers under the merge."""
    (found,) = judging.agreement([(plan.adapter, 1.0)])
    return {i: found.of_source.get(inputs.adapters[i].id, UNSEEN) for i in merged}


def _refitted(inputs: Inputs, places: Sequence[int], rank: int) -> Merged:
    """These adapters alone as one."""
    few = replace(
        inputs,
        adapters=[inputs.adapters[i] for i in places],
        weights=[inputs.weights[i] for i in places],
        ids=[inputs.ids[i] for i in places] if inputs.ids else (),
    )
    plan = refit(few, rank=rank)
    assert isinstance(plan, Merged)
    return plan


def _said(split: Split, of: int, whole: int) -> str:
    said = (
        f"{len(split.merged)} of {of} adapters were merged at rank {split.rank}; on samples held "
        f"back the merge answered {split.held:.0%} as they do."
    )
    if split.alone:
        shares = ", ".join(f"{share:.0%}" for share in split.alone.values())
        said += (
            f" {len(split.alone)} are routed to as they are, since of their own samples a merge "
            f"answered only {shares}."
        )
    return f"{said} Rank kept: {split.kept} of {whole}."
