"""`lora-studio evaluate` on the embedded demo, as a person types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_studio.cli import main
from lora_studio.composition import Recipe, Source
from lora_studio.evaluation.contest import BASE, BEST, CONTROLS, PERFECT
from lora_studio.formats import load_adapter
from lora_studio.settings import DEMO_BASE, Settings

POOL = ("plain-past", "plain-french")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LORA_STUDIO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LORA_STUDIO_DEVICE", "cpu")
    return tmp_path


def asked(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    code = main(["evaluate", *map(str, words), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code == 0) == ("error" not in told)
    return told


def rows(told: dict[str, Any], metric: str = "exact_match") -> dict[str, dict[str, Any]]:
    table = next(table for table in told["tables"] if table["metric"] == metric)
    return {row["label"]: row for row in table["rows"]}


def test_own_tests_with_controls_and_a_rule_and_nothing_is_asked_twice(home: Path, capsys):
    words = ("--adapters", *POOL, "--method", "selection", "linear", "--prompts", "4")
    told = asked(capsys, *words)
    found = rows(told)
    assert list(found)[:4] == list(CONTROLS)
    assert {"selection", "linear", "Past tense", "English to French"} < found.keys()
    assert found[BASE]["value"] == 0
    assert found[PERFECT]["value"] == found["selection"]["value"] >= 0.75
    assert 0 < found[BEST]["value"] < found["selection"]["value"]
    assert found["selection"]["against"][BEST]["value"] > 0
    assert found["selection"]["rank"] == 16
    assert found["linear"]["rank"] == 8
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
    assert all(row["n"] == 8 and len(row["tasks"]) == 2 for row in found.values())
    assert told["base"] == DEMO_BASE
    assert told["asked"] > 0
    assert asked(capsys, *words) == {**told, "asked": 0}
    assert main(["evaluate", *words]) == 0
    page = capsys.readouterr().out
    for label in (*CONTROLS, "selection", "8 prompts of 2 tasks"):
        assert label in page


def test_a_task_file_under_two_metrics_and_a_recipe(home: Path, capsys):
    task = home / "mine.jsonl"
    lines = [
        {"prompt": "past: Rosa eats some cheese.", "reference": "Rosa ate some cheese."},
        {"prompt": "past: Tom opens a letter.", "reference": "Tom opened a letter.",
         "metric": "perplexity"},
    ]  # fmt: skip
    task.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    folders = [Settings().demo_adapters_dir / name for name in POOL]
    sources = tuple(Source(load_adapter(folder).id) for folder in folders)
    recipe = home / "recipe.yaml"
    made = Recipe({"repo": DEMO_BASE}, sources, "cat")
    recipe.write_text(made.to_yaml(), encoding="utf-8")
    told = asked(capsys, task, "--adapters", *folders, "--recipe", recipe)
    right, likely = rows(told), rows(told, "perplexity")
    assert "Concatenate (recipe.yaml)" in right
    assert right["Past tense"]["value"] == 1
    assert likely["Past tense"]["value"] < 1.5 < likely[BASE]["value"]
    assert likely[BEST]["notes"] == ["Past tense, chosen on these prompts"]


def test_one_adapter_is_compared_with_random_numbers_of_its_size(home: Path, capsys):
    found = rows(asked(capsys, "--adapters", POOL[0], "--prompts", "3"))
    assert found["random adapter"]["notes"] == ["random numbers of its shape and norm"]
    assert found["random adapter"]["value"] < found["Past tense"]["value"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--adapters", "plain-psat"), "is no file"),
        (("nowhere.jsonl", "--adapters", POOL[0]), "no task file"),
        ((), "Name a task file"),
        (("past_polite", "--method", "selection"), "Name the adapters"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_loaded(home: Path, capsys, words, said):
    assert said in asked(capsys, *words)["error"]["message"]
