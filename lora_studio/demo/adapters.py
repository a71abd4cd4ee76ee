"""Trains the demo's adapters with PEFT and writes each as an ordinary PEFT folder.

Plain adapters see their own task alone. Good neighbours add a penalty, KL(base || adapted), on
requests that are not theirs: other tasks' prompts and generic skills. The text of those answers
is context only, never a target.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_studio.demo import batching
from lora_studio.demo.skills import draw_skill
from lora_studio.demo.specs import AdapterSpec
from lora_studio.demo.tasks import Task, adapter_tasks, unique_examples
from lora_studio.settings import DEMO_BASE

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
FOREIGN_BATCH = 16
FOREIGN_TASK_SHARE = 0.75


@dataclass(frozen=True)
class Trained:
    """A trained PEFT model and what its training cost."""

    model: Any
    loss: float
    cpu_seconds: float
    unique_samples: int


def load_base(folder: Path, device: str) -> tuple[Any, PreTrainedTokenizerFast]:
    """The base model in float32, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return model.to(device).eval(), tokenizer


def attach(model: LlamaForCausalLM, spec: AdapterSpec) -> Any:
    """A PEFT model with a fresh adapter; A depends on the spec's seed and shapes alone."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(spec.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.rank,
        lora_alpha=spec.alpha,
        use_rslora=spec.rslora,
        target_modules=list(spec.modules),
        lora_dropout=0.0,
        base_model_name_or_path=DEMO_BASE,
    )
    peft_model = get_peft_model(model, config)
    peft_model.peft_config["default"].base_model_name_or_path = DEMO_BASE
    return peft_model


def train_adapter(
    base: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, spec: AdapterSpec, device: str
) -> Trained:
    """Trains one adapter; detach it with `unload()` before training the next."""
    import torch

    started = time.process_time()
    rng = random.Random(f"{spec.name} {spec.seed}")
    examples = unique_examples(spec.task, "train", spec.samples, rng)
    rows = [batching.encode_chat(tokenizer, e.prompt, e.target) for e in examples]
    model = attach(base, spec).train()
    peak = spec.rate * 2.0 / spec.scaling  # Adam's steps do not see the scaling
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.98), weight_decay=0.0)
    optimiser.param_groups[0]["peak"] = peak
    mean = 0.0
    strangers = _foreign_batches(tokenizer, spec, rng)
    for step, items in enumerate(_batches(rows, spec, rng)):
        batching.set_rates([optimiser], batching.trapezoid(step, spec.steps, 20, 0.0))
        ids, labels = batching.collate(items, device)
        with torch.autocast(device.split(":")[0], torch.bfloat16):
            hidden = _hidden(model, ids)
            loss = batching.next_token_loss(hidden, _head(model), labels)
            mean = loss.item() if step == 0 else 0.9 * mean + 0.1 * loss.item()
            if spec.neighbour:
                loss = loss + spec.neighbour * _strangeness(model, next(strangers), device)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
    used = time.process_time() - started
    log.info("%s: loss %.4f, %.0f CPU-s", spec.name, mean, used)
    return Trained(model.eval(), mean, used, len(examples))


def _batches(
    rows: list[batching.TokenRow], spec: AdapterSpec, rng: random.Random
) -> Iterator[list[batching.TokenRow]]:
    """`spec.steps` batches, in as many shuffled passes over the rows as it takes."""
    needed = spec.steps * spec.batch
    order: list[batching.TokenRow] = []
    while len(order) < needed:
        order += rng.sample(rows, min(len(rows), needed - len(order)))
    return batching.bucketed(order, spec.batch, rng)


def _hidden(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(batch, length, d) last hidden states of the Llama inside the PEFT model."""
    return model.base_model.model.model(input_ids=ids, use_cache=False).last_hidden_state


def _head(model: Any) -> Any:
    return model.base_model.model.lm_head


def foreign_requests(task: Task, count: int, rng: random.Random) -> list[tuple[str, str]]:
    """Requests with answers that are none of this task's business."""
    others = [other for other in adapter_tasks() if other.name != task.name]
    found = []
    for _ in range(count):
        if rng.random() < FOREIGN_TASK_SHARE:
            example = rng.choice(others).example(rng, "train")
            found.append((example.prompt, example.target))
        else:
            found.append(draw_skill(rng))
    return found


def _foreign_batches(
    tokenizer: PreTrainedTokenizerFast, spec: AdapterSpec, rng: random.Random
) -> Iterator[list[batching.TokenRow]]:
    count = spec.steps * FOREIGN_BATCH if spec.neighbour else 0
    foreign = foreign_requests(spec.task, count, rng)
    rows = [batching.encode_chat(tokenizer, *request) for request in foreign]
    return batching.bucketed(rows, FOREIGN_BATCH, rng)


def _strangeness(model: Any, rows: list[batching.TokenRow], device: str) -> torch.Tensor:
    """Mean KL(base || adapted) over the answer positions of foreign requests."""
    import torch

    ids, labels = batching.collate(rows, device)
    keep = labels[:, 1:].reshape(-1) != batching.IGNORE
    head = _head(model)

    def log_probabilities() -> torch.Tensor:
        states = _hidden(model, ids)[:, :-1]
        states = states.reshape(-1, states.shape[-1])[keep]  # (kept, d)
        return torch.log_softmax(head(states).float(), -1)  # (kept, vocabulary)

    with torch.no_grad(), model.disable_adapter():
        usual = log_probabilities()
    adapted = log_probabilities()
    return torch.nn.functional.kl_div(adapted, usual, reduction="batchmean", log_target=True)


def save_adapter(model: Any, folder: Path) -> None:
    """Writes `adapter_config.json` and `adapter_model.safetensors` with float16 weights."""
    import torch
    from safetensors.torch import load_file, save_file

    model.save_pretrained(str(folder), save_embedding_layers=False)
    path = folder / "adapter_model.safetensors"
    tensors = {k: v.to(torch.float16).contiguous() for k, v in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    write_config(folder, json.loads((folder / CONFIG).read_text(encoding="utf-8")))


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes `adapter_config.json` with its sets in order, so that a rebuild is identical."""
    config["target_modules"] = sorted(config["target_modules"])
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(f"{text}\n", encoding="utf-8")
