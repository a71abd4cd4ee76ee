"""Which of mergekit's methods is which of ours, for adapters of one base model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Twin:
    """A method of ours that does what one of mergekit's does to adapters on their base.

    Args:
        ours: its name here. fixed: parameters it has then.
        params: mergekit's names of parameters that are ours under the same name.
        elects: whether it averages entries of the elected sign.
        normalizes, rescales: mergekit's defaults of `normalize` and `rescale`.
        note: how the two differ, "" if they do not.
    """

    ours: str
    fixed: tuple[tuple[str, Any], ...] = ()
    params: tuple[str, ...] = ()
    elects: bool = False
    normalizes: bool = False
    rescales: bool = False
    note: str = ""


_WHOLE = "mergekit works on whole weights, here it is done to the adapters' updates."
_DRAWN = "Entries are drawn at random: mergekit's draws are others."
_DELLA = f"{_DRAWN} mergekit restores the norm instead of dividing by the chance to stay."

TWINS: dict[str, Twin] = {
    "linear": Twin("task_arithmetic", normalizes=True),
    "task_arithmetic": Twin("task_arithmetic"),
    "ties": Twin("ties_delta", params=("density",), elects=True, normalizes=True),
    "dare_linear": Twin(
        "dare_delta", (("elect_signs", False),), ("density",), rescales=True, note=_DRAWN
    ),
    "dare_ties": Twin(
        "dare_delta", (("elect_signs", True),), ("density",), True, rescales=True, note=_DRAWN
    ),
    "della_linear": Twin(
        "della_delta",
        (("elect_signs", False),),
        ("density", "epsilon"),
        rescales=True,
        note=_DELLA,
    ),
    "della": Twin(
        "della_delta",
        (("elect_signs", True),),
        ("density", "epsilon"),
        True,
        True,
        True,
        _DELLA,
    ),
    "breadcrumbs": Twin("breadcrumbs_delta", (("elect_signs", False),), ("density", "gamma")),
    "breadcrumbs_ties": Twin(
        "breadcrumbs_delta", (("elect_signs", True),), ("density", "gamma"), True
    ),
    "nuslerp": Twin("slerp", note=_WHOLE),
    "karcher": Twin("karcher", note=_WHOLE),
}
"""mergekit's name -> ours. Its defaults: density 1, gamma 0.01, epsilon 0.15, weight as given."""

DEFAULTS = {"density": 1.0, "gamma": 0.01, "epsilon": 0.15}

WRITTEN: dict[str, str] = {"cat": "task_arithmetic", "svd": "task_arithmetic"}
"""Methods of ours that are only written: read back, they are the sum under another name."""
