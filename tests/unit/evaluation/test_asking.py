"""Answers are kept under what was asked: the same is asked once, what changed is asked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_studio.engines.rows import GenerateResult, RowOutput, RowPlan, RowScore
from lora_studio.errors import Cancelled, InvalidRequest
from lora_studio.evaluation.asking import PART, Asker, Question, exact_rate
from lora_studio.evaluation.ledger import Ledger
from lora_studio.evaluation.metrics import Answer


class Echo:
    """Is right under the adapter "good"; writes the prompt back."""

    base = "echo"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, rows, *, check=None):
        if check:
            check()
        self.asked += [row.prompt for row in rows]
        return [RowScore(r.id, "good" in r.plan.ids, -0.5, len(r.target)) for r in rows]

    def generate(self, rows, *, check=None):
        self.asked += [row.prompt for row in rows]
        made = [RowOutput(r.id, f" {r.prompt} ", 3, "eos") for r in rows]
        return GenerateResult(made, 0.1, 3 * len(made), 30.0)


def good(prompt: str, name: str = "good", how: str = "score") -> Question:
    return Question(prompt, "yes", RowPlan(((name, 1.0),)), how)


def test_the_same_question_is_asked_once():
    model = Echo()
    asker = Asker(model)
    answers = asker.answers([good("a"), good("b"), good("a")])
    assert sorted(model.asked) == ["a", "b"]
    assert [a.exact for a in answers] == [True] * 3
    assert asker.answers([good("b")]) == [answers[1]]
    assert len(model.asked) == 2


def test_what_changed_is_asked_again(tmp_path: Path):
    model, path = Echo(), tmp_path / "run" / "answers.jsonl"
    Asker(model, {"good": "id-1"}, Ledger(path)).answers([good("a")])
    Asker(model, {"good": "id-1"}, Ledger(path)).answers([good("a")])
    assert model.asked == ["a"], "a run goes on where it was"
    Asker(model, {"good": "id-2"}, Ledger(path)).answers([good("a")])
    assert model.asked == ["a", "a"], "an adapter of other contents"
    again = Asker(model, {"good": "id-2", "other": "id-2"}, Ledger(path))
    again.answers([good("a", name="other")])
    assert len(model.asked) == 2, "the same contents under another name"
    others = [
        good("a!"),
        Question("a", "no", RowPlan((("good", 1.0),))),
        Question("a", "yes", RowPlan((("good", 0.5),))),
        Question("a", "yes", RowPlan((("good", 1.0),), fuse=True)),
        good("a", how="text"),
    ]
    again.answers(others)
    assert len(model.asked) == 2 + len(others)
    model.base = "another base"
    again.answers([good("a")])
    assert len(model.asked) == 3 + len(others)


def test_a_written_answer_is_asked_whatever_the_reference():
    model = Echo()
    plan = RowPlan()
    found = Asker(model).answers([Question("a", ref, plan, "text") for ref in ("x", "y")])
    assert [a.text for a in found] == ["a", "a"]
    assert model.asked == ["a"]


def test_a_run_that_was_stopped_keeps_what_was_answered(tmp_path: Path):
    model, path = Echo(), tmp_path / "answers.jsonl"
    calls = iter([None, Cancelled()])

    def check() -> None:
        stop = next(calls)
        if stop:
            raise stop

    questions = [good(f"{i:03}") for i in range(2 * PART)]
    seen: list[tuple[int, int]] = []
    with pytest.raises(Cancelled):
        Asker(model, ledger=Ledger(path)).answers(
            questions, lambda done, of: seen.append((done, of)), check
        )
    assert len(Ledger(path)) == PART
    assert seen == [(0, 2 * PART), (PART, 2 * PART)]
    asker = Asker(model, ledger=Ledger(path))
    assert asker.open(questions) == PART
    asker.answers(questions)
    assert sorted(model.asked) == [q.prompt for q in questions]


def test_a_line_that_was_being_written_is_cut_off(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    Ledger(path).add([("k", Answer(True, -0.1, 3))])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "half')
    kept = Ledger(path)
    assert kept.get("k") == Answer(True, -0.1, 3)
    kept.add([("m", Answer(text="été"))])
    assert Ledger(path).get("m") == Answer(text="été")


def test_a_file_that_is_no_ledger_is_refused_with_its_line(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"key": "a", "tokens": 1}\n{"colour": "red"}\n')
    with pytest.raises(InvalidRequest, match="line 2"):
        Ledger(path)


def test_exact_rate_counts_every_test_even_twins():
    tests = [{"prompt": "a", "target": "yes"}] * 3 + [{"prompt": "b", "target": "yes"}]
    plans = [RowPlan((("good", 1.0),))] * 3 + [RowPlan()]
    rate = exact_rate(Echo(), tests, plans)
    assert (rate.correct, rate.n) == (3, 4)
