"""Makes pictures, each under its own plan, on a diffusers pipeline."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lora_studio.engines.adapter_bank import AdapterBank
from lora_studio.engines.attention import AttentionRules
from lora_studio.engines.calls import Call, outside
from lora_studio.engines.denoising import Conductor, Listener
from lora_studio.engines.guiding import guided
from lora_studio.engines.loading import choose_device
from lora_studio.engines.pictures import Denoising, ImageRow, Picture, StepUpdate, plain
from lora_studio.engines.pipelines import load_pipeline, named_modules
from lora_studio.engines.previews import preview, whole_pixels
from lora_studio.engines.prompt_embeds import PromptEmbeds
from lora_studio.engines.refusing import refuse, refuse_overflow
from lora_studio.engines.settling import grid, sampler, settled
from lora_studio.engines.watching import attention_rules
from lora_studio.errors import LoraStudioError

__all__ = ["Call", "Denoising", "ImageEngine", "ImageRow", "Picture", "StepUpdate", "plain"]

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
        self.pipe, self.family, self._own = load_pipeline(self.base, self.device)
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
        return settled(self.pipe, self.family, self._own, wish)

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
        refuse(self.family, self.bank, rows)
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

    def record(
        self,
        rows: Sequence[ImageRow],
        wish: Denoising,
        steps: Collection[int],
        check: Callable[[], None] | None = None,
    ) -> list[Call]:
        """Makes the pictures, in one batch, and keeps what the denoiser was given and what came of
        it at some of the steps."""
        wish, calls = self.settled(wish), list[Call]()
        refuse(self.family, self.bank, rows)

        def keep(step: int, args: Any, kwargs: Any, prediction: Tensor) -> None:
            if step in steps:
                calls.append(outside(Call(step, args, dict(kwargs), prediction)))

        with self._memory(len(rows)):
            self._batch(rows, wish, None, check or _never, 0, keep)
        return calls

    def replay(
        self,
        calls: Sequence[Call],
        rows: Sequence[ImageRow],
        wish: Denoising,
        *,
        gradients: bool = False,
    ) -> list[Tensor]:
        """What the denoiser would have answered to recorded calls under other plans.

        Args:
            rows: those of the recording, under the plans of interest.
            gradients: whether the answers can be differentiated by what the plans hold.
        """
        wish, found = self.settled(wish), list[Tensor]()
        calm = torch.enable_grad if gradients else torch.inference_mode
        with self._memory(len(rows)), calm():
            with torch.no_grad():
                embeds = self._embeds(rows, wish)
            rules = attention_rules(self.pipe, self.family, rows, wish)
            for call in calls:
                conductor = self._conductor(
                    rows,
                    wish,
                    embeds,
                    lambda *given: found.append(given[-1]),
                    call.step,
                    rules,
                )
                with conductor.conducting(self.denoiser):
                    self.denoiser(*call.args, **call.kwargs)
        return found

    def _batch(
        self,
        rows: Sequence[ImageRow],
        wish: Denoising,
        on_step: Callable[[StepUpdate], None] | None,
        check: Callable[[], None],
        every: int,
        listen: Listener | None = None,
    ) -> list[Picture]:
        start, plans = time.perf_counter(), [row.plan for row in rows]
        calm = torch.no_grad if any(plan.guide for plan in plans) else torch.inference_mode
        with calm(), sampler(self.pipe, self.family, wish.scheduler):
            embeds = self._embeds(rows, wish)
            rules = attention_rules(self.pipe, self.family, rows, wish)
            conductor = self._conductor(rows, wish, embeds, listen, attention=rules)

            def step_ended(pipe: Any, step: int, _: Any, given: dict[str, Any]) -> dict[str, Any]:
                conductor.step_ended()
                check()
                if step + 1 == wish.steps:
                    refuse_overflow(rows, given["latents"])
                if rules:
                    given["latents"] = guided(
                        pipe, conductor, rules, plans, given["latents"], step + 1, wish.steps
                    )
                if on_step:
                    due = every and step + 1 < wish.steps and (step + 1) % every == 0
                    seen = preview(pipe, self.family, given["latents"], wish) if due else ()
                    on_step(StepUpdate(tuple(r.id for r in rows), step + 1, wish.steps, seen))
                return {"latents": given["latents"]}

            check()
            with conductor.conducting(self.denoiser):
                out = self.pipe(
                    **self._arguments(rows, wish, embeds), callback_on_step_end=step_ended
                )
        seconds = time.perf_counter() - start
        pixels = whole_pixels(out.images)
        return [
            Picture(row.id, pixels[i], conductor.passes(i), seconds) for i, row in enumerate(rows)
        ]

    def _embeds(self, rows: Sequence[ImageRow], wish: Denoising) -> PromptEmbeds | None:
        if not self.family.embeds:
            return None
        prompts, plans = [row.prompt for row in rows], [row.plan for row in rows]
        return PromptEmbeds(
            self.pipe,
            self.family,
            self.bank,
            prompts,
            plans,
            wish.steps,
            wish.negative,
            self._guided(wish),
        )

    def _conductor(
        self,
        rows: Sequence[ImageRow],
        wish: Denoising,
        embeds: PromptEmbeds | None,
        listen: Listener | None = None,
        step: int = 0,
        attention: AttentionRules | None = None,
    ) -> Conductor:
        return Conductor(
            self.bank,
            self.family,
            [row.plan for row in rows],
            wish.steps,
            grid(self.pipe, self.family, wish),
            embeds,
            self.max_batch,
            listen,
            step,
            attention,
        )

    def _guided(self, wish: Denoising) -> bool:
        return bool(self.family.halves) and wish.guidance > 1.0

    def _arguments(
        self, rows: Sequence[ImageRow], wish: Denoising, embeds: PromptEmbeds | None
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
        if self._guided(wish) or self.family.guidance == "true_cfg_scale":
            given["negative_prompt"] = [wish.negative or " "] * len(rows)
        return given

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


def _never() -> None:
    return None
