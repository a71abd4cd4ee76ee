"""Task: a short run of the base model with a new adapter, before anyone else meets it."""

from __future__ import annotations

from math import isfinite
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.engines.rows import RowPlan, ScoreRow
from lora_studio.errors import IncompatibleAdapters, InvalidAdapter
from lora_studio.families import modality_of
from lora_studio.formats import canonical
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks.running import engine_for, image_engine_for

STEPS = 2
PROMPT, TARGET = "Hello", " world"


def run(args: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    """args: base, device, path (an adapter in the studio's own form). Returns {}.

    Raises:
        InvalidAdapter: with it the model's numbers are not finite, or it does not run at all.
    """
    ctx.progress(None, "trying it on the base model")
    adapter = canonical.read(args["path"])
    image = modality_of(str(args["base"])) == "image"
    try:
        finite = _draws(args, adapter, ctx) if image else _answers(args, adapter, ctx)
    except IncompatibleAdapters as error:
        raise InvalidAdapter(f"It does not run on its base model: {error}", "dry-run") from error
    if not finite:
        raise InvalidAdapter(
            "With it the base model gives no finite numbers. The training run has probably "
            "diverged, or its alpha is wrong; upload an earlier checkpoint.",
            "dry-run",
        )
    return {}


def _answers(args: dict[str, Any], adapter: Adapter, ctx: JobContext) -> bool:
    engine = engine_for(args, ctx)
    with engine.bank.guests({"new": adapter}) as guests:
        plan = RowPlan(((guests["new"], 1.0),))
        (score,) = engine.score([ScoreRow("new", PROMPT, TARGET, plan)], check=ctx.check)
    return isfinite(score.logprob)


def _draws(args: dict[str, Any], adapter: Adapter, ctx: JobContext) -> bool:
    from lora_studio.engines.image import Denoising, ImageRow, plain

    engine = image_engine_for(args, ctx)
    with engine.bank.guests({"new": adapter}) as guests:
        row = ImageRow("new", PROMPT, plain({guests["new"]: 1.0}), 0)
        engine.generate([row], Denoising(steps=STEPS), check=ctx.check)
    return True  # the engine refuses what is not finite
