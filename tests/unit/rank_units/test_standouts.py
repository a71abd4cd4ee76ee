"""What stands out of an adapter is labelled, and honest adapters carry no label."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.formats import load
from lora_studio.rank_units.measures import measure, sentences
from lora_studio.settings import assets_dir

DEMO = sorted(
    path.parent for path in (assets_dir() / "demo" / "text" / "adapters").glob("*/*.json")
)


def adapter(count: int = 20, rank: int = 24, **odd: float) -> Adapter:
    """Random modules; of `odd` ones the factors are scaled, or are but one direction (0)."""
    rng = np.random.default_rng(0)
    factors = {}
    for number in range(count):
        a = rng.normal(size=(rank, 40)).astype(np.float32)
        b = rng.normal(size=(32, rank)).astype(np.float32)
        scale = odd.get(f"m{number}", 1.0)
        if not scale:
            a[1:] *= 1e-3
            scale = 1.0
        factors[f"m{number}"] = LoraFactors(a, b * np.float32(scale))
    return Adapter(factors)


def test_nothing_stands_out_of_what_is_alike():
    assert measure(adapter())["labels"] == []
    assert measure(adapter(m3=10.0))["labels"] == []
    assert measure(adapter(count=4, m3=1000.0))["labels"] == [], "four modules have no usual"


def test_an_update_far_stronger_than_the_others_is_named():
    (label,) = measure(adapter(m3=100.0))["labels"]
    assert label.startswith(
        "1 module's update is far stronger than the others: m3 (96.9 times the median"
    )
    assert label in sentences(measure(adapter(m3=100.0)))


def test_an_update_of_one_direction_among_broad_ones_is_named():
    strong, narrow = measure(adapter(**dict.fromkeys(("m1", "m2", "m4", "m5"), 90.0), m7=0.0))[
        "labels"
    ]
    assert "4 modules' updates are far stronger" in strong
    assert "and 1 more" in strong
    assert narrow.startswith("1 module's update is far narrower than the others: m7 (1 directions")


@pytest.mark.parametrize("folder", DEMO[::4], ids=lambda path: path.name)
def test_adapters_that_were_really_trained_carry_no_label(folder):
    assert measure(load(str(folder), 1 << 30).adapter)["labels"] == []


def test_modules_that_do_nothing_are_no_measure_of_what_is_usual():
    source = adapter()
    still = {f"z{n}": LoraFactors(m.A, m.B * 0) for n, m in enumerate(source.factors.values())}
    assert measure(Adapter({**source.factors, **still}))["labels"] == []
