"""Task: one step of a verdict, from kept statistics. No weights are read."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from lora_studio.composition import Recipe
from lora_studio.composition.recipe import Source
from lora_studio.composition.verdict import Verdict, Wanted, by_id, join, warm
from lora_studio.composition.verdict.joint import Joint
from lora_studio.gallery.statistics import Statistics
from lora_studio.worker.job import JobContext

REMEMBERED = 3
"""Verdicts and sets of adapters that are kept in memory."""


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: recipe, digests {id: digest of the stored file}, titles {id: title}, root (folder of
    the statistics), family of the base ("" unknown), which ("some" or "all"), within (seconds).

    Asked again with the same arguments, it goes on where it stopped; without a recipe it only gets
    ready. Returns `Verdict.told()`, or {missing: True} where statistics are lacking.
    """
    if "recipe" not in args:
        warm()
        return {}
    recipe = Recipe.from_dict(args["recipe"])
    asked = {name: args.get(name) for name in ("recipe", "digests", "family", "which")}
    key = sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    known: OrderedDict[str, Verdict] = ctx.state.setdefault("verdicts", OrderedDict())
    if key not in known:
        places = by_id([source.id for source in recipe.active])
        active = [recipe.active[place] for place in places]
        joint = _joint(args, active, ctx)
        if joint is None:
            return {"missing": True}
        known[key] = Verdict(joint, _wanted(args, recipe, active, places))
    _use(known, key)
    known[key].advance(float(args.get("within", 0.0)))
    ctx.check()
    return known[key].told()


def _wanted(
    args: Mapping[str, Any], recipe: Recipe, active: Sequence[Source], places: Sequence[int]
) -> Wanted:
    return Wanted(
        ids=[source.id for source in active],
        titles=[str(args["titles"][source.id]) for source in active],
        weights=[source.weight for source in active],
        method=recipe.method,
        params=recipe.params,
        seed=recipe.seed,
        base=recipe.base.get("repo", ""),
        family=str(args.get("family") or ""),
        which="all" if args.get("which") == "all" else "some",
        places=places,
    )


def _joint(args: Mapping[str, Any], active: Sequence[Source], ctx: JobContext) -> Joint | None:
    """The statistics of these adapters with what is chosen of each, weights aside."""
    cut = [[s.id, s.units, s.module_weights] for s in active]
    key = sha256(json.dumps([args["digests"], cut], sort_keys=True, default=dict).encode())
    known: OrderedDict[str, Joint] = ctx.state.setdefault("joints", OrderedDict())
    if key.hexdigest() not in known:
        digests = [str(args["digests"][source.id]) for source in active]
        profiles, found, missing = Statistics(Path(args["root"])).load(digests)
        if missing or any(digest not in profiles for digest in digests):
            return None
        pairs = {}
        for i, one in enumerate(digests):
            for j, two in enumerate(digests[i + 1 :], start=i + 1):
                pair = found[min(one, two), max(one, two)]
                pairs[i, j] = pair if one < two else pair.turned()
        titles = [str(args["titles"][source.id]) for source in active]
        known[key.hexdigest()] = join([profiles[d] for d in digests], pairs, active, titles)
    _use(known, key.hexdigest())
    return known[key.hexdigest()]


def _use(known: OrderedDict[str, Any], key: str) -> None:
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
