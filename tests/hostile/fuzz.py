"""What reads untrusted bytes, as targets for fuzzing: only InvalidAdapter may escape.

They are guided by coverage in guided.py, and given random mutants by test_fuzz.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import archive
from lora_studio.formats.config import read_config
from lora_studio.formats.header import TensorInfo, read_header
from lora_studio.formats.reading import pick
from tests.hostile.archives import packed
from tests.hostile.cases import Rng, plain

Target = Callable[[bytes], None]
_PLACE = Path(tempfile.mkdtemp(prefix="fuzz-"))


def header(data: bytes) -> None:
    """The header parser."""
    file = _PLACE / "x.safetensors"
    file.write_bytes(data)
    read_header(file)


def config(data: bytes) -> None:
    """The reader of adapter_config.json."""
    read_config(data.decode("utf-8", "replace"))


def zipped(data: bytes) -> None:
    """The zip walker."""
    file = _PLACE / "x.zip"
    file.write_bytes(data)
    archive.unpack(file, _PLACE / "out", 1 << 20)


def names(data: bytes) -> None:
    """The dialects: any names are placed or not, and never anything else."""
    lines = [line for line in data.decode("utf-8", "replace").split("\n") if line][:200]
    tensors = {line: TensorInfo("F32", (4, 8), 0, 128) for line in lines}
    pick(tensors, {}).locate(tensors)


TARGETS: dict[str, Target] = {"header": header, "config": config, "archive": zipped, "names": names}


def seeds(target: str) -> list[bytes]:
    """Honest inputs to start from."""
    weights = save(plain(np.random.default_rng(0)))
    kohya = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    return {
        "header": [weights],
        "config": [b'{"peft_type": "LORA", "lora_alpha": 8, "alpha_pattern": {"^a.b$": 4}}'],
        "archive": [packed(("m/a.safetensors", weights), ("m/README.md", b"# x"))],
        "names": [
            "\n".join(plain(np.random.default_rng(0))).encode(),
            f"{kohya}.lora_down.weight\n{kohya}.lora_up.weight\n{kohya}.alpha".encode(),
            b"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight\nunet:0:up\nlora_te3_x",
        ],
    }[target]


def once(target: str, data: bytes) -> None:
    """One run; InvalidAdapter is the right way to say no."""
    try:
        TARGETS[target](data)
    except InvalidAdapter:
        return


def mutated(rng: Rng, data: bytes) -> bytes:
    """A seed with some bytes changed, doubled, moved or cut."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 12))):
        at, size = (int(n) for n in rng.integers(0, max(1, len(found)), 2))
        kind = int(rng.integers(5))
        if kind == 0 and found:
            found[at % len(found)] = int(rng.integers(256))
        elif kind == 1:
            found[at:at] = rng.bytes(int(rng.integers(1, 9)))
        elif kind == 2:
            del found[at : at + int(rng.integers(1, 16))]
        elif kind == 3:
            found[at:at] = found[size : size + 32]
        else:
            found[at : at + 1] = bytes(rng.choice(list(b'0123456789"{}[],:._-/\\eN\x00\xff'), 1))
    return bytes(found)
