"""What many adapters in one batch cost, beside PEFT's ways and the published einsum, in one run.

    python benchmarks/serving.py [--hidden 512] [--layers 4] [--rank 16] [--rounds 9] [--device cpu]
                                 [--dtype float32] [--write]

A random Llama with adapters of one rank on all seven projections; row i has adapter i modulo the
number of distinct ones. Each way does the same forward pass: a prefill of 32 tokens a row, and one
token a row after 32 in the cache. Ways are timed in turn, round by round, and the least time of
each counts; outputs are compared first. `one by one` is PEFT with set_adapter and a pass for each
row, `adapter_names` PEFT's mixed batch, `einsum` the gather at every call that LoraRetriever
publishes, `ours` the engine's bank, `arrow of 3` and `self-activated of 3` its token routers among
three adapters a row, `mixture of 3` the same without a router. `--write` puts the table in
docs/serving.md. On CUDA `--hidden 4096 --dtype bfloat16` is a layer of a 7B model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from _serving_models import adapters_of, peft_model, save_base
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from lora_studio.composition.token_router import TokenRouter, router
from lora_studio.engines.decoding import cache_argument
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "serving.md"
PREFIX = 32
CASES = ((8, 1), (8, 8), (16, 1), (16, 8), (16, 16), (64, 64))
"""(rows, distinct adapters)."""
ARROW = router("arrow", share="top_k", active=2, temperature=1.0, unsure=0.9, mass=0.8)
LOUD = router("self_activated", units=16, temperature=0.0, least=0.0)
PAGE = """# What many adapters in one batch cost

Written by `python benchmarks/serving.py --write`: {about}. Each figure is the time of a pass over
that of the bare model in the same run. *Prefill* reads {prefix} tokens a row, *decode* one token a
row. The way is said in the script's first lines.

