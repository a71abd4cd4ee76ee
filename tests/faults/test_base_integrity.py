"""Whatever is done with adapters, the base model stays the same bits."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
import torch

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition import compose
from lora_studio.composition.plan import Merged
from lora_studio.engines.rows import Row, RowPlan, Sampling
from lora_studio.engines.text import TextEngine
from lora_studio.errors import LoraStudioError
from lora_studio.settings import DEMO_BASE
from tests.figures import cases, record

SEED = 11
KINDS = ("plain", "dora", "huge", "nan", "mismatched", "stranger", "merged", "cancelled")


@pytest.fixture(scope="module")
def engine():
    opened = TextEngine(DEMO_BASE, "cpu")
    yield opened
    opened.close()


def digest(model: torch.nn.Module) -> str:
    """sha256 over the names and bytes of all parameters and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict(keep_vars=True).items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def adapter(engine: TextEngine, rng: np.random.Generator, kind: str) -> Adapter:
    """A random adapter over some linear layers of the model, spoiled as `kind` says."""
    linear = [n for n, m in engine.bank.modules.items() if isinstance(m, torch.nn.Linear)]
    factors: dict[str, LoraFactors] = {}
    for name in rng.choice(linear, size=min(4, len(linear)), replace=False):
        module = engine.bank.modules[str(name)]
        d_out, d_in = module.weight.shape
        if kind == "mismatched":
            d_in += 1
        a = rng.normal(size=(3, d_in)).astype(np.float32)
        b = rng.normal(size=(d_out, 3)).astype(np.float32)
        if kind == "nan":
            a[0, 0] = np.nan
        if kind == "huge":
            b *= np.float32(1e20)
        magnitude = np.ones(d_out, np.float32) if kind == "dora" else None
        path = f"{name}.nowhere" if kind == "stranger" else str(name)
        factors[path] = LoraFactors(a, b, magnitude=magnitude)
    return Adapter(factors, AdapterCard(base_model=DEMO_BASE))


def cycle(engine: TextEngine, rng: np.random.Generator, kind: str) -> None:
    """Adds adapters of a kind, runs the model with them, and takes them out again."""
    made = [adapter(engine, rng, kind) for _ in range(2)]
    if kind == "merged":
        plan = compose("svd", made, [0.7, -0.4], rank=4)
        assert isinstance(plan, Merged)
        made = [plan.adapter]

    def check() -> None:
        if kind == "cancelled":
            raise KeyboardInterrupt

    with engine.bank.guests({str(i): a for i, a in enumerate(made)}) as guests:
        terms = tuple((name, float(rng.normal())) for name in guests.values())
        row = Row("x", "Hello", RowPlan(terms), Sampling(max_new_tokens=2, temperature=0.0))
        engine.generate([row], check=check)


def test_adapters_come_and_go_and_the_base_stays_the_same_bits(engine):
    rng, started, count = np.random.default_rng(SEED), time.time(), cases(48, 1000)
    before, changed, refused = digest(engine.model), 0, 0
    for i in range(count):
        try:
            cycle(engine, rng, KINDS[i % len(KINDS)])
        except (LoraStudioError, KeyboardInterrupt, RuntimeError):
            refused += 1
        changed += digest(engine.model) != before
    control = _merged_in_place(engine, rng)
    record(
        "T11 base integrity", count=count, failures=changed, seconds=time.time() - started,
        seed=SEED, control=f"merged into the weights and out again: {control} tensors differ",
        refused=refused,
    )  # fmt: skip
    assert changed == 0
    assert 0 < refused < count
    assert control > 0, "the check cannot see a base that was merged into"


def _merged_in_place(engine: TextEngine, rng: np.random.Generator) -> int:
    """What in-place merging does to a half precision base: how many weights differ afterwards."""
    other = adapter(engine, rng, "plain")
    differ = 0
    for name, module in other.factors.items():
        weight = engine.bank.modules[name].weight.detach().to(torch.bfloat16).clone()
        delta = torch.from_numpy(module.delta()).to(weight.dtype)
        again = weight.clone().add_(delta).sub_(delta)
        differ += not torch.equal(again, weight)
    return differ
