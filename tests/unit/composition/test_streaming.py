"""A merge goes module by module from mapped files into a file: the same, whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition import METHODS, Merged, Recipe, Source, compose, run_recipe
from lora_studio.composition.cosines import cosines
from lora_studio.errors import Cancelled, IncompatibleAdapters, InvalidAdapter
from lora_studio.formats import canonical
from lora_studio.lazy_factors import LazyFactors
from tests.conftest import build_adapter
from tests.fitting import fitting
from tests.unit.composition.playing import image_adapter

CHILD = str(Path(__file__).with_name("streaming_child.py"))
WEIGHTS = (1.0, 0.6, -0.5)
MERGING = [m.name for m in METHODS if m.kind == "merging"]


@pytest.fixture
def stored(tmp_path):
    """Looks adapters up by id, mapped from files; several modules, ranks and layers."""
    adapters = [build_adapter(s, rank=2 + s, layers=6, scaling=0.5 + s) for s in range(3)]
    return mapped(adapters, tmp_path)


def mapped(adapters, folder):
    paths = {}
    for one in adapters:
        paths[one.id] = folder / f"source {one.id}"
        canonical.write(one, paths[one.id])
    return {i: canonical.read(path) for i, path in paths.items()}


def streamed(name, stored, progress=lambda fraction, message: None, **params):
    sources = tuple(Source(i, weight=w) for i, w in zip(stored, WEIGHTS, strict=False))
    recipe = Recipe({"repo": "tiny"}, sources, name, params, seed=3)
    plan = run_recipe(recipe, stored.__getitem__, progress=progress, stream=True)
    assert isinstance(plan, Merged)
    return plan.adapter


@pytest.mark.parametrize("scale", [1.0, 0.7])
@pytest.mark.parametrize("name", [n for n in MERGING if n != "preset"])
def test_what_is_streamed_is_what_is_made_in_memory_bit_for_bit(name, scale, stored, tmp_path):
    known = {p.name for p in METHODS.get(name).params}
    params = {"scale": scale} if "scale" in known else {}
    stored = mapped(fitting(name, [a.collected() for a in stored.values()]), tmp_path)
    canonical.write(streamed(name, stored, **params), tmp_path / "out")
    weights = WEIGHTS[: len(stored)]
    whole = compose(name, list(stored.values()), weights, seed=3, **params).adapter
    assert canonical.read(tmp_path / "out").id == whole.id
    assert (tmp_path / "out").read_bytes() == canonical.dump(whole)


def test_one_thread_or_several_give_the_same(stored, monkeypatch, tmp_path):
    found = []
    for count in (1, 3):
        monkeypatch.setattr("lora_studio.composition.merging.modules.cores", lambda c=count: c)
        found.append(canonical.dump(streamed("lego", stored)))
    assert found[0] == found[1]


def test_no_more_modules_are_made_than_there_is_room_for():
    alive, most = 0, 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    seen = []
    for name, one in LazyFactors([str(i) for i in range(40)], lambda _: Counted(), 3).each():
        seen.append((name, id(one)))
        del one
    assert len(seen) == 40
    assert most <= 4


def test_a_stored_adapter_is_mapped_and_cannot_be_changed(stored):
    module = next(iter(next(iter(stored.values())).factors.values()))
    assert not module.A.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        module.A[0, 0] = 1.0


def test_the_safetensors_library_reads_what_was_streamed(tmp_path):
    adapter = image_adapter(1)
    canonical.write(adapter, tmp_path / "out")
    tensors = load_file(tmp_path / "out")
    for name, module in adapter.folded().factors.items():
        np.testing.assert_array_equal(tensors[f"{name}.A"], module.A)
        np.testing.assert_array_equal(tensors[f"{name}.B"], module.B)


def test_dora_and_long_names_fit_their_header(tmp_path):
    rng = np.random.default_rng(0)
    name = "text_encoder_2." + "x" * 200
    module = LoraFactors(
        rng.normal(size=(2, 9)).astype("f"), rng.normal(size=(5, 2)).astype("f"),
        component="text_encoder_2", kind="conv", kernel=(1, 3, 3), magnitude=np.ones(5, "f"),
    )  # fmt: skip
    adapter = Adapter({name: module}, AdapterCard(base_model='é"\\' * 90))
    canonical.write(adapter, tmp_path / "out")
    again = canonical.read(tmp_path / "out")
    assert again.id == adapter.id
    assert again.factors[name].kernel == (1, 3, 3)


def test_cancelling_in_the_middle_leaves_nothing(stored, tmp_path):
    before = set(tmp_path.iterdir())
    told = []

    def progress(fraction, message):
        told.append(fraction)
        assert len(list(tmp_path.glob("*.part"))) <= 1
        if len(told) > 5:
            raise Cancelled("The job was cancelled.")

    with pytest.raises(Cancelled):
        canonical.write(streamed("lego", stored, progress), tmp_path / "out")
    assert set(tmp_path.iterdir()) == before
    assert 0 < told[-1] < 1


def test_progress_goes_up_to_the_end(stored, tmp_path):
    told = []
    canonical.write(streamed("svd", stored, lambda f, m: told.append(f)), tmp_path / "out")
    assert told == sorted(told)
    assert (told[0], told[-1]) == (0.0, 1.0)


def test_sizes_that_differ_are_refused_before_anything_is_made(stored):
    big = next(iter(stored.values()))
    cut = {n: replace(m, A=m.A[:, :-1]) for n, m in big.factors.items()}
    stored = {**dict(list(stored.items())[:2]), "cut": Adapter(cut, big.card)}
    with pytest.raises(IncompatibleAdapters, match="q_proj"):
        streamed("lego", stored)


def test_what_overflows_is_refused_and_not_written(tmp_path):
    adapter = build_adapter(1).scaled(1e38).scaled(1e38)
    with pytest.raises(InvalidAdapter, match="Use smaller weights"), np.errstate(all="ignore"):
        canonical.write(adapter, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_cosines_in_one_pass_are_those_of_the_adapters(stored):
    merged = streamed("svd", stored).collected()
    sources = list(stored.values())
    expected = [merged.cosine(source) for source in sources]
    np.testing.assert_allclose(cosines(merged, sources), expected, atol=1e-5)


def child(*args: str) -> dict:
    done = subprocess.run([sys.executable, CHILD, *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="limits and memory are read the Linux way")
def test_a_disk_that_fills_in_the_middle_leaves_nothing(tmp_path):
    found = child("full", str(tmp_path))
    assert found["error"] == "StorageFull"
    assert found["written"] > 0, "the disk filled after something was written"
    assert found["left"] == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits and memory are read the Linux way")
def test_memory_is_that_of_the_modules_in_hand_not_of_all_adapters(tmp_path):
    found = child("memory", str(tmp_path))
    assert found["inputs"] > 500 << 20
    assert found["all_in_memory"] > 50 << 20, "the control: factors copied into memory are seen"
    assert found["grown"] < found["inputs"] / 4, "two of twenty modules at a time, and what of it"
