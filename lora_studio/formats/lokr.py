"""LoKr: delta = w1 ⊗ w2, which is a LoRA of rank(w1) * rank(w2).

With w1 = P Q and w2 = U V, the Kronecker product is (P ⊗ U)(Q ⊗ V) exactly (LyCORIS, 2309.14859).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.low_rank import Pair, factorise

MAX_SIDE = 1 << 15


def convert(
    path: str, found: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, int | None, tuple[int, int] | None]:
    """(A (k, d_in), B (d_out, k), the file's rank or None, (kh, kw) if the tensors say it).

    The rank is None where both w1 and w2 are whole, so that no factor has it. A convolution's w2 is
    (k_out, n_in, kh, kw), or that flattened; its Tucker core t2 is (r, r, kh, kw).

    Raises:
        InvalidAdapter: a factor is missing, or shapes do not agree.
    """
    whole1, whole2 = found.get("lokr_w1"), found.get("lokr_w2")
    ranks = [found[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in found]
    one = factorise(_flat(path, whole1)) if whole1 is not None else _pair(path, found, "w1")
    two, kernel = _second(path, found, whole2)
    d_out, d_in = one.B.shape[0] * two.B.shape[0], one.A.shape[1] * two.A.shape[1]
    if max(d_out, d_in) > MAX_SIDE:
        raise InvalidAdapter(f"The LoKr factors of '{path}' make a {d_out}×{d_in} update; too big.")
    b = np.kron(one.B, two.B)  # (l * k, rank1 * rank2)
    a = np.kron(one.A, two.A)  # (rank1 * rank2, m * n)
    return a.astype(np.float32), b.astype(np.float32), ranks[0] if ranks else None, kernel


def _second(
    path: str, found: Mapping[str, np.ndarray], whole: np.ndarray | None
) -> tuple[Pair, tuple[int, int] | None]:
    if whole is not None:
        return factorise(_flat(path, whole)), whole.shape[2:] if whole.ndim == 4 else None
    core = found.get("lokr_t2")
    if core is None:
        return _short(_pair(path, found, "w2")), None
    a, b = (_need(path, found, f"lokr_w2_{side}") for side in "ab")  # (r, k_out), (r, n_in)
    if a.ndim != 2 or b.ndim != 2 or core.ndim != 4 or core.shape[:2] != (len(a), len(b)):
        raise InvalidAdapter(
            f"The LoKr core of '{path}' has shape {core.shape} between {a.shape} and {b.shape}; "
            "expected (r, r, kh, kw)."
        )
    inner = np.einsum("ijkl,jp->ipkl", core.astype(np.float64), b)  # (r, n_in, kh, kw)
    return _short(Pair(a.T.astype(np.float64), inner.reshape(len(a), -1))), core.shape[2:]


def _pair(path: str, found: Mapping[str, np.ndarray], name: str) -> Pair:
    b, a = (_need(path, found, f"lokr_{name}_{side}") for side in "ab")  # (out, r), (r, in)
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        raise InvalidAdapter(
            f"The LoKr factors {name} of '{path}' have shapes {b.shape} and {a.shape}; expected "
            "(out, r) and (r, in)."
        )
    return _short(Pair(b.astype(np.float64), a.astype(np.float64)))


def _short(pair: Pair) -> Pair:
    """The pair itself, or that of its product where the rank is larger than a side."""
    return pair if pair.rank <= min(len(pair.B), pair.A.shape[1]) else factorise(pair.B @ pair.A)


def _need(path: str, found: Mapping[str, np.ndarray], role: str) -> np.ndarray:
    if role not in found:
        raise InvalidAdapter(f"The LoKr factor {role} is missing for '{path}'.")
    return found[role]


def _flat(path: str, tensor: np.ndarray) -> np.ndarray:
    """(out, in * kh * kw)"""
    if tensor.ndim not in (2, 4):
        raise InvalidAdapter(f"A LoKr factor of '{path}' has shape {tensor.shape}.")
    return tensor.reshape(tensor.shape[0], -1)
