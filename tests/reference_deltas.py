"""What each payload's dense update is, written down from the definitions, one module at a time."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

Tensors = dict[str, np.ndarray]
DOWN = ("lora_A.weight", "lora_A.default.weight", "lora_down.weight", "down.weight")
UP = ("lora_B.weight", "lora_B.default.weight", "lora_up.weight", "up.weight")
MAGNITUDES = ("dora_scale", "lora_magnitude_vector", ".m")


def fill(fixture: dict[str, Any], seed: int = 0) -> Tensors:
    """Normal values for a fixture's shapes; alphas are positive and differ."""
    rng = np.random.default_rng(seed)
    found: Tensors = {}
    for key, shape in fixture["tensors"].items():
        if key.endswith(tuple(fixture.get("zero", ("!",)))):
            found[key] = np.zeros(shape, dtype=np.float32)
        elif key.endswith(".alpha"):
            found[key] = np.full(shape, rng.integers(1, 9), dtype=np.float32)
        elif key.endswith(MAGNITUDES):
            found[key] = rng.uniform(0.5, 2.0, shape).astype(np.float32)
        else:
            found[key] = rng.normal(0, 0.5, shape).astype(np.float32)
    return found


def write(fixture: dict[str, Any], tensors: Tensors, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "adapter_model.safetensors"
    save_file(tensors, path, metadata=fixture.get("metadata", {"format": "pt"}))
    if "config" in fixture:
        (folder / "adapter_config.json").write_text(json.dumps(fixture["config"]))
    return path


def reference(fixture: dict[str, Any], tensors: Tensors) -> dict[str, np.ndarray]:
    """Canonical module -> (d_out, everything else) update in float64."""
    found: dict[str, np.ndarray] = {}
    for stem, module in fixture["modules"].items():
        own = {
            key[len(stem) + 1 :]: tensor.astype(np.float64)
            for key, tensor in tensors.items()
            if key.startswith((f"{stem}.", f"{stem}:"))
        }
        delta, rank = update(own)
        first = module if isinstance(module, str) else next(iter(module))
        delta = delta.reshape(len(delta), -1) * scale(fixture, first, own, rank)
        found |= rows_of(module, delta)
    return found


def rows_of(module: Any, tensor: np.ndarray) -> Tensors:
    """All rows where `module` is a name; else those of its spans for each name."""
    if isinstance(module, str):
        return {module: tensor}
    return {
        name: np.concatenate([tensor[top:end] for top, end in spans])
        for name, spans in module.items()
    }


def update(own: Tensors) -> tuple[np.ndarray, int | None]:
    """The update before its scaling, and the rank its alpha is divided by."""
    if "hada_w1_a" in own:
        one, two = (product(own, f"hada_w{n}", f"hada_t{n}") for n in (1, 2))
        return one * two, own["hada_w1_b"].shape[0]
    if "lokr_w1" in own or "lokr_w1_a" in own:
        one = own.get("lokr_w1")
        one = product(own, "lokr_w1", "") if one is None else one
        two = own.get("lokr_w2")
        two = product(own, "lokr_w2", "lokr_t2") if two is None else two
        if two.ndim == 4:
            one = one[:, :, None, None]
        ranks = [own[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in own]
        return np.kron(one, two), ranks[0] if ranks else None
    if "diff" in own:
        return own["diff"], None
    if "b1.weight" in own:
        one, two = (own[f"b{n}.weight"].reshape(len(own[f"b{n}.weight"]), -1) for n in (1, 2))
        return (one @ two, 2) if one.shape[1] == 2 else (two @ one, 2)
    if "lora_a" in own:
        return (own["lora_a"] @ own["lora_b"]).T, None
    if "up" in own:
        return own["up"] @ own["down"], None
    if "lora_E" in own:
        return own["lora_B"] @ np.diag(own["lora_E"][:, 0]) @ own["lora_A"] / 2.00001, None
    if "delora_A" in own:
        a, b = own["delora_A"], own["delora_B"]
        terms = [
            np.outer(y / np.linalg.norm(y), x / np.linalg.norm(x))
            for x, y in zip(a, b.T, strict=True)
        ]
        return sum(terms) * own["delora_lambda"] / 2 * own["delora_w_norm"], None
    down = next(own[name] for name in DOWN if name in own)
    up = next(own[name] for name in UP if name in own).reshape(-1, len(down))
    if "lora_mid.weight" in own:
        middle = own["lora_mid.weight"]
        return np.einsum("op,pqhw,qi->oihw", up, middle, down[:, :, 0, 0]), len(down)
    return np.einsum("or,r...->o...", up, down), len(down)


def product(own: Tensors, name: str, core: str) -> np.ndarray:
    a, b = own[f"{name}_a"], own[f"{name}_b"]
    return np.einsum("ijkl,ip,jr->prkl", own[core], a, b) if core in own else a @ b


def scale(fixture: dict[str, Any], module: str, own: Tensors, rank: int | None) -> float:
    if "alpha" in own:
        return float(own["alpha"].reshape(())) / rank if rank else 1.0
    component, _, path = module.partition(".")
    header = json.loads(fixture.get("metadata", {}).get("lora_adapter_metadata", "{}"))
    config = fixture.get("config") or {
        key.removeprefix(f"{component}."): value
        for key, value in header.items()
        if key.startswith(f"{component}.")
    }
    if "lora_parameters" in config:
        return config["lora_parameters"]["scale"]
    alpha = config.get("lora_alpha", config.get("alpha"))
    patterns = config.get("alpha_pattern", {})
    alpha = patterns.get(path, patterns.get(f"^{path}", alpha))
    if alpha is None:
        return 1.0
    if rank is None:
        rank = config.get("rank_pattern", {}).get(path, config["r"])
        rank = 1 if config["peft_type"] == "ADALORA" else rank
    return alpha / (sqrt(rank) if config.get("use_rslora") else rank)


def magnitudes(fixture: dict[str, Any], tensors: Tensors) -> dict[str, np.ndarray]:
    found: Tensors = {}
    for stem, module in fixture["modules"].items():
        for tail in MAGNITUDES:
            key = f"{stem}.{tail.lstrip('.')}"
            if key in tensors:
                found |= rows_of(module, tensors[key].reshape(-1))
    return found
