"""From the tensors of one module to its LoRA factors, for plain LoRA, convolutions, Tucker cores
and DoRA; LoHa and LoKr are handed to their own modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lora_studio.adapter import Kind, LoraFactors
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import glora, loha, lokr, mlx, tuners, whole
from lora_studio.formats.low_rank import Pair, Short
from lora_studio.formats.setting import Setting
from lora_studio.limits import limits

Tensors = Mapping[str, np.ndarray]

_CONV_LEAVES = ("conv1", "conv2", "conv", "conv_in", "conv_out")
"""Modules of a UNet that are 3x3 convolutions; all its other convolutions are 1x1."""


@dataclass(frozen=True)
class Part:
    """What a file holds for one module, before its scaling is known.

    Args:
        rank: the file's rank, by which its alpha is divided; None if no factor has it.
        payload: how the file stores the update.
        converted: whether the factors are not those of the file.
        scaling: where it does not follow from an alpha.
        loss: distance of the factors' product from the file's update, relative, Frobenius.
    """

    A: np.ndarray
    B: np.ndarray
    rank: int | None
    kind: Kind = "linear"
    kernel: tuple[int, ...] | None = None
    payload: str = "LoRA"
    converted: bool = False
    scaling: float | None = None
    loss: float = 0.0


def read_part(path: str, found: Tensors, setting: Setting | None = None) -> Part:
    """The factors of the module at `path`.

    Raises:
        InvalidAdapter: a factor without its partner, kinds mixed, or shapes that do not agree.
    """
    if start := tuners.kind(found):
        title, convert = tuners.CONVERTERS[start]
        return _shortened(path, convert(path, found, setting or Setting()), None, title)
    if any(role in found for role in glora.ROLES):
        pair, rank = glora.convert(path, found)
        part = _shortened(path, Short(pair), None, "GLoRA")
        return replace(part, rank=rank, scaling=None)
    if any(role in found for role in whole.ROLES):
        return _shortened(path, *whole.convert(path, found), "full update")
    if "mlx_a" in found or "mlx_b" in found:
        return _mlx(path, found, setting or Setting())
    if any(role.startswith("hada_") for role in found):
        a, b, rank, kernel = loha.convert(path, found)
        return _converted(path, a, b, rank, kernel, "LoHa")
    if any(role.startswith("lokr_") for role in found):
        a, b, rank, kernel = lokr.convert(path, found)
        return _converted(path, a, b, rank, kernel, "LoKr")
    if "embedding_A" in found or "embedding_B" in found:
        return _pair(path, found, "embedding_A", "embedding_B", "embedding")
    return _tucker(path, found) if "mid" in found else _pair(path, found, "A", "B", None)


def to_factors(path: str, part: Part, found: Tensors, scaling: float) -> LoraFactors:
    """The module's factors with its scaling and DoRA magnitude."""
    return LoraFactors(
        A=part.A,
        B=part.B,
        scaling=scaling,
        component="model",
        kind=part.kind,
        kernel=part.kernel,
        magnitude=_magnitude(path, part, found),
    )


def alpha_of(path: str, found: Tensors) -> float | None:
    """The alpha tensor of a module, or None if the file has none for it."""
    tensor = found.get("alpha")
    if tensor is None:
        return None
    if tensor.size != 1:
        raise InvalidAdapter(
            f"The alpha of '{path}' has shape {tensor.shape}; expected a number.", "alpha"
        )
    alpha = float(tensor.reshape(()))
    if not 0 <= alpha <= limits().alpha:
        raise InvalidAdapter(
            f"The alpha of '{path}' is {alpha:g}; expected 0 to {limits().alpha:g}.", "alpha"
        )
    return alpha


def _pair(path: str, found: Tensors, first: str, second: str, kind: Kind | None) -> Part:
    a, b = _both(path, found, first, second)
    kernel: tuple[int, ...] | None = None
    if a.ndim == 4 and tuple(b.shape[2:]) in ((), (1, 1)):
        kind, kernel = "conv", tuple(a.shape[1:])
        a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise InvalidAdapter(
            f"The factors of '{path}' have shapes {found[first].shape} and {found[second].shape}; "
            "expected (r, d_in) and (d_out, r)."
        )
    _check_rank(path, a.shape[0])
    return Part(a, b, a.shape[0], kind or "linear", kernel)


