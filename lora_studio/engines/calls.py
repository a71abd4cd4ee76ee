"""What a denoiser was given and what it predicted, kept to be asked again under other plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lora_studio.engines.denoising import UNBATCHED, batch_size, take


@dataclass(frozen=True, eq=False)
class Call:
    """One recorded evaluation of the denoiser: what the pipeline gave it, and the prediction."""

    step: int
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    prediction: Tensor


def outside(call: Call) -> Call:
    """The same with tensors that may take part in gradients."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        if isinstance(value, dict):
            return {name: copied(item) for name, item in value.items()}
        return [copied(item) for item in value] if isinstance(value, list | tuple) else value

    with torch.inference_mode(False):
        kwargs = copied(call.kwargs)
        return Call(call.step, copied(call.args), kwargs, copied(call.prediction))


def rows_of(call: Call, rows: Sequence[int], count: int) -> Call:
    """The same for some of its `count` pictures, in every half that it evaluates."""
    batch = batch_size([*call.args, *call.kwargs.values()])
    return _taken(call, [half * count + row for half in range(batch // count) for row in rows])


def prompted(call: Call, halves: Sequence[str], count: int) -> Call:
    """The same without the half that knows no prompt."""
    batch = batch_size([*call.args, *call.kwargs.values()])
    if batch == count:
        return call
    first = halves.index("cond") * count
    return _taken(call, range(first, first + count))


def _taken(call: Call, index: Sequence[int]) -> Call:
    batch = batch_size([*call.args, *call.kwargs.values()])
    kwargs = {
        name: value if name in UNBATCHED else take(value, index, batch)
        for name, value in call.kwargs.items()
    }
    args = [take(value, index, batch) for value in call.args]
    return Call(call.step, args, kwargs, take(call.prediction, index, batch))
