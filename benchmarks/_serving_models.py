"""The models that serving is measured on: a random Llama, and PEFT on the same with adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lora_studio.adapter import Adapter, LoraFactors

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


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
