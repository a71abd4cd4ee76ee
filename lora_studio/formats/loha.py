"""LoHa: delta = (w1_a w1_b) * (w2_a w2_b) entry by entry, which is a LoRA of rank r squared.

Row by row, the Khatri-Rao product of the factors gives B and A exactly (FedPara, 2108.06098).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.low_rank import Pair, factorise, shortest

MAX_RANK = 256
_FACTORS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_CORES = frozenset(("hada_t1", "hada_t2"))


def convert(
    path: str, found: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, int, tuple[int, int] | None]:
    """(A (k, d_in), B (d_out, k), the file's rank r, (kh, kw) if the tensors say it).

    k is the numerical rank, at most r * r.

    Raises:
        InvalidAdapter: a factor is missing, or shapes do not agree.
    """
    missing = [role for role in _FACTORS if role not in found]
    if len(_CORES & found.keys()) == 1:
        missing += sorted(_CORES - found.keys())
    if missing:
        raise InvalidAdapter(f"A LoHa factor is missing for '{path}': {', '.join(missing)}.")
    one, kernel = _side(path, found, "1")
    two, _ = _side(path, found, "2")
    if one.B.shape[0] != two.B.shape[0] or one.A.shape[1] != two.A.shape[1]:
        raise InvalidAdapter(f"The two LoHa products of '{path}' have different shapes.")
    pair = _product(one, two)
    return pair.A.astype(np.float32), pair.B.astype(np.float32), one.rank, kernel


def _side(
    path: str, found: Mapping[str, np.ndarray], n: str
) -> tuple[Pair, tuple[int, int] | None]:
    """One of the two products; with a Tucker core t (r, r, kh, kw), w_a is (r, d_out)."""
    a, b, core = (found.get(f"hada_{name}") for name in (f"w{n}_a", f"w{n}_b", f"t{n}"))
    assert a is not None
    assert b is not None
    rank = b.shape[0]
    fits = a.ndim == b.ndim == 2 and a.shape[0 if core is not None else 1] == rank
    if not fits or rank > MAX_RANK or (core is not None and core.shape[:2] != (rank, rank)):
        shapes = ", ".join(str(t.shape) for t in (a, b, core) if t is not None)
        raise InvalidAdapter(
            f"The LoHa factors of '{path}' have shapes {shapes}; expected (d_out, r) and (r, d_in) "
            f"with r up to {MAX_RANK}."
        )
    if core is None:
        return Pair(a.astype(np.float64), b.astype(np.float64)), None
    inner = np.einsum("ijkl,jp->ipkl", core.astype(np.float64), b)  # (r, c_in, kh, kw)
    return Pair(a.T.astype(np.float64), inner.reshape(rank, -1)), core.shape[2:]


def _product(one: Pair, two: Pair) -> Pair:
    d_out, d_in, rank = one.B.shape[0], one.A.shape[1], one.rank * two.rank
    if rank >= min(d_out, d_in):
        return factorise((one.B @ one.A) * (two.B @ two.A))
    b = (one.B[:, :, None] * two.B[:, None, :]).reshape(d_out, rank)  # (d_out, r * r)
    a = (one.A[:, None, :] * two.A[None, :, :]).reshape(rank, d_in)  # (r * r, d_in)
    return shortest(Pair(b, a))
