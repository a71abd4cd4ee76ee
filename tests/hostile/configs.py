"""Hostile adapter_config.json: fields that would hang, allocate, import or change the base model if
anyone obeyed them. They are refused, or the adapter is what it would be without them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.cases import Case, Rng, folder_of, plain, some

REGEX = "(" + "a+" * 3 + ")+$"
HONEST = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
_MANY = [f"m{i}" for i in range(10_000)]


def _nested(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


IGNORED: dict[str, Callable[[Rng], dict[str, Any]]] = {
    "target-regex": lambda r: {"target_modules": REGEX},
    "exclude-regex": lambda r: {"exclude_modules": REGEX},
    "many-targets": lambda r: {"target_modules": _MANY},
    "rank-huge": lambda r: {"r": int(some(r, [4096, 2**24, 2**62]))},
    "init": lambda r: {"init_lora_weights": some(r, ["eva", "gaussian", "orthogonal", False])},
    "import": lambda r: {"megatron_core": "os", "auto_mapping": {"parent_library": "os"}},
    "code": lambda r: {"_target_": "os.system", "__reduce__": ["os.system", "touch canary"]},
    "cache-file": lambda r: {"corda_config": {"cache_file": "/etc/passwd"}},
    "loftq": lambda r: {"loftq_config": {"loftq_bits": 4, "loftq_iter": 10**9}},
    "version": lambda r: {"peft_version": "0.99.0.dev0@UNKNOWN" + "x" * 1000},
    "save-modules": lambda r: {"modules_to_save": [REGEX, "lm_head"]},
}
"""Fields nobody obeys."""

REFUSED: dict[str, tuple[Callable[[Rng], dict[str, Any] | str], tuple[str, ...]]] = {
    "alpha": (
        lambda r: {"lora_alpha": some(r, [1e300, -1, 0, "8", [8], {"x": 1}, True, 1e6])},
        ("config-values",),
    ),
    "alpha-constant": (
        lambda r: '{"peft_type": "LORA", "lora_alpha": '
        + some(r, ["NaN", "Infinity", "-Infinity"]) + "}",
        ("config-values",),
    ),
    "alpha-regex": (
        lambda r: {"alpha_pattern": {some(r, [REGEX, ".*", "a|b", "[ab]", "x{9}"]): 4}},
        ("config-values",),
    ),
    "alpha-pattern": (
        lambda r: {"alpha_pattern": some(r, [[1], "x", {"q_proj": "4"}, {"q_proj": 1e300}])},
        ("config-values",),
    ),
    "type": (
        lambda r: {"peft_type": some(r, ["IA3", "PREFIX_TUNING", "OFT", "os.system", "", 5])},
        ("adapter-type",),
    ),
    "replication": (
        lambda r: {"layer_replication": [[0, 4]] * int(r.integers(2, 250))}, ("adapter-type",),
    ),
    "altered-base": (
        lambda r: {
            "init_lora_weights": some(r, ["pissa", "olora", "pissa_niter_10000000", "corda"])
        },
        ("adapter-type",),
    ),
    "not-json": (
        lambda r: some(r, ["", "{", "null", "[]", '"x"', "{'a': 1}", "\0", "<html>", "3", "{}{}"]),
        ("config",),
    ),
    "twice": (
        lambda r: '{"lora_alpha": 8, "peft_type": "LORA", "lora_alpha": 8000}', ("config",),
    ),
    "deep": (lambda r: _nested(int(r.integers(20, 200))), ("config",)),
    "deep-for-a-parser": (lambda r: _nested(int(some(r, [5000, 40_000]))), ("config",)),
    "large": (
        lambda r: json.dumps({**HONEST, "revision": "x" * ((300 + int(r.integers(900))) << 10)}),
        ("config",),
    ),
    "digits": (lambda r: '{"lora_alpha": ' + "9" * 100_000 + "}", ("config", "config-values")),
}  # fmt: skip


def cases(seed: int, count: int) -> Iterator[Case]:
    names = [*IGNORED, *REFUSED]
    for i in range(count):
        name = names[i % len(names)]

        def write(folder: Path, name: str = name, i: int = i) -> Path:
            rng = np.random.default_rng([seed, i])
            made = IGNORED[name](rng) if name in IGNORED else REFUSED[name][0](rng)
            text = made if isinstance(made, str) else json.dumps({**HONEST, **made})
            return folder_of(folder, plain(rng), text)

        refusals = () if name in IGNORED else REFUSED[name][1]
        yield Case(f"config/{name}-{i}", write, frozenset(refusals))
