"""Downloads: a merged adapter as an ordinary PEFT zip, a routed plan as sources with a script."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import numpy as np

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition import (
    METHODS,
    Merged,
    Recipe,
    Routed,
    compose,
)
from lora_studio.errors import InvalidAdapter, NotFound
from lora_studio.formats import save_adapter
from lora_studio.gallery import Entry
from lora_studio.settings import assets_dir
from lora_studio.studio.access import Seen
from lora_studio.studio.peft_folder import Parent, slug, write_peft


def export_peft(gallery: Seen, adapter_id: str, folder: Path, dtype: str = "") -> Path:
    """Zips one adapter: config, weights, card with its parents, recipe, picture of its units and
    test prompts.

    The weights are read back and compared first.
    """
    entry = gallery.get(adapter_id)
    adapter = gallery.adapter(entry.id)
    name = "-".join(filter(None, (slug(entry.title, "adapter"), entry.id[:8], dtype)))
    extra: dict[str, str] = {}
    if tests := gallery.tests(entry.id):
        extra["test.jsonl"] = "".join(json.dumps(t, ensure_ascii=False) + "\n" for t in tests)
    with TemporaryDirectory(dir=folder) as scratch:
        home, recipe = Path(scratch) / name, recipe_of(gallery, entry)
        write_peft(adapter, home, recipe, _parents(gallery, entry), extra, dtype)
        return zipped(home, folder / f"{name}.zip")


def recipe_of(gallery: Seen, entry: Entry) -> Recipe | None:
    """The recipe that made an adapter, if it is there for this person."""
    if not entry.recipe:
        return None
    try:
        return Recipe.from_yaml(gallery.get_recipe(entry.recipe)["yaml"])
    except NotFound:
        return None


def _parents(gallery: Seen, entry: Entry) -> list[Parent]:
    found = []
    for parent in entry.parents:
        try:
            found.append(Parent(parent, gallery.adapter(parent)))
        except (NotFound, InvalidAdapter):
            found.append(Parent(parent))
    return found


def export_routed(gallery: Seen, recipe: Recipe, plan: Routed, embedder: str, folder: Path) -> Path:
    """Zips a routed plan: its sources as PEFT folders, their vectors, the recipe and run.py."""
    name = f"{plan.rule}-{recipe.id[:8]}"
    with TemporaryDirectory(dir=folder) as scratch:
        home = Path(scratch) / name
        sources = {i: gallery.adapter(i) for i in plan.answerers}
        if plan.rule == "fusion":
            sources = _same_rank(sources, plan.weights)
        fixed = plan.rule == "mixture" and not plan.needs_retrieval
        if fixed:
            save_adapter(_as_one(plan, sources), home / "merged")
        places = {
            i: f"adapters/{slug(adapter.card.title, 'adapter')}-{i[:8]}"
            for i, adapter in sources.items()
        }
        for adapter_id, adapter in sources.items():
            save_adapter(adapter, home / places[adapter_id])
        facts = []
        for adapter_id in plan.weights:
            vector = gallery.vector(adapter_id)
            facts.append(
                {
                    "folder": places[plan.stand_ins.get(adapter_id, adapter_id)],
                    "weight": plan.strength(adapter_id),
                    "vector": None if vector is None else [round(float(v), 6) for v in vector],
                    "task": gallery.get(adapter_id).title,
                }
            )
        routing = {
            "rule": plan.rule,
            "top_k": plan.top_k,
            **asdict(plan.choice),
            "router": plan.router.to_dict() if plan.router else None,
            "base_model": recipe.base.get("repo", ""),
            "embedder": embedder,
            "adapters": facts,
        }
        (home / "routing.json").write_text(json.dumps(routing, indent=1), encoding="utf-8")
        (home / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
        if not METHODS.get(plan.rule).in_model:
            script = (assets_dir() / "export" / "run.py").read_text(encoding="utf-8")
            (home / "run.py").write_text(script, encoding="utf-8")
        (home / "README.md").write_text(
            _routed_readme(plan, sources, facts, fixed), encoding="utf-8"
        )
        return zipped(home, folder / f"{name}.zip")


def _same_rank(sources: dict[str, Adapter], weights: Mapping[str, float]) -> dict[str, Adapter]:
    """What fusion adds entry-wise: ranks padded with zeros to the largest of each module, and the
    weight in A as well as in B, so that the script has only to take means."""
    largest: dict[str, int] = {}
    for adapter in sources.values():
        for name, rank in adapter.ranks.items():
            largest[name] = max(rank, largest.get(name, 0))

    def pad(module: LoraFactors, rank: int, weight: float) -> LoraFactors:
        module, extra = module.folded(), rank - module.rank
        a = np.pad(weight * module.A, ((0, extra), (0, 0)))
        return replace(module, A=a, B=np.pad(weight * module.B, ((0, 0), (0, extra))))

    return {
        i: replace(a, factors={n: pad(m, largest[n], weights[i]) for n, m in a.factors.items()})
        for i, a in sources.items()
    }


def _as_one(plan: Routed, sources: dict[str, Adapter]) -> Adapter:
    """A mixture in which everyone always answers, as the one adapter it equals."""
    terms = dict(plan.row({}).terms)
    merged = compose("cat", [sources[i] for i in terms], list(terms.values()))
    assert isinstance(merged, Merged)
    names = " + ".join(a.card.title for a in sources.values())
    return replace(merged.adapter, card=replace(merged.adapter.card, title=f"Mixture of {names}"))


def _routed_readme(
    plan: Routed, sources: Mapping[str, Adapter], facts: Sequence[Mapping[str, Any]], fixed: bool
) -> str:
    method = METHODS.get(plan.rule)
    tasks = {i: fact["task"] for i, fact in zip(plan.weights, facts, strict=True)}

    def line(name: str, adapter: Adapter) -> str:
        together = ", ".join(tasks[i] for i in tasks if plan.stand_ins.get(i) == name)
        return f"- {adapter.card.title}" + (f" (merged: {together})" if together else "")

    most = f"at most {plan.top_k}" if plan.choice.looks else plan.top_k
    names = "\n".join(line(name, adapter) for name, adapter in sources.items())
    one = (
        "Every adapter always answers, so the mixture equals one adapter: `merged/`, for PEFT.\n\n"
        if fixed
        else ""
    )
    return (
        f"# {method.title} of {len(plan.weights)} adapters\n\n{method.summary}\n\n"
        f"Each prompt is answered by {most} of:\n\n{names}\n\n{one}{_how_to_run(plan)}"
    )


def _how_to_run(plan: Routed) -> str:
    if not METHODS.get(plan.rule).in_model:
        return (
            "Run it with transformers, peft and sentence-transformers installed:\n\n"
            '    python run.py --base PATH_OR_HUB_ID "your prompt"\n'
        )
    same = (
        " PEFT runs it too where all adapters have one rank and the same modules: "
        "`peft.create_arrow_model` with the folders under `adapters/`."
        if plan.rule == "arrow"
        else ""
    )
    return (
        "Who acts is decided inside the model while it runs, which a file cannot carry. Open "
        f"`recipe.yaml` in LoRA Studio to run it.{same}\n"
    )


def zipped(home: Path, target: Path) -> Path:
    """The files under `home` in a zip at `target`, which is whole or absent."""
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f"{uuid4().hex}.part")
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in home.rglob("*") if p.is_file()):
            archive.write(file, Path(home.name) / file.relative_to(home))
    return half.replace(target)
