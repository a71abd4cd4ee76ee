"""A gate: how much of each adapter's update passes a module, decided by what flows through it.

out = base + sum_i w_out * g_i * l_i,
g_i = sigmoid(LN(base) * w_base + LN(l_i) * w_lora + LN(base) * LN(l_i) * w_cross + bias),

where l_i = w_i s_i B_i A_i x is adapter i's update, LN normalises over outputs, and all five
vectors have one value per output. They belong to the base model, not to an adapter, so they serve
adapters that were never seen in fitting (AutoLoRA, arXiv 2508.02107).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lora_studio.errors import InvalidRequest
from lora_studio.fitted import find

KIND = "gate"
"""What its file is called among what was fitted (`lora_studio.fitted`)."""
VECTORS = ("base", "lora", "cross", "bias", "out")


@dataclass(frozen=True, eq=False)
class Gate:
    """The vectors of every gated module.

    Args:
        modules: module path ("unet....to_q") -> name of `VECTORS` -> (d_out,) float32 array
            (tensors while it is fitted); modules that are missing let everything pass.
        facts: how it was fitted.
    """

    modules: Mapping[str, Mapping[str, Any]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def gate_for(base: str) -> Gate | None:
    """The gate fitted for a base model, or None."""
    path = find(KIND, base)
    return load_gate(path) if path else None


def save_gate(gate: Gate, path: Path) -> None:
    """Writes a safetensors file in float16 with the facts in its header."""
    tensors = {
        f"{module}.{name}": np.ascontiguousarray(vector, dtype=np.float16)
        for module, vectors in gate.modules.items()
        for name, vector in vectors.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, {"facts": json.dumps(dict(gate.facts), sort_keys=True)})


def load_gate(path: Path) -> Gate:
    """Reads what `save_gate` wrote.

    Raises:
        InvalidRequest: the file is no gate.
    """
    modules: dict[str, dict[str, np.ndarray]] = {}
    try:
        with safe_open(path, "np") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            for key in file.keys():  # noqa: SIM118  (no mapping)
                module, _, name = key.rpartition(".")
                modules.setdefault(module, {})[name] = file.get_tensor(key).astype(np.float32)
    except (OSError, SafetensorError, ValueError) as error:
        raise InvalidRequest(f"{path.name} cannot be read as a gate: {error}") from error
    if not modules or any(set(vectors) != set(VECTORS) for vectors in modules.values()):
        raise InvalidRequest(f"{path.name} is no gate: each module needs {', '.join(VECTORS)}.")
    return Gate(modules, facts)
