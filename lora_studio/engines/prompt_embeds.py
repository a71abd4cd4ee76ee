"""Embeddings of prompts under the text-encoder parts of adapters: each distinct pair of prompt and
weights is encoded once, before the first step, and handed to the denoiser branch by branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lora_studio.composition.schedule import Scheduled
from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.grouped_rows import GroupedRows
from lora_studio.families.family import Family

TextKey = tuple[str, tuple[tuple[str, float], ...]]


class PromptEmbeds:
    """Encodes what the plans of a batch will ask for.

    Args:
        pipe: a diffusers pipeline whose family hands embeddings over.
        prompts, plans: one per picture.
        negative: negative prompt of all pictures.
        guided: whether negative embeddings are needed.
    """

    def __init__(
        self,
        pipe: Any,
        family: Family,
        bank: AdapterBank,
        prompts: Sequence[str],
        plans: Sequence[Scheduled],
        steps: int,
        negative: str,
        guided: bool,
    ) -> None:
        self._pipe, self._family, self._bank = pipe, family, bank
        self._prefixes = tuple(f"{name}." for name in family.text_encoders)
        self._prompts, self._negative, self._guided = prompts, negative, guided
        self._plans, self._steps = plans, steps
        keys: dict[TextKey, int] = {}
        for row, plan in enumerate(plans):
            for branch in range(len(plan.branches)):
                for step in range(steps):
                    keys.setdefault(self._key(row, branch, step), len(keys))
        self._places = keys
        self._first = [keys[self._key(row, 0, 0)] for row in range(len(plans))]
        self._tensors = self._encode(list(keys))

    def arguments(self) -> dict[str, Tensor]:
        """What the pipeline's call is given instead of prompts."""
        return {name: t[self._first] for name, t in self._tensors.items()}

    def put(
        self,
        kwargs: dict[str, Any],
        chosen: Sequence[tuple[int, int]],
        step: int,
        halves: Sequence[str],
    ) -> None:
        """Puts each evaluation's embeddings into the denoiser's arguments.

        Args:
            chosen: (picture, branch) per evaluation; each has one row per half.
        """
        places = [self._places[self._key(row, branch, step)] for row, branch in chosen]
        for embeds in self._family.embeds:
            parts = [
                self._tensors[embeds.argument if half == "cond" else f"negative_{embeds.argument}"]
                for half in halves
            ]
            rows = torch.stack([part[places] for part in parts], dim=1).flatten(0, 1)
            outer, _, inner = embeds.denoiser.partition(".")
            if inner:
                kwargs[outer] = {**kwargs[outer], inner: rows.to(kwargs[outer][inner].dtype)}
            else:
                kwargs[outer] = rows.to(kwargs[outer].dtype)

    def _key(self, row: int, branch: int, step: int) -> TextKey:
        chosen = self._plans[row].branches[branch]
        weights = chosen.text_weights(step, self._steps)
        acting = tuple(
            (i, w) for i, w in sorted(weights.items()) if self._bank.touches(i, self._prefixes)
        )
        return chosen.prompt or self._prompts[row], acting

    def _encode(self, keys: Sequence[TextKey]) -> dict[str, Tensor]:
        """Argument name -> (number of keys, ...)."""
        rows: list[dict[str, Tensor]] = [{} for _ in keys]
        for acting in dict.fromkeys(acting for _, acting in keys):
            mine = [place for place, key in enumerate(keys) if key[1] == acting]
            pieces = self._bank.pieces(dict(acting), self._prefixes)
            grouped = GroupedRows(((0, len(mine), pieces),) if pieces else (), len(mine))
            with self._bank.active(grouped):
                found = self._encode_prompts([keys[place][0] for place in mine])
            for name, tensor in found.items():
                for slot, place in enumerate(mine):
                    rows[place][name] = tensor[slot]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _encode_prompts(self, prompts: list[str]) -> dict[str, Tensor]:
        given: dict[str, Any] = {"prompt": prompts, "num_images_per_prompt": 1}
        if self._family.name == "sd3":
            given |= {"prompt_2": None, "prompt_3": None}
        if self._family.halves:
            negative = [self._negative] * len(prompts) if self._negative else None
            given |= {
                "do_classifier_free_guidance": self._guided,
                "negative_prompt": negative if self._guided else None,
            }
        else:
            given["prompt_2"] = None
        device = self._pipe._execution_device
        found = self._pipe.encode_prompt(**given, device=device)
        names: list[str] = []
        for embeds in self._family.embeds:
            names += [embeds.argument]
            names += [f"negative_{embeds.argument}"] if self._family.halves else []
        return {n: t for n, t in zip(names, found, strict=False) if t is not None}
