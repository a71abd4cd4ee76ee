"""What it costs to run N rows with N different adapters in one batch.

Prints two ratios of tokens per second: the mixed batch against its rows one after another, and
against a batch of the same rows without adapters. Uses the embedded demo model if it is there, else
a random one. Run: python benchmarks/batch_vs_alone.py [--rows 8] [--rank 16] [--device cpu]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.text import Row, RowPlan, Sampling, TextEngine
from lora_studio.settings import DEMO_BASE, Settings

PROMPT = "The quick brown fox jumps over the lazy dog"


def random_base(folder: Path, hidden: int) -> Path:
    """A random Llama of 6 layers with a byte tokenizer."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=hidden,
        intermediate_size=hidden * 3,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def random_adapter(modules: dict[str, tuple[int, int]], rank: int, seed: int) -> Adapter:
    """Small normal factors for every attention and MLP projection."""
    rng = np.random.default_rng(seed)
    return Adapter(
        {
            name: LoraFactors(
                A=rng.normal(0, 0.02, (rank, d_in)).astype(np.float32),
                B=rng.normal(0, 0.02, (d_out, rank)).astype(np.float32),
            )
            for name, (d_in, d_out) in modules.items()
            if name.endswith("_proj")
        }
    )


def speed(engine: TextEngine, groups: list[list[Row]]) -> float:
    """Tokens per second over the groups, one after another."""
    results = [engine.generate(rows) for rows in groups]
    return sum(r.tokens for r in results) / sum(r.seconds for r in results)


def measure(
    engine: TextEngine, count: int, rank: int, tokens: int, rounds: int
) -> dict[str, float]:
    """Best tokens per second of each way over interleaved rounds."""
    # Rows never end early here, so that every way makes the same number of tokens.
    engine.ends = engine.decoder.ends = frozenset()
    modules = adaptable_modules(engine.bank.modules)
    for i in range(count):
        engine.bank.add(str(i), random_adapter(modules, rank, i))
    style = Sampling(max_new_tokens=tokens)
    mixed = [Row(str(i), PROMPT, RowPlan(((str(i), 1.0),)), style) for i in range(count)]
    bare = [Row(str(i), PROMPT, RowPlan(), style) for i in range(count)]
    ways = {"mixed": [mixed], "alone": [[row] for row in mixed], "base": [bare]}
    best = dict.fromkeys(ways, 0.0)
    for _ in range(rounds):
        for name, groups in ways.items():
            best[name] = max(best[name], speed(engine, groups))
    return best


def main() -> None:
    """Reads the options, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=512, help="width of the random model")
    parser.add_argument("--base", default="", help="folder or Hub id; default: the demo, or random")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    demo = (Settings().demo_base_dir / "config.json").is_file()
    with tempfile.TemporaryDirectory() as folder:
        base = options.base or (DEMO_BASE if demo else random_base(Path(folder), options.hidden))
        engine = TextEngine(base, options.device, max_rows=options.rows)
        best = measure(engine, options.rows, options.rank, options.tokens, options.rounds)
    print(f"{engine.parameters:,} parameters on {engine.device}, {options.rows} rows with as many")
    print(f"adapters of rank {options.rank} on every projection, {options.tokens} tokens each")
    for name, value in best.items():
        print(f"  {name:6} {value:9.1f} tokens/s")
    print(f"mixed batch / one after another: {best['mixed'] / best['alone']:.2f}x")
    print(f"mixed batch / base-only batch:   {best['mixed'] / best['base']:.2f}x")


if __name__ == "__main__":
    main()
