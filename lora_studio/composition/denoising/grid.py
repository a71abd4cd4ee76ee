"""Predictions as pictures: packed tokens laid out where they belong, and put back."""

from __future__ import annotations

from typing import Any

from lora_studio.composition.schedule import StepView
from lora_studio.errors import InvalidRequest


def as_grid(prediction: Any, view: StepView) -> Any:
    """(halves, channels, height, width) of a prediction, whose tokens run row by row if packed.

    Raises:
        InvalidRequest: a packed prediction whose height and width are not known.
    """
    if prediction.ndim == 4:
        return prediction
    if len(view.size) != 2 or view.size[0] * view.size[1] != prediction.shape[1]:
        raise InvalidRequest(
            f"This model predicts {prediction.shape[1]} tokens and does not say where in the "
            "picture each lies, so nothing can be placed. Choose a method that works on the whole "
            "picture, such as Composite."
        )
    return prediction.unflatten(1, view.size).permute(0, 3, 1, 2)


def from_grid(grid: Any, like: Any) -> Any:
    """The grid in the shape of the prediction `like`."""
    return grid if like.ndim == 4 else grid.permute(0, 2, 3, 1).flatten(1, 2)
