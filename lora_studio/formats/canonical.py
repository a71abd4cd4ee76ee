"""The form the studio stores: folded float32 factors, sorted names, one layout for every source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.errors import InvalidAdapter
from lora_studio.formats.header import iterate_tensors, read_header
from lora_studio.limits import OURS, limited

_FIELD = "lora_studio"


def dump(adapter: Adapter) -> bytes:
    """safetensors bytes of `adapter`: `<module>.A` (r, d_in), `<module>.B` (d_out, r), scaling 1.

    Equal adapters give equal bytes. The card is not part of it.
    """
    tensors: dict[str, np.ndarray] = {}
    facts: dict[str, dict[str, object]] = {}
    for name, module in adapter.factors.items():
        folded = module.folded()
        tensors[f"{name}.A"] = np.ascontiguousarray(folded.A, dtype=np.float32)
        tensors[f"{name}.B"] = np.ascontiguousarray(folded.B, dtype=np.float32)
        if folded.magnitude is not None:
            tensors[f"{name}.magnitude"] = np.ascontiguousarray(folded.magnitude, dtype=np.float32)
        facts[name] = {
            "component": module.component,
            "kind": module.kind,
            "kernel": list(module.kernel) if module.kernel else None,
        }
    header = {"version": 1, "base_model": adapter.card.base_model, "modules": facts}
    return save(tensors, metadata={_FIELD: json.dumps(header, sort_keys=True)})


def read(path: Path | str, card: AdapterCard | None = None) -> Adapter:
    """The adapter stored at `path` by `dump`; `card` replaces the bare one.

    Raises:
        InvalidAdapter: the file is damaged or was not written by `dump`.
    """
    path = Path(path)
    with limited(OURS):
        metadata = read_header(path).metadata
        tensors = dict(iterate_tensors(path))
    if _FIELD not in metadata:
        raise InvalidAdapter(f"{path.name} was not written by LoRA Studio.")
    header = json.loads(metadata[_FIELD])
    factors = {
        name: LoraFactors(
            A=tensors[f"{name}.A"],
            B=tensors[f"{name}.B"],
            component=facts["component"],
            kind=facts["kind"],
            kernel=tuple(facts["kernel"]) if facts["kernel"] else None,
            magnitude=tensors.get(f"{name}.magnitude"),
        )
        for name, facts in header["modules"].items()
    }
    return Adapter(factors, card or AdapterCard(base_model=header["base_model"]))