{table}
"""


@dataclass
class Stand:
    """Both models, and the inputs of one phase for n rows."""

    engine: TextEngine
    peft: PeftModel
    rows: int
    distinct: int
    decode: bool

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.rows)
        shape = (self.rows, PREFIX + 1)
        ids = torch.randint(0, 256, shape, generator=generator).to(self.engine.device)
        self.prefix, self.last = ids[:, :PREFIX], ids[:, PREFIX:]
        self.name = cache_argument(self.engine.model) or ""

    def plans(self, several: int = 1, rule: TokenRouter | None = None) -> list[RowPlan]:
        """Row i has adapter i modulo the distinct ones, and those after it."""
        weight = 1.0 if rule or several == 1 else 1 / several
        many = len(self.engine.bank.ids)
        return [
            RowPlan(
                tuple((str((i % self.distinct + j) % many), weight) for j in range(several)),
                router=rule,
            )
            for i in range(self.rows)
        ]

    def passing(self, model: Any, rows: slice = slice(None), **more: Any) -> Callable[[], Tensor]:
        """A forward pass of these rows that leaves the cache as it was."""
        if not self.decode:
            return lambda: model(input_ids=self.prefix[rows], use_cache=False, **more).logits
        cache = DynamicCache(config=self.engine.model.config)
        model(input_ids=self.prefix[rows], use_cache=True, **{self.name: cache}, **more)

        def step() -> Tensor:
            out = model(input_ids=self.last[rows], use_cache=True, **{self.name: cache}, **more)
            cache.crop(-1)
            return out.logits

        return step

    def bank(self, plans: Sequence[RowPlan]) -> Callable[[], Tensor]:
        bank = self.engine.bank
        factors = bank.gather(plans)
        with bank.active(factors):
            step = self.passing(self.engine.model)

        def run() -> Tensor:
            with bank.active(factors):
                return step()

        return run

    def base(self) -> Callable[[], Tensor]:
        return self.passing(self.engine.model)

    def names(self) -> Callable[[], Tensor]:
        names = [str(i % self.distinct) for i in range(self.rows)]
        return self.passing(self.peft, adapter_names=names)

    def one_by_one(self) -> Callable[[], Tensor]:
        steps = []
        for i in range(self.rows):
            self.peft.set_adapter(str(i % self.distinct))
            steps.append(self.passing(self.peft, slice(i, i + 1)))

        def run() -> Tensor:
            found = []
            for i, step in enumerate(steps):
                self.peft.set_adapter(str(i % self.distinct))
                found.append(step())
            return torch.cat(found)

        return run

    def einsum(self) -> Callable[[], Tensor]:
        """All adapters stacked; each row's are gathered at every call of every module."""
        with self._einsum():
            step = self.passing(self.engine.model)

        def run() -> Tensor:
            with self._einsum():
                return step()

        return run

    @contextmanager
    def _einsum(self) -> Iterator[None]:
        hooks = [
            self.engine.bank.modules[name].register_forward_hook(self._gathering(a, b))
            for name, (a, b) in self._stacked.items()
        ]
        try:
            yield
        finally:
            for one in hooks:
                one.remove()

    @cached_property
    def _stacked(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Module -> A (adapters, r, d_in) and B (adapters, d_out, r)."""
        held = self.engine.bank._resident
        names = sorted(held, key=int)
        return {
            module: (
                torch.stack([held[name][module].A for name in names]),
                torch.stack([held[name][module].B for name in names]),
            )
            for module in held[names[0]]
        }

    def _gathering(self, a: Tensor, b: Tensor) -> Callable[..., Tensor]:
        rows = torch.tensor([[i % self.distinct] for i in range(self.rows)]).to(a.device)  # (n, 1)

        def add(module: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            low = torch.einsum("btd,bkrd->bktr", args[0], a[rows])
            up = torch.einsum("bktr,bkor->bkto", low, b[rows])
            return out + up.mean(1)

        return add

    def ways(self) -> dict[str, Callable[[], Tensor]]:
        """Name -> a pass that way; what comes before it, prefixes and gathering, is done here."""
        return {
            "base": self.base(),
            "ours": self.bank(self.plans()),
            "adapter_names": self.names(),
            "one by one": self.one_by_one(),
            "einsum": self.einsum(),
            "mixture of 3": self.bank(self.plans(3)),
            "arrow of 3": self.bank(self.plans(3, ARROW)),
            "self-activated of 3": self.bank(self.plans(3, LOUD)),
        }


@torch.inference_mode()
def times(stand: Stand, rounds: int) -> dict[str, float]:
    """Least seconds of each way; what must be equal is compared before."""
    ways = stand.ways()
    outputs = {name: run() for name, run in ways.items()}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, run in ways.items():
            started = time.perf_counter()
            out = run()
            if out.is_cuda:
                torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - started)
    for name in ("adapter_names", "one by one", "einsum"):
        gap = float((outputs[name] - outputs["ours"]).norm() / outputs["ours"].norm())
        if gap > (1e-4 if outputs["ours"].dtype == torch.float32 else 0.05):
            raise SystemExit(f"{name} and ours differ by {gap:.1e}; nothing to compare.")
    return best


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--write", action="store_true", help="put the table in docs/serving.md")
    options = parser.parse_args()
    count = max(distinct for _, distinct in CASES)
    with tempfile.TemporaryDirectory() as home:
        folder = save_base(Path(home), options.hidden, options.layers)
        engine = TextEngine(folder, options.device, max_rows=64)
        engine.model.to(getattr(torch, options.dtype))
        peft = peft_model(folder, count, options.rank, engine.model)
        engine.bank.max_bytes = 1 << 40
        for i, adapter in enumerate(adapters_of(peft, count)):
            engine.bank.add(str(i), adapter)
        lines = []
        for decode in (False, True):
            for rows, distinct in CASES:
                best = times(Stand(engine, peft, rows, distinct, decode), options.rounds)
                ratios = {name: took / best["base"] for name, took in best.items()}
                if not lines:
                    heads = ["pass", "rows", "adapters", "base, ms", *list(ratios)[1:]]
                    lines = [f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
                cells = [f"{ratios[name]:.2f}" for name in list(ratios)[1:]]
                phase = "decode" if decode else "prefill"
                row = [phase, str(rows), str(distinct), f"{1e3 * best['base']:.1f}", *cells]
                lines.append(f"| {' | '.join(row)} |")
                print(lines[-1], flush=True)
    threads = torch.get_num_threads()
    about = (
        f"a Llama of width {options.hidden} with {options.layers} layers in {options.dtype} on "
        f"{options.device}, {threads} thread{'s' * (threads > 1)}, adapters of rank {options.rank} "
        f"on all seven projections, torch {torch.__version__.partition('+')[0]}"
    )
    table = "\n".join(lines)
    print(f"\n{about}\n\n{table}")
    if options.write:
        DOCUMENT.write_text(PAGE.format(about=about, prefix=PREFIX, table=table), encoding="utf-8")


if __name__ == "__main__":
    main()
