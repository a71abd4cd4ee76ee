"""Adapters that are the same or nearly are found whatever their rank, basis, base or scale."""

import json

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.gallery import Gallery
from lora_studio.gallery.entry import Entry
from lora_studio.settings import Settings

NAMES = [f"model.layers.{n}.mlp.up_proj" for n in range(4)]


def adapter(seed, title="", base="base", noise=0.0, scaling=1.0, rank=4, names=NAMES, d_in=24):
    rng = np.random.default_rng(seed)
    factors = {}
    for name in names:
        a, b = rng.normal(size=(rank, d_in)), rng.normal(size=(20, rank))
        mix = np.random.default_rng(99).normal(size=(rank, rank))
        a, b = np.linalg.inv(mix) @ a, b @ mix
        if noise:
            other = np.random.default_rng(seed + 500)
            a = np.concatenate([a, noise * other.normal(size=(2, d_in))])
            b = np.concatenate([b, other.normal(size=(20, 2))], axis=1)
        factors[name] = LoraFactors(a.astype(np.float32), b.astype(np.float32), scaling)
    return Adapter(factors, AdapterCard(title=title or f"Number {seed}", base_model=base))


@pytest.fixture
def gallery(tmp_path):
    opened = Gallery.open(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


def found(gallery, entry):
    return [(twin.kind, twin.title) for twin in gallery.twins(entry.id)]


def test_the_same_weights_under_another_base_are_exact_twins(gallery):
    first = gallery.add(adapter(1, "Here", base="a/b"))
    second = gallery.add(adapter(1, "There", base="c/d"))
    assert first.id != second.id
    assert found(gallery, first) == [("exact", "There")]
    assert found(gallery, second) == [("exact", "Here")]


def test_near_twins_are_found_among_many_and_nobody_else_is(gallery):
    for seed in range(20, 60):
        gallery.add(adapter(seed))
    source = gallery.add(adapter(1, "Source"))
    gallery.add(adapter(1, "Stronger", scaling=2.0))
    gallery.add(adapter(1, "Noisy", noise=0.02))
    gallery.add(adapter(1, "Opposite", scaling=-1.0))
    twins = {twin.title: twin for twin in gallery.twins(source.id)}
    assert twins.keys() == {"Stronger", "Noisy", "Opposite"}
    assert twins["Stronger"].strength == pytest.approx(2.0, rel=1e-4)
    assert twins["Stronger"].cosine == pytest.approx(1.0, abs=1e-6)
    assert 0.98 <= twins["Noisy"].cosine < 0.9999999
    assert twins["Opposite"].cosine == pytest.approx(-1.0, abs=1e-6)
    assert "2 times as strong" in twins["Stronger"].sentence()
    assert "the opposite of" in twins["Opposite"].sentence()


def test_a_likeness_that_is_only_likely_is_not_told(gallery):
    source = gallery.add(adapter(1))
    gallery.add(adapter(1, "Half", noise=0.35))
    assert found(gallery, source) == []


def test_what_is_deleted_or_not_public_is_nobodys_twin(gallery):
    source = gallery.add(adapter(1, "Source"))
    gone = gallery.add(adapter(1, "Gone", scaling=2.0))
    gallery.add(adapter(1, "Private", scaling=3.0), visibility="private")
    gallery.delete(gone.id)
    assert found(gallery, source) == []
    gallery.restore(gone.id)
    assert found(gallery, source) == [("near", "Gone")]


def test_modules_of_one_name_and_two_shapes_are_compared_as_strangers(gallery):
    wide = adapter(7, "Wide", d_in=30, names=["odd"])
    narrow = adapter(7, "Narrow", d_in=24, names=["odd"])
    common = adapter(1).scaled(100)
    first, second = (
        Adapter(dict(one.factors) | dict(common.factors), one.card) for one in (wide, narrow)
    )
    entry = gallery.add(first)
    gallery.add(second)
    assert found(gallery, entry) == [("near", "Narrow")]


def test_the_card_outlives_a_restart(tmp_path):
    opened = Gallery.open(Settings(data_dir=tmp_path))
    entry = opened.add(adapter(1, "Source"), measures={"units": 1, "sketch": "", "weights": "x"})
    other = opened.add(adapter(1, "Copy", scaling=2.0))
    opened.close()
    again = Gallery.open(Settings(data_dir=tmp_path))
    assert again.get(entry.id).measures == {"units": 1, "sketch": "", "weights": "x"}
    assert again.get(other.id).measures["units"] == 16
    assert again.twins(entry.id) == []
    again.close()


def test_a_row_that_is_older_than_report_cards_is_read_without_one():
    old = Entry(id="x", title="t").to_dict()
    del old["measures"]
    assert Entry.from_dict(json.loads(json.dumps(old))).measures == {}
