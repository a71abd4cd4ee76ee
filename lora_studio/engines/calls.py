"""What a denoiser was given and what it predicted, kept to be asked again under other plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
