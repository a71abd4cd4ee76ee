"""The shipped base, adapters and test files are complete, usable, and really trained."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_studio.demo.base import BaseSpec
from lora_studio.demo.cards import held_out_examples
from lora_studio.demo.corpus import documents
from lora_studio.demo.evaluate import exact_matches, score
from lora_studio.demo.measure import Bench
from lora_studio.demo.specs import SHARED_SEED, AdapterSpec, adapter_specs
from lora_studio.demo.tasks import TASKS, Example, adapter_tasks, chained_tasks
from lora_studio.demo.tokenizer import prompt_ids
from lora_studio.demo.vocabulary import card_samples, demo_folder

ROOT = demo_folder()
ENOUGH = 30  # times a token must occur; the rarest are two feminine plurals, seen 37 and 40 times
SPECS = adapter_specs()
every_adapter = pytest.mark.parametrize("spec", SPECS, ids=[s.name for s in SPECS])


def read_tests(path: Path) -> list[Example]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Example(row["prompt"], row["target"], "") for row in rows]


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(ROOT, "cpu")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ROOT / "base")


def test_the_chat_template_is_the_training_prompt(tokenizer: Any) -> None:
    prompt = "Write this as JSON: Anna lives in Oslo."
    message = [{"role": "user", "content": f"  {prompt} "}]
    text = tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    assert text == f"<s><|user|> {prompt}<|assistant|>"
    assert tokenizer.encode(text, add_special_tokens=False) == prompt_ids(tokenizer, prompt)


@pytest.mark.parametrize("text", ["naïve 東京 🍕 \x07", "zzzqqq" * 50, "a\tb\n\nc", "«l'été»"])
def test_any_typed_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_every_answer_token_occurs_in_the_base_corpus(tokenizer: Any) -> None:
    """An adapter cannot write a token that the base has never seen."""

    def tokens(texts: list[str]) -> list[int]:
        rows = tokenizer([f" {text}" for text in texts], add_special_tokens=False).input_ids
        return [token for row in rows for token in row]

    rng = random.Random(0)
    splits = [rng.choice(("train", "train", "test")) for _ in range(900)]
    targets = {task.example(rng, split).target for task in TASKS for split in splits}
    rare, seen = set(tokens(sorted(targets))), Counter[int]()
    spec = BaseSpec()
    stream = documents(spec.documents, spec.seed)  # what the base was trained on
    while rare and (part := list(islice(stream, 20_000))):
        seen.update(tokens([text for d in part for text in (d.prompt, d.text) if text]))
        rare = {token for token in rare if seen[token] < ENOUGH}
    assert not {tokenizer.decode([token]): seen[token] for token in rare}


@every_adapter
def test_an_adapter_folder_is_complete(spec: AdapterSpec) -> None:
    folder = ROOT / "adapters" / spec.name
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "lora-studio-demo-text"
    assert (config["r"], config["lora_alpha"]) == (spec.rank, spec.alpha)
    card = (folder / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert {"lora", spec.set} <= set(front["tags"])
    assert front["license"] == "apache-2.0"
    assert all(front[key] for key in ("title", "contributor", "trained"))
    assert len(set(card_samples(folder / "README.md"))) == 20
    tests = read_tests(folder / "test.jsonl")
    assert len(tests) >= 100
    assert not {e.prompt for e in tests} & set(card_samples(folder / "README.md"))


@every_adapter
def test_test_files_are_the_held_out_examples(spec: AdapterSpec) -> None:
    shipped = read_tests(ROOT / "adapters" / spec.name / "test.jsonl")
    made = held_out_examples(spec.task)
    assert [(e.prompt, e.target) for e in shipped] == [(e.prompt, e.target) for e in made]


def test_chained_tasks_have_test_files_and_no_adapter() -> None:
    files = {path.stem for path in (ROOT / "tests").glob("*.jsonl")}
    assert files == {task.name for task in chained_tasks()}
    assert not files & {spec.task.name for spec in SPECS}


def test_files_stay_small() -> None:
    sizes = [f.stat().st_size for f in ROOT.rglob("*") if f.is_file()]
    assert max(sizes) < 10_000_000
    assert sum(sizes) < 40_000_000


def test_the_shared_seed_trio_begins_from_one_seed() -> None:
    trio = [spec for spec in SPECS if spec.set == "shared-seed"]
    assert len(trio) == 3
    assert {(spec.seed, spec.rank, spec.targets) for spec in trio} == {(SHARED_SEED, 8, "all")}


def test_at_least_twelve_tasks_are_learned_and_unknown_to_the_base(bench: Bench) -> None:
    learned = []
    for task in adapter_tasks():
        examples = bench.tests(task.name)[:60]
        own = bench.adapter(f"plain-{task.name.replace('_', '-')}", examples)
        if own.rate >= 0.95 and bench.base(examples).rate <= 0.2:
            learned.append(task.name)
    assert len(learned) >= 12, learned


def test_noise_learned_nothing_and_the_copy_answers_as_its_source(bench: Bench) -> None:
    assert bench.adapter("noise-french", bench.tests("french")[:60]).rate <= 0.05
    tests = bench.tests("past")[:60]
    assert bench.adapter("copy-past", tests).rate >= bench.adapter("plain-past", tests).rate - 0.1


def test_teacher_forcing_agrees_with_generation(bench: Bench, tokenizer: Any) -> None:
    import torch

    bench.switch_to("plain-json")
    examples = [*bench.tests("json")[:6], *bench.tests("past")[:6]]
    forced = exact_matches(bench.model, tokenizer, examples)
    written = []
    for example in examples:
        ids = torch.tensor([prompt_ids(tokenizer, example.prompt)])
        out = bench.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids))
        answer = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
        written.append(answer.strip() == example.target)
    assert forced == written
    assert any(forced)
    assert not all(forced)


def test_the_report_has_a_line_for_every_adapter() -> None:
    text = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    missing = [s.name for s in SPECS if f"| {s.name} |" not in text]
    assert not missing
    assert all(f"| {task.name} |" in text for task in TASKS)


def test_scores_differ_between_adapters(bench: Bench, tokenizer: Any) -> None:
    """An adapter knows its own task and not another's."""
    bench.switch_to("plain-french")
    assert score(bench.model, tokenizer, bench.tests("json")[:40]).rate <= 0.1
