"""Tiny random models with a byte tokenizer, saved as ordinary folders, and random adapters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors

END = 256


def save_tokenizer(folder: Path) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<end>", pad_token="<pad>"
    ).save_pretrained(folder)


def save_model(kind: str, folder: Path) -> Path:
    torch.manual_seed(7)
    ids = {"vocab_size": 258, "eos_token_id": END, "pad_token_id": 257, "bos_token_id": None}
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**ids, **small, **heads, initializer_range=0.4))
    elif kind == "sliding":
        config = MistralConfig(**ids, **small, **heads, initializer_range=0.4, sliding_window=8)
        model = MistralForCausalLM(config)
    else:
        config = GPT2Config(**ids, n_embd=32, n_layer=2, n_head=4, initializer_range=0.4)
        model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


LLAMA = {
    f"model.layers.{i}.{name}": dims
    for i in range(2)
    for name, dims in {
        "self_attn.q_proj": (32, 32),
        "self_attn.v_proj": (32, 16),
        "mlp.down_proj": (48, 32),
    }.items()
}
GPT2 = {
    f"transformer.h.{i}.{name}": dims
    for i in range(2)
    for name, dims in {"attn.c_attn": (32, 96), "mlp.c_proj": (128, 32)}.items()
}


def random_adapter(
    seed: int, rank: int = 4, dims=None, scaling: float = 1.0, skip: int = 0
) -> Adapter:
    """Normal factors for the modules in `dims`, leaving out the first `skip`."""
    rng = np.random.default_rng(seed)
    names = sorted((dims or LLAMA).items())[skip:]
    factors = {
        name: LoraFactors(
            A=rng.normal(0, 0.3, (rank, d_in)).astype(np.float32),
            B=rng.normal(0, 0.3, (d_out, rank)).astype(np.float32),
            scaling=scaling,
        )
        for name, (d_in, d_out) in names
    }
    return Adapter(factors, AdapterCard(title=f"adapter {seed}"))
