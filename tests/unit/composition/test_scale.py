import numpy as np
import pytest

from lora_studio.composition import Agreement, compose
from tests.conftest import build_adapter


class DistanceProbe:
    """Agrees more the nearer a candidate's norm is to a wanted one: a model with a known answer."""

    def __init__(self, wanted: float, prompts: int = 20):
        self.wanted, self.prompts, self.asked = wanted, prompts, []

    def agreement(self, candidates):
        found = []
        for adapter, scale in candidates:
            self.asked.append((adapter.max_rank, scale))
            gap = abs(np.log(adapter.norm() * scale / self.wanted))
            found.append(Agreement(exact=float(gap < 0.2), logprob=-gap, prompts=self.prompts))
        return found


def test_auto_scale_finds_the_strength_the_model_wants():
    adapters = [build_adapter(1), build_adapter(2)]
    plain = compose("cat", adapters).adapter
    plan = compose("cat", adapters, probe=DistanceProbe(plain.norm() * 0.5), auto_scale=True)
    assert plan.adapter.norm() == pytest.approx(plain.norm() * 0.5, rel=1e-5)
    assert "Scale 0.5 was chosen on 20 sample prompts" in plan.notes[0]
    assert "not test prompts" in plan.notes[0]


@pytest.mark.parametrize("probe", [None, DistanceProbe(1.0, prompts=0)])
def test_without_a_model_or_samples_auto_scale_says_so(probe):
    adapters = [build_adapter(1), build_adapter(2)]
    plan = compose("cat", adapters, probe=probe, auto_scale=True, scale=0.7)
    assert plan.adapter.norm() == pytest.approx(0.7 * compose("cat", adapters).adapter.norm())
    assert "scale 0.7 was used" in plan.notes[0]


def test_the_preset_keeps_within_its_rank_and_prefers_the_smaller_among_equals():
    adapters = [build_adapter(1, rank=4), build_adapter(2, rank=4)]

    class Indifferent(DistanceProbe):
        def agreement(self, candidates):
            return [Agreement(1.0, -0.1, 20) for _ in candidates]

    probe = Indifferent(1.0)
    assert compose("preset", adapters, probe=probe, rank=6).adapter.max_rank == 6
    plan = compose("preset", adapters, probe=DistanceProbe(3.0))
    assert " was best: on 20 sample prompts of the sources (not test prompts), " in plan.notes[0]
    assert all(f"{name} " in plan.notes[0] for name in ("LoRA-LEGO", "SVD of the sum"))


def test_the_preset_without_a_model_falls_back_and_says_so():
    plan = compose("preset", [build_adapter(1), build_adapter(2)])
    assert "LEGO at scale 1 was used" in plan.notes[0]
