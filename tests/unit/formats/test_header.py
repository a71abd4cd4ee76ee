import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.formats.header import iterate_tensors, read_header


def write(path, header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)
    return path


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
)
def test_every_float_dtype_is_read_as_torch_reads_it(tmp_path, dtype):
    values = torch.linspace(-3, 3, 24).reshape(4, 6).to(dtype)
    save_file({"x": values}, tmp_path / "f.safetensors")
    ((name, array),) = iterate_tensors(tmp_path / "f.safetensors")
    assert (name, array.dtype) == ("x", np.float32)
    np.testing.assert_array_equal(array, values.float().numpy())


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ({"a": entry([2**21], 0, 4)}, b"0000"),
        ({"a": entry([1], 0, 8)}, b"00000000"),
        ({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"0000"),
        ({"a": entry([1], 4, 8)}, b"00000000"),
        ({"a": entry([1], 0, 4)}, b"0000trailing"),
        ({"a": entry([1, 1, 1, 1, 1, 1], 0, 4)}, b"0000"),
        ({"a": entry([True], 0, 4)}, b"0000"),
        ({"a": entry([1], 0, 4, "F4")}, b"0000"),
        ({"a\x00b": entry([1], 0, 4)}, b"0000"),
        (b'{"a": 1, "a": 2}', b""),
        (b'{"__metadata__": {"format": "\\ud800"}}', b""),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-0, 4]}}', b"0000"),
        (b"[]", b""),
        (b'{"a": ' + b"9" * 5000 + b"}", b""),
        (b"\xff\xfe", b""),
    ],
)
def test_headers_that_lie_are_refused(tmp_path, header, data):
    with pytest.raises(InvalidAdapter):
        read_header(write(tmp_path / "x", header, data))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "empty"),
        ((2**63).to_bytes(8, "little") + b"{}", "header length"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"PK\x03\x04rest of it", "pickle or a damaged zip"),
        (b"version https://git-lfs", "git lfs pull"),
    ],
)
def test_other_kinds_of_file_get_a_hint(tmp_path, content, hint):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InvalidAdapter, match=hint):
        read_header(tmp_path / "x")


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 400), value=st.integers(0, 255), cut=st.integers(0, 40))
def test_what_we_accept_safetensors_reads_the_same(tmp_path_factory, position, value, cut):
    """Damage any byte: either we refuse, or the reference reader sees what we see."""
    path = tmp_path_factory.mktemp("mutant") / "x.safetensors"
    save_file({"a": torch.ones(3, 4), "b": torch.zeros(2)}, path)
    raw = bytearray(path.read_bytes())
    raw[position % len(raw)] = value
    path.write_bytes(bytes(raw[: len(raw) - cut]))
    try:
        ours = read_header(path)
    except InvalidAdapter:
        return
    try:
        with safe_open(path, "np") as theirs:
            shapes = {name: tuple(theirs.get_slice(name).get_shape()) for name in theirs.keys()}  # noqa: SIM118
    except SafetensorError as error:  # pragma: no cover
        raise AssertionError("we accept what safetensors refuses") from error
    assert shapes == {name: info.shape for name, info in ours.tensors.items()}


@pytest.mark.parametrize("length", [640, 1084, 0x4B50])
def test_a_length_that_looks_like_another_kind_of_file_is_a_length(tmp_path, length):
    """640 is how a pickle begins, 1084 begins with "<", 0x4B50 is how a zip begins."""
    entry = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps({"__metadata__": {"pad": ""}, **entry})
    text = text.replace('"pad": ""', f'"pad": "{"x" * (length - len(text))}"')
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + text.encode() + bytes(4))
    assert list(read_header(path).tensors) == ["a"]
