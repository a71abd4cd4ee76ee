"""Pickles, half of them with a payload that would leave a file named by CANARY behind, half of them
honest weights. Where pickles are not allowed all get the same refusal; nothing is ever run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.cases import Case, Rng, plain, some

CANARY = "canary"
"""What a payload that ran would create in the working directory."""


class Payload:
    """Unpickling it runs a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {CANARY}",)


def cases(seed: int, count: int, allowed: bool = False) -> Iterator[Case]:
    """`allowed`: for a studio that reads pickles; the honest ones are then accepted."""
    names = list(MAKERS)
    for i in range(count):
        name = names[i % len(names)]
        make, honest = MAKERS[name]

        def write(folder: Path, make: Callable[[Rng], bytes] = make, i: int = i) -> Path:
            rng = np.random.default_rng([seed, i])
            suffix = some(rng, [".bin", ".pt", ".ckpt", ".safetensors", ".Safetensors", ""])
            data = make(rng)
            if rng.random() < 0.25 and not data.startswith(b"PK"):
                path = folder / "x.zip"
                with zipfile.ZipFile(path, "w") as archive:
                    archive.writestr("m/adapter_model.bin", data)
                return path
            path = folder / f"adapter_model{suffix}"
            path.write_bytes(data)
            return path

        taken = allowed and honest
        refusals = (
            frozenset() if taken else frozenset({"pickle", "zip-ratio", "not-safetensors", "zip"})
        )
        yield Case(f"pickle/{name}-{i}", write, refusals)


def weights(rng: Rng) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(value) for name, value in plain(rng).items()}


def saved(value: Any, **options: Any) -> bytes:
    import torch

    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def repacked(data: bytes) -> bytes:
    """A deflated copy of what torch.save wrote."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return out.getvalue()


def expanded(rng: Rng) -> bytes:
    import torch

    return saved({"base_model.model.x.lora_A.weight": torch.zeros(1).expand(200_000, 200_000)})


def sparse(rng: Rng) -> bytes:
    import torch

    index = torch.zeros((2, 1), dtype=torch.long)
    return saved({"x": torch.sparse_coo_tensor(index, torch.ones(1), (10**9, 10**9))})


MAKERS: dict[str, tuple[Callable[[Rng], bytes], bool]] = {
    "honest-zip": (lambda r: saved(weights(r)), True),
    "payload-zip": (lambda r: saved({"x": Payload()}), False),
    "honest-again": (lambda r: saved(weights(r)), True),
    "payload-raw": (lambda r: pickle.dumps(Payload(), protocol=int(r.integers(2, 6))), False),
    "honest-state": (lambda r: saved({"state_dict": weights(r)}), True),
    "payload-among": (lambda r: saved({**weights(r), "x": Payload()}), False),
    "honest-plain": (lambda r: saved(dict(weights(r))), True),
    "payload-legacy": (
        lambda r: saved([Payload()], _use_new_zipfile_serialization=False), False,
    ),
    "bomb": (lambda r: repacked(saved(weights(r))), False),
    "expanded": (expanded, False),
    "sparse": (sparse, False),
    "deep": (lambda r: b"\x80\x02" + b"(" * 100_000 + b".", False),
    "cut": (lambda r: saved(weights(r))[: int(r.integers(30, 900))], False),
}  # fmt: skip
