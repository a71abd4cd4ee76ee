"""Files that are well formed and still not honest adapters: wrong names, missing partners, ranks
that do not agree, sizes beyond the caps; and honest ones with hostile texts and file names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.hostile.cases import Case, Rng, folder_of, plain, some

Tensors = dict[str, np.ndarray]
Change = Callable[[Rng, Tensors], Tensors]

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "'-alert(1)-'",
    '"><iframe src="data:text/html,x">',
    "{{7*7}} ${7*7} <%= 7*7 %>",
    "=cmd|' /C calc'!A0",
    "\u202egnp.exe",
    "\0hidden",
    "\x1b[2J",
    "A" * 100_000,
    "![x](https://tracker.example/x.png)",
    "[x](javascript:alert(1))",
    "]]><!--",
    "%0d%0aSet-Cookie: x=1",
    "../../etc/passwd",
    "🧨" * 5000,
    "\ud7ff\u2028\u2029",
    "<style>*{display:none}</style>",
]
FILE_NAMES = [
    "a b.safetensors",
    "ü.safetensors",
    "<img src=x>.safetensors",
    "-rf.safetensors",
    "$(touch canary).safetensors",
    "x.safetensors.exe",
    "a" * 200 + ".safetensors",
    ".safetensors",
    "%2e%2e%2f.safetensors",
    "con.safetensors",
    "🙂.safetensors",
    "x\u202e.safetensors",
    "no-suffix",
    "weights.json",
    "a;b|c&d.safetensors",
]


def _rename(rng: Rng, tensors: Tensors) -> Tensors:
    name = some(rng, list(tensors))
    new = some(rng, ["lora_C", "lora_a", "weights", "running_mean", "lora_A_extra"])
    return {k.replace(".lora_", f".{new}_") if k == name else k: v for k, v in tensors.items()}


def _stranger(rng: Rng, tensors: Tensors) -> Tensors:
    name = some(rng, ["lm_head.weight", "classifier.bias", "step", "model.embed_tokens.weight"])
    return {**tensors, name: np.ones((20, 24), np.float32)}


def _lonely(rng: Rng, tensors: Tensors) -> Tensors:
    gone = some(rng, list(tensors))
    return {k: v for k, v in tensors.items() if k != gone}


def _rank(rng: Rng, tensors: Tensors) -> Tensors:
    name = some(rng, [k for k in tensors if "lora_B" in k])
    return {**tensors, name: np.ones((20, 5 + int(rng.integers(4))), np.float32)}


def _flipped(rng: Rng, tensors: Tensors) -> Tensors:
    return {k: np.ascontiguousarray(v.T) for k, v in tensors.items()}


def _dims(rng: Rng, tensors: Tensors) -> Tensors:
    name = some(rng, list(tensors))
    return {**tensors, name: tensors[name][None]}


def _scalar(rng: Rng, tensors: Tensors) -> Tensors:
    name = some(rng, list(tensors))
    return {**tensors, name: np.array(1.0, np.float32)}


def _alpha(rng: Rng, tensors: Tensors) -> Tensors:
    value = some(rng, [1e6, -1.0, 3e38, -3e38])
    return _kohya(tensors) | {f"{_stem(0)}.alpha": np.array(value, np.float32)}


def _alpha_shape(rng: Rng, tensors: Tensors) -> Tensors:
    return _kohya(tensors) | {f"{_stem(0)}.alpha": np.ones(2 + int(rng.integers(4)), np.float32)}


def _stem(layer: int) -> str:
    return f"lora_te_text_model_encoder_layers_{layer}_self_attn_q_proj"


def _kohya(tensors: Tensors) -> Tensors:
    pairs = list(tensors.values())
    return {f"{_stem(0)}.lora_down.weight": pairs[0], f"{_stem(0)}.lora_up.weight": pairs[1]}


def _half_known(rng: Rng, tensors: Tensors) -> Tensors:
    name = some(
        rng, ["lora_unet_evil_block_0", "lora_te_x", "lora_unet_", "lora_unet_down_blocks_"]
    )
    extra = {f"{name}.lora_down.weight": tensors[next(iter(tensors))]}
    return _kohya(tensors) | extra | {f"{name}.lora_up.weight": list(tensors.values())[1]}


def _twice(rng: Rng, tensors: Tensors) -> Tensors:
    name = next(iter(tensors))
    return {**tensors, name.replace("lora_A.weight", "lora_A.default.weight"): tensors[name]}


def _whole(rng: Rng, tensors: Tensors) -> Tensors:
    names = (f"model.layers.{i}.mlp.weight" for i in range(1 + int(rng.integers(4))))
    return {name: np.ones((8, 8), np.float32) for name in names}


def _rank_cap(rng: Rng, tensors: Tensors) -> Tensors:
    rank, stem = 1025 + int(rng.integers(99)), "base_model.model.x.q_proj"
    a, b = np.ones((rank, 8), np.float32), np.ones((8, rank), np.float32)
    return {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}


def _update_norm(rng: Rng, tensors: Tensors) -> Tensors:
    return {k: v * np.float32(200 + rng.integers(20)) for k, v in tensors.items()}


def _kron(rng: Rng, tensors: Tensors) -> Tensors:
    """Two whole factors that stand for an enormous matrix of full rank."""
    one, two = (rng.normal(size=(n, n)).astype(np.float32) for n in (180, 110))
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    return {f"{stem}.lokr_w1": one, f"{stem}.lokr_w2": two}


_STRUCTURE = ("structure", "leftover-tensors", "unknown-names")
CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "rename": (_rename, _STRUCTURE),
    "stranger": (_stranger, ("leftover-tensors",)),
    "lonely": (_lonely, ("structure",)),
    "rank": (_rank, ("structure",)),
    "flipped": (_flipped, ("structure",)),
    "dims": (_dims, ("structure",)),
    "scalar": (_scalar, ("structure",)),
    "alpha": (_alpha, ("alpha", "values")),
    "alpha-shape": (_alpha_shape, ("alpha",)),
    "half-known": (_half_known, ("leftover-tensors", "structure")),
    "twice": (_twice, ("structure",)),
    "whole": (_whole, ("unknown-names", "leftover-tensors")),
    "rank-cap": (_rank_cap, ("caps",)),
    "update-norm": (_update_norm, ("values",)),
}


def structures(seed: int, count: int) -> Iterator[Case]:
    names = list(CHANGES)
    for i in range(count):
        name = names[i % len(names)]
        change, refusals = CHANGES[name]

        def write(folder: Path, change: Change = change, i: int = i) -> Path:
            rng = np.random.default_rng([seed, i])
            path = folder / "x.safetensors"
            save_file(change(rng, plain(rng)), path)
            return path

        yield Case(f"structure/{name}-{i}", write, frozenset(refusals))


def texts(seed: int, count: int) -> Iterator[Case]:
    """Honest weights whose header, card and configuration hold hostile text: they are accepted, and
    the text is carried as text."""
    for i in range(count):

        def write(folder: Path, i: int = i) -> Path:
            rng = np.random.default_rng([seed, i])
            text = PAYLOADS[i % len(PAYLOADS)]
            config = {"peft_type": "LORA", "lora_alpha": 4, "base_model_name_or_path": text[:9000]}
            home = folder_of(folder, {}, json.dumps(config))
            fields = ["modelspec.title", "ss_output_name", "modelspec.description", text[:80]]
            metadata = dict.fromkeys(fields, text) | {
                "ss_tag_frequency": json.dumps({text[:99]: {text[:99]: 5}})
            }
            save_file(plain(rng), home / "adapter_model.safetensors", metadata)
            front = f"---\ntitle: {json.dumps(text)}\ntags: [{json.dumps(text)}]\n---\n"
            card = f"{front}# {text}\n\n{text}\n"
            (home / "README.md").write_text(card, encoding="utf-8", errors="replace")
            line = json.dumps({"prompt": text, "target": text})
            (home / "test.jsonl").write_text(line, encoding="utf-8")
            return home

        yield Case(f"text/{i}", write)


def file_names(seed: int, count: int) -> Iterator[Case]:
    for i in range(count):

        def write(folder: Path, i: int = i) -> Path:
            path = folder / FILE_NAMES[i % len(FILE_NAMES)]
            save_file(plain(np.random.default_rng([seed, i])), path)
            return path

        yield Case(f"name/{i}", write)


def sizes(seed: int, count: int) -> Iterator[Case]:
    """Files beyond the upload limit, or that stand for more than they hold."""
    for i in range(count):
        kind = i % 3

        def write(folder: Path, i: int = i, kind: int = kind) -> Path:
            rng, path = np.random.default_rng([seed, i]), folder / "x.safetensors"
            if kind == 0:
                save_file(plain(rng, rank=64), path)
            elif kind == 1:
                path.write_bytes((100).to_bytes(8, "little"))
                with path.open("r+b") as file:
                    file.truncate(1 << 40)  # sparse: a terabyte of nothing
            else:
                save_file(_kron(rng, {}), path)
            return path

        refusals, most = [
            ({"too-large"}, 10_000),
            ({"too-large"}, 64 << 20),
            ({"caps", "resources"}, 64 << 20),
        ][kind]
        yield Case(f"size/{i}", write, frozenset(refusals), max_bytes=most)
