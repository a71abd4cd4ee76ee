"""What a family of image models cannot do, or cannot go on with, and would fail at silently."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.pictures import ImageRow
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from lora_studio.families.family import Family


def refuse(family: Family, bank: AdapterBank, rows: Sequence[ImageRow]) -> None:
    """Raises where pictures cannot be made as asked.

    Raises:
        InvalidRequest: no picture; or words of a region, where the pipeline takes one prompt.
        IncompatibleAdapters: adapters of a text encoder that is not run with them.
    """
    if not rows:
        raise InvalidRequest("There is no picture to make. Write a prompt.")
    if family.embeds:
        return
    prefixes = tuple(f"{name}." for name in family.text_encoders)
    for branch in (branch for row in rows for branch in row.plan.branches):
        if branch.prompt:
            raise InvalidRequest(
                f"{family.title} takes one prompt for the whole picture. Leave the words of the "
                "regions empty."
            )
        for adapter_id in branch.schedule(0, 2):
            if bank.has(adapter_id) and bank.touches(adapter_id, prefixes):
                raise IncompatibleAdapters(
                    f"Adapters of the text encoder are not run on {family.title}. Use one that "
                    "adapts the transformer only."
                )


def refuse_overflow(rows: Sequence[ImageRow], latents: Tensor) -> None:
    """Raises IncompatibleAdapters, naming the pictures, where (rows, ...) latents hold NaN or
    infinity: they would come out black."""
    whole = latents.flatten(1).isfinite().all(1).tolist()
    lost = [row for row, fine in zip(rows, whole, strict=True) if not fine]
    if lost:
        raise IncompatibleAdapters(
            f"With these adapters the model gives no finite numbers for {lost[0].prompt[:60]!r}. "
            "Lower the weights, or leave the adapter out."
        )
