"""MLX's adapters, and the .npz they come in: read without pickles and without trust."""

import io
import json
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load, load_adapter, npz
from lora_studio.limits import Limits, limited

Q = "model.layers.0.self_attn.q_proj"


def factors(r=2, d_in=6, d_out=4, path=Q, dtype=np.float32):
    rng = np.random.default_rng(3)
    return {
        f"{path}.lora_a": rng.normal(size=(d_in, r)).astype(dtype),
        f"{path}.lora_b": rng.normal(size=(r, d_out)).astype(dtype),
    }


def folder(where, tensors, config=None, name="adapters.npz"):
    where.mkdir(exist_ok=True)
    if name.endswith(".npz"):
        np.savez(where / name, **tensors)
    else:
        save_file(tensors, where / name)
    if config is not None:
        (where / "adapter_config.json").write_text(json.dumps(config))
    return where


CONFIG = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 10.0, "dropout": 0.0}}


@pytest.mark.parametrize("name", ["adapters.npz", "adapters.safetensors"])
def test_both_factors_are_turned_and_the_scale_is_the_files(tmp_path, name):
    tensors = factors()
    loaded = load(folder(tmp_path, tensors, {**CONFIG, "model": "a/base"}, name))
    module = loaded.adapter.factors[Q]
    expected = 10.0 * (tensors[f"{Q}.lora_a"] @ tensors[f"{Q}.lora_b"]).T
    np.testing.assert_allclose(module.delta(), expected, rtol=1e-6)
    assert (module.rank, module.d_in, module.d_out) == (2, 6, 4)
    card = loaded.adapter.card
    assert (card.source_format, card.base_model) == ("mlx", "a/base")
    assert not any("scale" in line for line in loaded.report)


def test_an_npz_alone_is_read_and_the_scale_that_was_taken_is_said(tmp_path):
    loaded = load(folder(tmp_path, factors()) / "adapters.npz")
    assert loaded.adapter.factors[Q].scaling == 20.0
    assert any("20 is taken" in line for line in loaded.report)


def test_a_zip_of_the_folder_is_read(tmp_path):
    home = folder(tmp_path / "a", factors(), CONFIG)
    path = tmp_path / "upload.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in home.iterdir():
            archive.write(file, f"mine/{file.name}")
    assert load_adapter(path).factors[Q].scaling == 10.0


def test_embeddings_are_looked_up(tmp_path):
    path = "model.embed_tokens"
    module = load_adapter(folder(tmp_path, factors(d_in=30, path=path), CONFIG)).factors[path]
    assert (module.kind, module.A.shape, module.B.shape) == ("embedding", (2, 30), (4, 2))


def test_experts_in_one_array_and_other_fine_tunings_are_refused(tmp_path):
    tensors = {f"{Q}.lora_a": np.ones((3, 2, 6), np.float32)}
    tensors[f"{Q}.lora_b"] = np.ones((3, 4, 2), np.float32)
    with pytest.raises(InvalidAdapter, match="expected"):
        load_adapter(folder(tmp_path / "a", tensors, CONFIG))
    with pytest.raises(InvalidAdapter, match="type 'full'"):
        load_adapter(folder(tmp_path / "b", factors(), {"fine_tune_type": "full"}))
    half = {k: v for k, v in factors().items() if k.endswith("a")}
    with pytest.raises(InvalidAdapter, match="missing"):
        load_adapter(folder(tmp_path / "c", half, CONFIG))


def test_mlxs_configuration_beside_other_tensors_is_refused(tmp_path):
    tensors = {"q.lora_A.weight": np.ones((2, 6), np.float32)}
    tensors["q.lora_B.weight"] = np.ones((4, 2), np.float32)
    with pytest.raises(InvalidAdapter, match="none of MLX"):
        load_adapter(folder(tmp_path, tensors, CONFIG, "adapter_model.safetensors"))


def test_half_precisions_and_fortran_order_are_read_exactly(tmp_path):
    values = factors(dtype=np.float16)
    values[f"{Q}.lora_a"] = np.asfortranarray(values[f"{Q}.lora_a"])
    bits = (np.float32([[1.5, -2.0, 0.25, 3.0]] * 2).view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "adapters.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in ((f"{Q}.lora_a", values[f"{Q}.lora_a"]), (f"{Q}.lora_b", bits)):
            data = io.BytesIO()
            np.save(data, array)
            raw = data.getvalue()
            if array is bits:  # as MLX writes bfloat16: two bytes of no type
                raw = raw.replace(b"'<u2'", b"'<V2'")
            archive.writestr(f"{name}.npy", raw)
    read = dict(npz.iterate_tensors(path))
    np.testing.assert_array_equal(read[f"{Q}.lora_a"], values[f"{Q}.lora_a"].astype(np.float32))
    np.testing.assert_array_equal(read[f"{Q}.lora_b"], [[1.5, -2.0, 0.25, 3.0]] * 2)


def npy(header, data=b"", version=b"\x01\x00"):
    text = header.encode("latin-1")
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


HONEST = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
HOSTILE = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\x80\x04N."),
    "a type of fields": npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }"),
    "code": npy("__import__('os').system('false')"),
    "a call": npy("{'descr': '<f4', 'fortran_order': False, 'shape': tuple([1]), }"),
    "too many dimensions": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1)}"),
    "a huge dimension": npy(f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({1 << 40},), }}"),
    "a negative dimension": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
    "too little data": npy(HONEST, b"\0\0"),
    "too much data": npy(HONEST, b"\0" * 8),
    "a deep header": npy("(" * 3000),
    "an endless header": npy(" " * 60_000),
    "no array": b"PK\x03\x04nonsense",
    "nothing": b"",
    "not a number": npy(HONEST, np.float32([np.nan]).tobytes()),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_npz_is_refused_never_obeyed(tmp_path, kind):
    path = tmp_path / "adapters.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{Q}.lora_a.npy", HOSTILE[kind])
    with pytest.raises(InvalidAdapter):
        load(path)


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = tmp_path / "adapters.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{Q}.lora_a.npy", npy(HONEST, b"\0" * (64 << 20)))
    with pytest.raises(InvalidAdapter, match="does not match its shape"):
        npz.read_header(path)


def test_arrays_behind_another_file_are_not_looked_at(tmp_path):
    """A file must not be one thing here and another for the reader it is handed to."""
    arrays = (folder(tmp_path, factors()) / "adapters.npz").read_bytes()
    save_file(
        {"q.lora_A.weight": np.ones((2, 6), np.float32)}, tmp_path / "adapter_model.safetensors"
    )
    both = tmp_path / "both.safetensors"
    both.write_bytes((tmp_path / "adapter_model.safetensors").read_bytes() + arrays)
    assert not npz.is_npz(both)
    with pytest.raises(InvalidAdapter, match="longer or shorter"):
        load(both)


def test_many_arrays_that_inflate_to_too_much_are_refused_by_their_sum(tmp_path):
    with limited(Limits(values=20)), pytest.raises(InvalidAdapter, match="inflates"):
        load(folder(tmp_path, factors()) / "adapters.npz")


def test_a_damaged_or_doubled_npz_is_refused(tmp_path):
    whole = (folder(tmp_path, factors()) / "adapters.npz").read_bytes()
    torn = tmp_path / "torn.npz"
    torn.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidAdapter):
        load(torn)
    twice = tmp_path / "twice.npz"
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("a.lora_a.npy", npy(HONEST, b"\0" * 4))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.lora_a.npy", npy(HONEST, b"\0" * 4))
    with pytest.raises(InvalidAdapter, match="twice"):
        load(twice)
