"""MiSS (once Bone), C3A and GraLoRA: the update is laid out in blocks."""

from __future__ import annotations

import numpy as np

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.low_rank import Pair, Short, shorten
from lora_studio.formats.setting import Setting
from lora_studio.formats.tuners.checks import Tensors, agree, fit, need


def miss(path: str, found: Tensors, setting: Setting) -> Short:
    """One block (r, d_out), transposed and repeated along the inputs (2409.15371).

    So B is the block transposed and A repeats the identity. The variant "bat" multiplies the base
    weight and has no factors; "mini" repeats the block along the outputs too.
    """
    (block,) = need(path, found, next(iter(found)))
    if block.ndim == 3:
        raise InvalidAdapter(
            "This MiSS adapter was trained with 'bat', which multiplies the base model's own "
            "weight, so that it is no LoRA by itself. Merge it into its base model with PEFT and "
            "extract a LoRA from the difference.",
            "adapter-type",
        )
    agree(path, block.ndim == 2, block)
    d_out, d_in = setting.size(path)
    if d_out != block.shape[1]:
        agree(path, d_out % block.shape[1] == 0, block)
        fit(path, len(block) * d_out)
        block = np.tile(block, (1, d_out // block.shape[1]))
    rank = min(len(block), d_in)
    fit(path, rank * d_in)
    a = np.zeros((rank, d_in))
    a[np.arange(d_in) % len(block), np.arange(d_in)] = 1
    return Short(Pair(block[:rank].T, a))


def c3a(path: str, found: Tensors, setting: Setting) -> Short:
    """Blocks (b, b), each a circulant of its own kernel, over d_in (2407.19342).

    Kernels are (d_out / b, d_in / b, b); block (m, n) has kernel[m, n, (j - i) mod b] at (i, j).
    """
    (kernel,) = need(path, found, "c3a_kernel")
    agree(path, kernel.ndim == 3, kernel)
    m, n, size = kernel.shape
    fit(path, m * n * size * size)
    steps = (np.arange(size)[None, :] - np.arange(size)[:, None]) % size
    blocks = kernel[:, :, steps]  # (m, n, b, b)
    dense = blocks.transpose(0, 2, 1, 3).reshape(m * size, n * size)
    return shorten(path, dense / (n * size))


def gralora(path: str, found: Tensors, setting: Setting) -> Short:
    """k by k blocks, each of rank r / k, and a LoRA over all of it where hybrid_r says so
    (2505.20355). Times alpha / (r + hybrid_r).

    Block of inputs n and outputs m: sum over s of A[n, i, m r/k + s] B[m, n r/k + s, o].
    """
    hybrid = int(setting.number("hybrid_r", 0))
    general = ("gralora_A_general", "gralora_B_general") if hybrid else ()
    a, b, *whole = need(path, found, "gralora_A", "gralora_B", *general)
    k, width, rank = a.shape if a.ndim == 3 else (0, 0, 0)
    fits = b.ndim == 3 and b.shape[:2] == (k, rank) and k > 0 and rank % k == 0
    agree(path, fits, a, b)
    part, height = rank // k, b.shape[2]
    fit(path, k * rank * k * max(width, height))
    down = np.zeros((k, k, part, k * width))  # (outputs m, inputs n, s, d_in)
    up = np.zeros((k * height, k, k, part))  # (d_out, m, n, s)
    for m in range(k):
        for n in range(k):
            down[m, n, :, n * width : (n + 1) * width] = a[n, :, m * part : (m + 1) * part].T
            up[m * height : (m + 1) * height, m, n] = b[m, n * part : (n + 1) * part].T
    pair = Pair(up.reshape(k * height, -1), down.reshape(-1, k * width))
    if whole:
        sizes = [(hybrid, k * width), (k * height, hybrid)]
        agree(path, [tensor.shape for tensor in whole] == sizes, *whole)
        pair = Pair(
            np.concatenate([pair.B, whole[1]], axis=1), np.concatenate([pair.A, whole[0]], axis=0)
        )
    scale = setting.number("alpha") / (rank + hybrid)
    return shorten(path, Pair(scale * pair.B, pair.A))
