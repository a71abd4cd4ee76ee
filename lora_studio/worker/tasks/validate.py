"""Task: read an uploaded file, check it, and write it in the studio's own form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.errors import InvalidAdapter
from lora_studio.families import cannot_run, check_fits, detect, home_of, module_shapes
from lora_studio.families.base_model import Shapes
from lora_studio.families.known import KNOWN
from lora_studio.formats import Loaded, canonical, load
from lora_studio.formats.thumbnail import redraw
from lora_studio.limits import Limits, limited
from lora_studio.rank_units.measures import measure, sentences
from lora_studio.worker.job import JobContext

FROM_PEOPLE = ("title", "description", "licence", "contributor", "base_model", "centroid")
LISTS = ("samples", "tags", "trigger_words")


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: path, out (file to write), max_bytes, limits, card (fields a person typed; they win),
    fallback (base model whose sizes count where none is named), bases (those that may be looked
    at, None for any).

    Returns {card, tests, report, family, evidence, fits, measures, thumbnail}; `evidence` says why
    it is taken for that family; `fits`, whether its base model was at hand and every module has a
    place in it; `measures` are the figures of the report card; `thumbnail` is the path of a PNG
    beside `out`, drawn anew from the uploaded one, or "".
    """
    caps = Limits.from_dict(args.get("limits") or {})
    with limited(caps):
        try:
            return _validate(args, ctx)
        except MemoryError as error:
            raise InvalidAdapter(
                "Reading this file took more memory than one of its size needs. Save it again as "
                "plain safetensors, or ask the operator for a higher limit.",
                "resources",
            ) from error


def _validate(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    ctx.progress(0.1, "reading the file")
    typed, last = args.get("card", {}).get("base_model"), args.get("fallback", "")
    loaded = load(
        args["path"],
        int(args["max_bytes"]),
        lambda said: _sizes(str(typed or said or last), args),
    )
    ctx.check()
    card = _card(loaded.adapter.card, args.get("card", {}))
    guess = detect(loaded.adapter, loaded.metadata)
    named = bool(card.base_model)
    card = card if named else replace(card, base_model=home_of(guess.family))
    adapter = replace(loaded.adapter, card=card)
    ctx.progress(0.6, "comparing with the base model")
    measures = {
        **measure(loaded.adapter, loaded.ranks),
        "dialect": card.source_format,
        "family": KNOWN.get(guess.family).title if guess.family else "",
        "evidence": list(guess.evidence),
        "notes": list(loaded.report),
    }
    report = [_summary(adapter), *loaded.report, *sentences(measures)]
    if not named and card.base_model:
        why = " ".join(guess.evidence)
        report.append(f"No base model was named; taken for {card.base_model}. {why}")
    if lacking := cannot_run(guess.family):
        report.append(lacking)
    fits, compared = _fit(adapter, _sizes(card.base_model, args))
    report.append(compared)
    ctx.progress(0.8, "writing")
    out = Path(args["out"])
    canonical.write(adapter, out)
    return {
        "card": card.to_dict(),
        "tests": loaded.tests,
        "report": report,
        "family": guess.family,
        "fits": fits,
        "evidence": list(guess.evidence),
        "measures": measures,
        "thumbnail": _thumbnail(loaded, out, report),
    }


def _card(read: AdapterCard, given: dict[str, Any]) -> AdapterCard:
    typed = {k: v for k, v in given.items() if v and k in FROM_PEOPLE}
    lists = AdapterCard.from_dict({k: v for k, v in given.items() if v and k in LISTS})
    return replace(read, **typed, **{k: getattr(lists, k) for k in LISTS if given.get(k)})


def _summary(adapter: Adapter) -> str:
    return (
        f"{adapter.card.source_format} file, {len(adapter.factors)} modules, rank "
        f"{adapter.max_rank}, {adapter.parameters:,} parameters; all values are finite."
    )


def _sizes(base: str, args: dict[str, Any]) -> Shapes:
    """Sizes of a base model's modules; {} for one that uploads of strangers may not look at."""
    bases = args.get("bases")
    return module_shapes(base) if bases is None or base in bases else {}


def _fit(adapter: Adapter, shapes: Shapes) -> tuple[bool, str]:
    """Whether every module was seen to fit the named base model, and that in words.

    Raises:
        InvalidAdapter: a module does not fit.
    """
    base = adapter.card.base_model
    if not shapes:
        return False, (
            f"The base model ({base or 'not named'}) is not on this machine, so module sizes were "
            "not compared with it."
        )
    if problems := check_fits(adapter, shapes):
        raise InvalidAdapter(
            f"This adapter does not fit {base}: {problems[0]}"
            + (f" (and {len(problems) - 1} more)." if len(problems) > 1 else ".")
            + " Name the base model it was trained on.",
            "base-model",
        )
    return True, f"Every module fits {base}."


def _thumbnail(loaded: Loaded, out: Path, report: list[str]) -> str:
    if loaded.thumbnail is None:
        return ""
    try:
        picture = redraw(loaded.thumbnail)
    except InvalidAdapter as error:
        report.append(str(error))
        return ""
    place = out.with_name(f"{out.name}.png")
    place.write_bytes(picture)
    return str(place)
