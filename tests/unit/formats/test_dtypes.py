"""Files in other numbers: as the safetensors library reads them, and as exact as they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from lora_studio.errors import InvalidRequest
from lora_studio.formats import export, load_adapter
from lora_studio.formats.halves import loss
from lora_studio.formats.peft import WEIGHTS

EXACT = {"float32": 1e-6, "float16": 5e-4, "bfloat16": 6e-3}


@pytest.mark.parametrize("dtype", EXACT)
def test_a_folder_holds_the_numbers_that_were_asked_for(make_adapter, tmp_path, dtype):
    adapter = make_adapter(0)
    export(adapter, "peft", tmp_path / "out", dtype=dtype)
    with safe_open(tmp_path / "out" / WEIGHTS, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {getattr(torch, dtype)}  # noqa: SIM118
    again = load_adapter(tmp_path / "out")
    worst = max(loss(again.factors[name], module) for name, module in adapter.factors.items())
    assert worst < EXACT[dtype]


def test_bfloat16_is_rounded_as_torch_rounds_it(make_adapter, tmp_path):
    adapter = make_adapter(1).folded()
    export(adapter, "peft", tmp_path / "out", dtype="bfloat16")
    name, module = next(iter(adapter.factors.items()))
    with safe_open(tmp_path / "out" / WEIGHTS, "pt") as file:
        key = next(k for k in file.keys() if name in k and "lora_A" in k)  # noqa: SIM118
        found = file.get_tensor(key)
    wanted = torch.from_numpy(np.ascontiguousarray(module.A)).to(torch.bfloat16)
    assert torch.equal(found, wanted)


def test_an_unknown_type_is_refused_before_anything_is_written(make_adapter, tmp_path):
    with pytest.raises(InvalidRequest, match="float32, float16, bfloat16"):
        export(make_adapter(0), "peft", tmp_path / "out", dtype="int4")
    assert not (tmp_path / "out").exists()
