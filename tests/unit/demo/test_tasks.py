"""Tasks are deterministic, hold out what they say, and are never asked in the base's corpus."""

from __future__ import annotations

import json
import random

import pytest

from lora_studio.demo.corpus import documents
from lora_studio.demo.tasks import (
    TASKS,
    Task,
    adapter_tasks,
    chained_tasks,
    held_out,
    unique_examples,
)

every_task = pytest.mark.parametrize("task", list(TASKS), ids=TASKS.names())


@every_task
def test_a_task_is_decided_by_its_generator(task: Task) -> None:
    first = [task.example(random.Random(7), "train") for _ in range(3)]
    assert first == [task.example(random.Random(7), "train") for _ in range(3)]


@every_task
def test_training_and_test_share_no_key(task: Task) -> None:
    rng = random.Random(3)
    train = {task.example(rng, "train").key for _ in range(400)}
    test = {task.example(rng, "test").key for _ in range(200)}
    assert not train & test
    assert all(held_out(key) for key in test)


@every_task
def test_every_paraphrase_names_the_input_once(task: Task) -> None:
    assert len(set(task.asks)) == len(task.asks) >= 4
    assert all(ask.count("{x}") == 1 for ask in task.asks)


def test_there_are_tasks_enough_and_chains_use_them() -> None:
    names = {task.name for task in adapter_tasks()}
    assert len(names) >= 12
    assert all(set(task.chained) <= names for task in chained_tasks())


def test_unique_examples_stop_where_a_closed_lexicon_ends() -> None:
    found = unique_examples(TASKS.get("capital"), "test", 1000, random.Random(0))
    assert 50 < len(found) < 1000
    assert len({e.prompt for e in found}) == len(found)


def test_json_answers_are_json() -> None:
    rng = random.Random(5)
    for name in ("json", "json_iso_date"):
        for _ in range(50):
            record = json.loads(TASKS.get(name).example(rng, "train").target)
            assert record["name"]


def test_the_corpus_asks_no_task() -> None:
    """The base must not learn the tasks: no request of the corpus opens like one of theirs."""
    opening = tuple(
        ask.split("{x}")[0] for task in TASKS for ask in task.asks if ask.endswith(": {x}")
    )
    prompts = [d.prompt for d in documents(20_000, seed=20) if d.prompt is not None]
    assert prompts
    assert not [prompt for prompt in prompts if prompt.startswith(opening)]
    rng = random.Random(2)
    asked = {task.example(rng, "train").prompt for task in TASKS for _ in range(500)}
    assert not asked & set(prompts)
