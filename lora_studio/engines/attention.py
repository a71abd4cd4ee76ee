"""Inside the attention of a UNet: watches where words are attended to, mixes the branches of a
picture by region, and keeps regions from seeing one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lora_studio.composition.schedule import Attention
from lora_studio.errors import InvalidRequest

WATCHED = 256
"""Maps are taken from the layers whose number of places is nearest to 16 x 16, where
cross-attention says most about layout (Hertz et al. 2022)."""

Tokens = Mapping[str, Sequence[int]]
"""Concept -> places of its words in the prompt's embedding."""


@dataclass(frozen=True)
class Seat:
    """One row of the denoiser's batch."""

    picture: int
    branch: int
    half: str


class AttentionRules:
    """The processors of all attention layers while pictures are made.

    Args:
        denoiser: a UNet of diffusers.
        plans: one per picture; None leaves its attention alone.
        tokens: (picture, branch) -> concept -> places of its words.
        size: (height, width) of the latents.

    Raises:
        InvalidRequest: the denoiser is no UNet with ordinary attention.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        plans: Sequence[Attention | None],
        tokens: Mapping[tuple[int, int], Tokens],
        size: tuple[int, int],
    ) -> None:
        known = getattr(denoiser, "attn_processors", None)
        if not known or any(".attentions." not in name for name in known):
            raise InvalidRequest(
                "This model's attention cannot be looked into. Choose a method without attention, "
                "such as Composite or Regions."
            )
        self._denoiser: Any = denoiser
        self._plans, self._tokens = plans, tokens
        self._sizes = {h * w: (h, w) for h, w in _halvings(size)}
        self._level: int | None = None
        self._seats: Sequence[Seat] = ()
        self._groups: list[tuple[int, list[int], Tensor]] = []
        self._seen: dict[int, dict[tuple[int, int, str], list[Tensor]]] = {}
        self._numbers: dict[tuple[str, int, int], Tensor] = {}

    @property
    def mixes(self) -> bool:
        """Whether branches of a picture must be evaluated in one batch."""
        return any(plan is not None and plan.shares for plan in self._plans)

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Within, the UNet's attention follows the rules; whatever happens, it is put back."""
        before = dict(self._denoiser.attn_processors)
        self._denoiser.set_attn_processor(_Processor(self))
        try:
            yield
        finally:
            self._denoiser.set_attn_processor(before)

    def begin(self) -> None:
        """Forgets what was watched before."""
        self._seen = {}

    def seat(self, seats: Sequence[Seat], device: torch.device) -> None:
        """Says which rows the next pass of the denoiser has."""
        self._seats = seats
        groups: dict[tuple[int, str], list[int]] = {}
        for row, seat in enumerate(seats):
            groups.setdefault((seat.picture, seat.half), []).append(row)
        self._groups = [
            (picture, [seats[row].branch for row in rows], torch.tensor(rows, device=device))
            for (picture, _), rows in groups.items()
        ]

    def maps(self, picture: int) -> dict[tuple[int, str], Tensor]:
        """(branch, concept) -> (height, width) mean attention since `begin`, of one picture."""
        if self._level is None and self._seen:
            self._level = min(self._seen, key=lambda places: abs(log(places / WATCHED)))
        if self._level is None:
            return {}
        height, width = self._sizes[self._level]
        return {
            (branch, concept): torch.stack(found).mean(0).view(height, width)
            for (owner, branch, concept), found in self._seen.get(self._level, {}).items()
            if owner == picture
        }

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, cross: bool) -> Tensor:
        """(rows, heads, places, width) of queries, keys and values of the seated rows."""
        if cross and self._watches(q.shape[2]):
            shares = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)  # (rows, heads, places, tokens)
            self._watch(shares)
            return shares @ v
        if cross or not any(plan and plan.apart for plan in self._plans):
            return scaled_dot_product_attention(q, k, v)
        out = v.new_empty(*q.shape[:3], v.shape[-1])
        for picture, _, rows in self._groups:
            plan = self._plans[picture]
            sees = self._sees(picture, q.shape[2], q.device) if plan and plan.apart else None
            out[rows] = scaled_dot_product_attention(q[rows], k[rows], v[rows], attn_mask=sees)
        return out

    def mixed(self, out: Tensor) -> Tensor:
        """(rows, places, width) cross-attention outputs, mixed where a plan says so."""
        for picture, branches, rows in self._groups:
            plan = self._plans[picture]
            if plan is not None and plan.shares:
                shares = self._at(picture, "shares", out.shape[1], out)  # (branches, places)
                mixture = (shares[branches][..., None] * out[rows]).sum(0)
                out = out.index_copy(0, rows, mixture.expand(len(rows), -1, -1))
        return out

    def _watches(self, places: int) -> bool:
        if not any(plan and plan.words for plan in self._plans):
            return False
        return self._level in (None, places)

    def _watch(self, shares: Tensor) -> None:
        for row, seat in enumerate(self._seats):
            if seat.half != "cond":
                continue
            for concept, places in self._tokens.get((seat.picture, seat.branch), {}).items():
                seen = shares[row].mean(0)[:, list(places)].mean(-1)  # (places,)
                key = (seat.picture, seat.branch, concept)
                self._seen.setdefault(shares.shape[2], {}).setdefault(key, []).append(seen)

    def _sees(self, picture: int, places: int, device: torch.device) -> Tensor:
        """(places, places) whether a query's place sees a key's."""
        key = ("sees", picture, places)
        if key not in self._numbers:
            inside = self._at(picture, "apart", places, torch.empty(0, device=device)) > 0.5
            free, together = ~inside.any(0), (inside[:, :, None] & inside[:, None, :]).any(0)
            self._numbers[key] = free[:, None] | free[None, :] | together
        return self._numbers[key]

    def _at(self, picture: int, what: str, places: int, like: Tensor) -> Tensor:
        """(n, places) of a plan's `shares` or `apart` at a layer's size, in the type of `like`."""
        key = (what, picture, places)
        if key not in self._numbers:
            if places not in self._sizes:
                raise InvalidRequest(
                    "The size of the picture does not divide evenly into this model's layers. "
                    "Choose a width and height that are multiples of 64."
                )
            values: np.ndarray = getattr(self._plans[picture], what)(*self._sizes[places])
            self._numbers[key] = torch.from_numpy(values).flatten(1).to(like)
        return self._numbers[key]


class _Processor:
    """Ordinary multi-head attention that asks the rules on the way."""

    def __init__(self, rules: AttentionRules) -> None:
        self._rules = rules

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        cross = encoder_hidden_states is not None
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states

        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (rows, heads, places, width)

        q, k, v = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        out = self._rules.attend(heads(q), heads(k), heads(v), cross=cross)
        out = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return self._rules.mixed(out) if cross else out


def token_places(tokenizer: Any, prompt: str, phrases: Sequence[str]) -> list[int]:
    """Places of all tokens of the phrases in the prompt, the start token counted; without those
    that the tokenizer cuts off."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    whole, found = ids(prompt)[: tokenizer.model_max_length - 2], set[int]()
    for phrase in phrases:
        wanted = ids(phrase)
        for start in range(len(whole) - len(wanted) + 1):
            if wanted and whole[start : start + len(wanted)] == wanted:
                found |= {1 + start + offset for offset in range(len(wanted))}
    return sorted(found)


def _halvings(size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The size, then halved with rounding up, as a UNet's downsampling does."""
    height, width = size
    yield height, width
    while height > 1 or width > 1:
        height, width = (height + 1) // 2, (width + 1) // 2
        yield height, width
