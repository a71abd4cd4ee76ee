"""What a tensor's name says it is: which module it belongs to and which factor of it."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "base_model.model."
"""What PEFT puts before every name."""

PEFT_ROLES = {
    "lora_A": "A",
    "lora_B": "B",
    "lora_embedding_A": "embedding_A",
    "lora_embedding_B": "embedding_B",
    "lora_magnitude_vector": "magnitude",
}
KOHYA_ROLES = {
    "lora_down": "A",
    "lora_up": "B",
    "lora_mid": "mid",
    "dora_scale": "dora_scale",
    "alpha": "alpha",
}
_LYCORIS = (
    "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
)  # fmt: skip
_WHOLE = ("diff", "diff_b", *(f"{side}{n}" for side in "ab" for n in "12"))
"""Whole updates, and GLoRA's factors: short words, which count only right after a path of kohya's,
which has no dots."""
_ROLES = {**PEFT_ROLES, **KOHYA_ROLES, **{name: name for name in _LYCORIS}}
_OLD = {"down": "A", "up": "B", "alpha": "alpha"}


class Slot(NamedTuple):
    """A module's path and the role of one of its tensors ("A", "hada_w1_a", "alpha")."""

    path: str
    role: str


def split(key: str) -> Slot | None:
    """The slot a tensor's name stands for, or None if it is none of an adapter's.

    "x.lora_A.weight", "x.lora_A.default.weight" and "x.lora_down.weight" are A of "x", and so is
    "x.lora.down.weight"; "x.processor.to_q_lora.down.weight" is A of "x.to_q".
    """
    pieces = key.removeprefix(PREFIX).split(".")
    for index, piece in enumerate(pieces):
        path, tail = pieces[:index], pieces[index + 1 :]
        if piece in _ROLES:
            return Slot(".".join(path), _ROLES[piece]) if path and _plain(tail) else None
        if piece in _WHOLE and tail in ([], ["weight"]) and index == 1:
            return Slot(".".join(path), piece)
        if is_old(piece):
            role = _OLD.get(tail[0]) if tail else None
            if piece not in ("lora", "lora_linear_layer"):
                path.append(piece.removesuffix("_lora"))
            path = [part for part in path if part != "processor"]
            return Slot(".".join(path), role) if role and path and _plain(tail[1:]) else None
    return None


def is_old(piece: str) -> bool:
    """Whether a part of a name is how diffusers spelled adapters before it took PEFT's names."""
    return piece in ("lora", "lora_linear_layer") or piece.endswith("_lora")


def _plain(tail: list[str]) -> bool:
    """Whether only "weight" and the adapter's own name follow."""
    return len(tail) <= 2 and "bias" not in tail and (len(tail) < 2 or tail[1] == "weight")