def _mlx(path: str, found: Tensors, setting: Setting) -> Part:
    """The factors turned round; an embedding's are looked up, so that its kind is another."""
    turned = {
        role: t.T if role.startswith("mlx_") and t.ndim == 2 else t for role, t in found.items()
    }
    kind: Kind = "embedding" if path.rpartition(".")[2] in mlx.EMBEDDINGS else "linear"
    part = _pair(path, turned, "mlx_a", "mlx_b", kind)
    scaling = setting.number("scale", mlx.SCALE)
    a, b = (np.ascontiguousarray(factor) for factor in (part.A, part.B))
    return Part(a, b, part.rank, kind, scaling=scaling)


def _tucker(path: str, found: Tensors) -> Part:
    """LoCon with a core: up (d_out, r), mid (r, r, kh, kw), down (r, c_in); A takes the core."""
    down, up = _both(path, found, "A", "B")
    mid, rank = found["mid"], down.shape[0]
    if down.ndim == 4 and down.shape[2:] == (1, 1):
        down = down[:, :, 0, 0]
    if up.ndim == 4 and up.shape[2:] == (1, 1):
        up = up[:, :, 0, 0]
    if down.ndim != 2 or up.ndim != 2 or mid.ndim != 4 or mid.shape[:2] != (up.shape[1], rank):
        raise InvalidAdapter(
            f"The factors of '{path}' have shapes {found['A'].shape}, {mid.shape} and "
            f"{found['B'].shape}; expected (r, c_in), (r, r, kh, kw) and (d_out, r)."
        )
    _check_rank(path, rank)
    a = np.einsum("pqhw,qi->pihw", mid.astype(np.float64), down)  # (r, c_in, kh, kw)
    flat = a.reshape(a.shape[0], -1).astype(np.float32)  # (r, c_in * kh * kw)
    return Part(flat, up, rank, "conv", a.shape[1:], "LoRA", converted=True)


def _both(path: str, found: Tensors, first: str, second: str) -> tuple[np.ndarray, np.ndarray]:
    unknown = found.keys() - {first, second, "mid", "alpha", "magnitude", "dora_scale"}
    if unknown or first not in found or second not in found:
        have = ", ".join(sorted(found))
        raise InvalidAdapter(f"A factor is missing for '{path}': there is only {have}.")
    return found[first], found[second]


def _check_rank(path: str, rank: int) -> None:
    if rank > limits().rank:
        raise InvalidAdapter(
            f"'{path}' has rank {rank}; at most {limits().rank} is read. Resize it first.", "caps"
        )


def _shortened(path: str, short: Short, kernel: tuple[int, ...] | None, payload: str) -> Part:
    """The factors of an update that is scaled already."""
    pair: Pair = short.pair
    kind: Kind = "linear" if kernel is None else "conv"
    with np.errstate(over="ignore"):
        a, b = (np.ascontiguousarray(f, dtype=np.float32) for f in (pair.A, pair.B))
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InvalidAdapter(f"The update of '{path}' is too large to be stored in float32.")
    return Part(a, b, pair.rank, kind, kernel, payload, True, scaling=1.0, loss=short.loss)


def _converted(
    path: str,
    a: np.ndarray,
    b: np.ndarray,
    rank: int | None,
    kernel: tuple[int, int] | None,
    payload: str,
) -> Part:
    """`kernel` is (kh, kw) where the tensors say it; else the module's name does."""
    d_in = a.shape[1]
    if kernel is None and path.rpartition(".")[2] in _CONV_LEAVES and d_in % 9 == 0:
        kernel = (3, 3)
    shape = None if kernel is None else (d_in // (kernel[0] * kernel[1]), *kernel)
    kind: Kind = "linear" if shape is None else "conv"
    return Part(a, b, rank, kind, shape, payload, converted=True)


def _magnitude(path: str, part: Part, found: Tensors) -> np.ndarray | None:
    """(d_out,) from PEFT's magnitude vector or kohya's dora_scale."""
    d_out = part.B.shape[0]
    scale = found.get("dora_scale")
    if scale is not None and (scale.shape[0] != d_out or scale.size != d_out):
        raise InvalidAdapter(
            f"The dora_scale of '{path}' has shape {scale.shape}; expected ({d_out}, 1). Scales "
            "per input, which early LyCORIS wrote, say another thing and cannot be read: train "
            "with wd_on_output=True."
        )
    magnitude = found.get("magnitude", scale)
    if magnitude is not None and magnitude.size != d_out:
        raise InvalidAdapter(
            f"The magnitude of '{path}' has shape {magnitude.shape}; expected ({d_out},)."
        )
    return None if magnitude is None else magnitude.reshape(-1)
