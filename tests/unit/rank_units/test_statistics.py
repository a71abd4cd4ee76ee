"""Statistics that are kept of adapters and of pairs."""

import numpy as np
import pytest

from lora_studio.errors import Cancelled
from lora_studio.rank_units.statistics import gather, load_pair, load_profile, places
from tests.conftest import build_adapter


def made():
    return [build_adapter(0, rank=4), build_adapter(1, rank=2, scaling=-0.5), build_adapter(2)]


def test_inner_products_are_those_of_the_factors():
    adapters = made()
    profiles, pairs = gather(adapters)
    for name, module in adapters[0].folded().factors.items():
        other = adapters[1].factors[name].folded()
        a, b = pairs[0, 1].block(name)
        assert a == pytest.approx(module.A @ other.A.T, rel=1e-4, abs=1e-4)
        assert b == pytest.approx(module.B.T @ other.B, rel=1e-4, abs=1e-4)
        own = profiles[0].block(name)[0]
        assert own == pytest.approx(module.A @ module.A.T, rel=1e-4, abs=1e-4)
        assert profiles[1].squares[name] == pytest.approx(other.norm() ** 2, rel=1e-4)
        inner = pairs[0, 1].angles[pairs[0, 1].places[name], 4]
        assert inner == pytest.approx(module.inner(other), rel=1e-3, abs=1e-3)


def test_kept_entries_are_entries_of_the_update():
    adapter = made()[1]
    (profile,), _ = gather([adapter])[0].values(), None
    for place, (name, shape) in enumerate(profile.shapes.items()):
        rows, columns = places(name, shape)
        expected = adapter.factors[name].delta()[rows, columns]
        assert profile.entries[place] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_was_kept_is_read_back_and_damage_is_seen():
    profiles, pairs = gather(made()[:2])
    again = [load_profile(profiles[i].dump()) for i in range(2)]
    assert again[0] is not None
    assert again[1] is not None
    assert again[0].shapes == profiles[0].shapes
    assert (again[0].a == profiles[0].a).all()
    assert (again[1].entries == profiles[1].entries).all()
    pair = load_pair(pairs[0, 1].dump(), again[0], again[1])
    assert pair is not None
    assert (pair.angles == pairs[0, 1].angles).all()
    assert load_profile(b"nothing of ours") is None
    assert load_profile(profiles[0].dump()[:-40]) is None
    assert load_pair(b"", again[0], again[1]) is None


def test_a_turned_pair_is_that_of_the_turned_adapters():
    one, two = made()[:2]
    _, pairs = gather([one, two])
    _, other = gather([two, one])
    turned = pairs[0, 1].turned()
    for name in turned.starts:
        for side in (0, 1):
            expected = other[0, 1].block(name)[side]
            assert turned.block(name)[side] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert turned.angles == pytest.approx(other[0, 1].angles, rel=1e-3, abs=1e-4)


def test_only_what_is_missing_is_taken_and_is_the_same():
    adapters = made()
    profiles, pairs = gather(adapters)
    known = {0: profiles[0], 1: profiles[1]}
    more, found = gather(adapters, known, [(0, 2), (1, 2)])
    assert set(found) == {(0, 2), (1, 2)}
    assert more[0] is profiles[0]
    for key, pair in found.items():
        assert pair.a == pytest.approx(pairs[key].a, rel=1e-4, abs=1e-4)
        assert pair.angles == pytest.approx(pairs[key].angles, rel=1e-3, abs=1e-3)


def test_modules_of_other_sizes_are_left_out_of_a_pair():
    one, two = made()[:2]
    name = next(iter(two.factors))
    odd = {**two.factors, name: build_adapter(3).factors[name]}
    odd[name] = type(odd[name])(np.ones((2, 5), "f"), np.ones((7, 2), "f"))
    _, pairs = gather([one, type(two)(odd, two.card)])
    assert name not in pairs[0, 1].starts
    assert len(pairs[0, 1].starts) == 3


def test_gathering_tells_how_far_it_is_and_can_be_stopped():
    told = []
    gather(made(), told=told.append)
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert told == sorted(told)

    def stop(fraction):
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        gather(made(), told=stop)
