"""Makes pictures, each under its own plan, on a diffusers pipeline."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.denoising import Conductor
from lora_studio.engines.loading import choose_device
from lora_studio.engines.pictures import Denoising, ImageRow, Picture, StepUpdate, plain
from lora_studio.engines.pipelines import load_pipeline, named_modules
from lora_studio.engines.previews import preview
from lora_studio.engines.prompt_embeds import PromptEmbeds
from lora_studio.errors import IncompatibleAdapters, InvalidRequest, LoraStudioError

__all__ = ["Denoising", "ImageEngine", "ImageRow", "Picture", "StepUpdate", "plain"]

log = logging.getLogger(__name__)

MAX_PIXELS = 4 << 20
"""Pixels of the pictures of one batch; more pictures wait for the next batch."""
DEFAULT_MAX_BATCH = 64


class ImageEngine:
    """A diffusers pipeline with its adapter bank.

    Args:
        base: the demo's name, a local pipeline folder or a Hub id.
        device: "auto", "cpu", "cuda" or "cuda:N".
        max_batch: largest batch given to the denoiser at once.

    Raises:
        LoraStudioError: the pipeline cannot be loaded, with what to do next.
    """

    def __init__(self, base: str, device: str = "auto", max_batch: int = DEFAULT_MAX_BATCH) -> None:
        self.base = str(base)
        self.device = choose_device(device)
        self.pipe, self.family = load_pipeline(self.base, self.device)
        self.bank = AdapterBank(named_modules(self.pipe, self.family), batched=False)
        self.max_batch = max_batch

    @property
    def denoiser(self) -> Any:
        """The module that predicts."""
        return getattr(self.pipe, self.family.denoiser)

    @property
    def parameters(self) -> int:
        """Number of values in denoiser, text encoders and VAE."""
        parts = (self.family.denoiser, *self.family.text_encoders, "vae")
        found = [getattr(self.pipe, name, None) for name in parts]
        return sum(p.numel() for part in found if part is not None for p in part.parameters())

    def close(self) -> None:
        """Takes the hooks off and lets the memory of model and adapters go."""
        self.bank.close()
        del self.pipe, self.bank
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def settled(self, wish: Denoising) -> Denoising:
        """The wish with the model's own values where it said nothing, sizes rounded."""
        own = dict(self.pipe.config.get("lora_studio") or {})
        sample = int(getattr(self.denoiser.config, "sample_size", 0) or 0)
        factor = int(getattr(self.pipe, "vae_scale_factor", 8))
        side = sample * factor if self.family.denoiser == "unet" and sample else self.family.size
        unit = factor * (1 if self.family.denoiser == "unet" else 2)
        if self.family.denoiser == "unet":
            unit *= 2 ** (len(self.denoiser.config.block_out_channels) - 1)

        def fit(pixels: int) -> int:
            return max(unit, pixels // unit * unit) if pixels else side

        steps = wish.steps or int(own.get("steps", self.family.steps))
        guidance = wish.guidance
        if guidance < 0:
            guidance = float(own.get("guidance", self.family.strength))
        if wish.negative and not self.family.negative:
            raise InvalidRequest(f"{self.family.title} knows no negative prompt. Leave it empty.")
        return replace(
            wish,
            steps=steps,
            guidance=guidance,
            width=fit(wish.width),
            height=fit(wish.height),
        )

    def generate(
        self,
        rows: Sequence[ImageRow],
        wish: Denoising = Denoising(),  # noqa: B008  (frozen)
        *,
        on_step: Callable[[StepUpdate], None] | None = None,
        on_picture: Callable[[Picture], None] | None = None,
        check: Callable[[], None] | None = None,
        preview_every: int = 0,
    ) -> list[Picture]:
        """Makes the pictures in as few batches as fit. Whatever happens, the base model is left as
        it was.

        Args:
            on_step: told after every step; with previews every `preview_every` steps.
            on_picture: given each picture as soon as it is finished.
            check: called before each evaluation of the denoiser; may raise Cancelled.

        Raises:
            NotFound: an adapter that is not in the bank.
            InvalidRequest, IncompatibleAdapters: what this model cannot do.
        """
        wish = self.settled(wish)
        self._refuse(rows)
        size = max(1, min(self.max_batch, MAX_PIXELS // (wish.width * wish.height)))
        pictures: list[Picture] = []
        for start in range(0, len(rows), size):
            batch = rows[start : start + size]
            with self._memory(len(batch)):
                made = self._batch(batch, wish, on_step, check or _never, preview_every)
            for picture in made:
                if on_picture:
                    on_picture(picture)
            pictures += made
        return pictures

    def _batch(
        self,
        rows: Sequence[ImageRow],
        wish: Denoising,
        on_step: Callable[[StepUpdate], None] | None,
        check: Callable[[], None],
        every: int,
    ) -> list[Picture]:
        start = time.perf_counter()
        plans = [row.plan for row in rows]
        guided = bool(self.family.halves) and wish.guidance > 1.0
        with torch.inference_mode(), self._scheduler(wish.scheduler):
            embeds = None
            if self.family.embeds:
                prompts = [row.prompt for row in rows]
                embeds = PromptEmbeds(
                    self.pipe,
                    self.family,
                    self.bank,
                    prompts,
                    plans,
                    wish.steps,
                    wish.negative,
                    guided,
                )
            conductor = Conductor(
                self.bank, self.family, plans, wish.steps, self._grid(wish), embeds, self.max_batch
            )

            def step_ended(pipe: Any, step: int, _: Any, given: dict[str, Any]) -> dict[str, Any]:
                conductor.step_ended()
                check()
                if on_step:
                    due = every and step + 1 < wish.steps and (step + 1) % every == 0
                    seen = preview(pipe, self.family, given["latents"], wish) if due else ()
                    on_step(StepUpdate(tuple(r.id for r in rows), step + 1, wish.steps, seen))
                return {}

            check()
            with conductor.conducting(self.denoiser):
                out = self.pipe(
                    **self._arguments(rows, wish, embeds, guided), callback_on_step_end=step_ended
                )
        seconds = time.perf_counter() - start
        pixels = _pixels(out.images)
        return [
            Picture(row.id, pixels[i], conductor.passes(i), seconds) for i, row in enumerate(rows)
        ]

    def _arguments(
        self,
        rows: Sequence[ImageRow],
        wish: Denoising,
        embeds: PromptEmbeds | None,
        guided: bool,
    ) -> dict[str, Any]:
        given: dict[str, Any] = {
            "width": wish.width,
            "height": wish.height,
            "num_inference_steps": wish.steps,
            self.family.guidance: wish.guidance,
            "generator": [torch.Generator("cpu").manual_seed(row.seed) for row in rows],
            "output_type": "np",
        }
        if embeds is not None:
            return given | embeds.arguments()
        given["prompt"] = [row.prompt for row in rows]
        if guided or self.family.guidance == "true_cfg_scale":
            given["negative_prompt"] = [wish.negative or " "] * len(rows)
        return given

    def _grid(self, wish: Denoising) -> tuple[int, int]:
        """(height, width) of a prediction, in tokens where latents are packed in twos."""
        factor = int(getattr(self.pipe, "vae_scale_factor", 8))
        unit = factor if self.family.denoiser == "unet" else 2 * factor
        return wish.height // unit, wish.width // unit

    def _refuse(self, rows: Sequence[ImageRow]) -> None:
        """What would fail silently or late."""
        if not rows:
            raise InvalidRequest("There is no picture to make. Write a prompt.")
        if self.family.embeds:
            return
        prefixes = tuple(f"{name}." for name in self.family.text_encoders)
        for row in rows:
            for branch in row.plan.branches:
                for adapter_id in branch.schedule(0, 2):
                    if self.bank.has(adapter_id) and self.bank.touches(adapter_id, prefixes):
                        raise IncompatibleAdapters(
                            f"Adapters of the text encoder are not run on {self.family.title}. "
                            "Use one that adapts the transformer only."
                        )

    @contextmanager
    def _scheduler(self, name: str) -> Iterator[None]:
        """Within, the pipeline samples as asked; without a wish it keeps its own sampler."""
        if not name:
            yield
            return
        if self.family.denoiser != "unet":
            raise InvalidRequest(
                f"{self.family.title} samples by flow matching; leave the sampler as it is."
            )
        import diffusers

        kinds = {
            "dpm++ 2m": diffusers.DPMSolverMultistepScheduler,
            "ddim": diffusers.DDIMScheduler,
            "euler": diffusers.EulerDiscreteScheduler,
        }
        own = self.pipe.scheduler
        self.pipe.scheduler = kinds[name].from_config(own.config)
        try:
            yield
        finally:
            self.pipe.scheduler = own

    @contextmanager
    def _memory(self, pictures: int) -> Iterator[None]:
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError) as error:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            raise LoraStudioError(
                f"The device ran out of memory with {pictures} pictures at once. Use fewer columns "
                "or prompts, smaller pictures, or set LORA_STUDIO_MAX_ROWS lower."
            ) from error


def _pixels(images: Any) -> np.ndarray:
    """(n, height, width, 3) uint8.

    Raises:
        LoraStudioError: numbers that are no picture, as adapters with wild values give.
    """
    values = np.asarray(images, dtype=np.float32)
    if isinstance(images, Tensor):
        values = images.float().cpu().numpy()
    if not np.isfinite(values).all():
        raise LoraStudioError(
            "The model's numbers stopped being finite. Lower the weights of the adapters or the "
            "guidance."
        )
    return (values.clip(0.0, 1.0) * 255).round().astype(np.uint8)


def _never() -> None:
    return None
