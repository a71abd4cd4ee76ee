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
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.token_router import TokenRouter, router
from lora_studio.engines.decoding import cache_argument
from lora_studio.engines.rows import RowPlan
from lora_studio.engines.text import TextEngine

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "serving.md"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
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


def save_base(folder: Path, hidden: int, layers: int) -> Path:
    """A random Llama with a byte tokenizer."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def peft_model(folder: Path, count: int, rank: int, like: torch.nn.Module) -> PeftModel:
    """The same base under PEFT with random adapters named "0", "1", ..."""
    weight = next(like.parameters())
    base: Any = LlamaForCausalLM.from_pretrained(folder, dtype=weight.dtype)
    base = base.to(weight.device)
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=list(TARGETS), init_lora_weights=False
    )
    torch.manual_seed(1)
    model = get_peft_model(base, config, adapter_name="0")
    for name in range(1, count):
        model.add_adapter(str(name), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.02)
    return model.eval().requires_grad_(False)


def adapters_of(model: PeftModel, count: int) -> list[Adapter]:
    """PEFT's adapters as the bank takes them."""
    found: list[dict[str, LoraFactors]] = [{} for _ in range(count)]
    inner: Any = model.base_model.model
    for name, module in inner.named_modules():
        if hasattr(module, "lora_A"):
            pairs: Any = module
            for i in range(count):
                a, b = pairs.lora_A[str(i)].weight, pairs.lora_B[str(i)].weight
                found[i][name] = LoraFactors(
                    a.detach().float().cpu().numpy(), b.detach().float().cpu().numpy()
                )
    return [Adapter(factors) for factors in found]


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

    @contextmanager
    def bank(self, plans: Sequence[RowPlan]) -> Iterator[Callable[[], Tensor]]:
        with self.engine.bank.rows(plans):
            yield self.passing(self.engine.model)

    @contextmanager
    def base(self) -> Iterator[Callable[[], Tensor]]:
        yield self.passing(self.engine.model)

    @contextmanager
    def names(self) -> Iterator[Callable[[], Tensor]]:
        names = [str(i % self.distinct) for i in range(self.rows)]
        yield self.passing(self.peft, adapter_names=names)

    @contextmanager
    def one_by_one(self) -> Iterator[Callable[[], Tensor]]:
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

        yield run

    @contextmanager
    def einsum(self) -> Iterator[Callable[[], Tensor]]:
        """All adapters stacked; each row's are gathered at every call of every module."""
        bank = self.engine.bank
        names, hooks = sorted(bank.ids, key=int), []
        rows = torch.tensor([[i % self.distinct] for i in range(self.rows)])  # (n, 1)
        rows = rows.to(self.engine.device)

        def hook(a: Tensor, b: Tensor) -> Callable[..., Tensor]:
            def add(module: Any, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
                low = torch.einsum("btd,bkrd->bktr", args[0], a[rows])
                up = torch.einsum("bktr,bkor->bkto", low, b[rows])
                return out + up.mean(1)

            return add

        for module in bank._resident[names[0]]:
            a = torch.stack([bank._resident[name][module].A for name in names])
            b = torch.stack([bank._resident[name][module].B for name in names])
            hooks.append(bank.modules[module].register_forward_hook(hook(a, b)))
        try:
            yield self.passing(self.engine.model)
        finally:
            for one in hooks:
                one.remove()

    def ways(self) -> dict[str, Callable[[], Any]]:
        """Name -> what opens that way."""
        return {
            "base": self.base,
            "ours": lambda: self.bank(self.plans()),
            "adapter_names": self.names,
            "one by one": self.one_by_one,
            "einsum": self.einsum,
            "mixture of 3": lambda: self.bank(self.plans(3)),
            "arrow of 3": lambda: self.bank(self.plans(3, ARROW)),
            "self-activated of 3": lambda: self.bank(self.plans(3, LOUD)),
        }


@torch.inference_mode()
def times(stand: Stand, rounds: int) -> dict[str, float]:
    """Least seconds of each way; what must be equal is compared before."""
    best: dict[str, float] = {}
    outputs: dict[str, Tensor] = {}
    for turn in range(rounds + 1):
        for name, opened in stand.ways().items():
            with opened() as run:
                run()
                started = time.perf_counter()
                out = run()
                if out.is_cuda:
                    torch.cuda.synchronize()
                took = time.perf_counter() - started
            if turn == 0:
                outputs[name] = out
            else:
                best[name] = min(took, best.get(name, took))
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
