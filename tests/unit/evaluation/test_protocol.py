"""The protocol decides who may answer what; contenders are compared on the same prompts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_studio.composition import compose
from lora_studio.composition.plan import Merged
from lora_studio.engines.rows import RowPlan, RowScore
from lora_studio.evaluation.asking import Asker
from lora_studio.evaluation.contest import BASE, BEST, PERFECT, RANDOM, Contender, Contest, told
from lora_studio.evaluation.plans import alone, row_plans
from lora_studio.evaluation.protocol import (
    Case,
    Material,
    Member,
    divided,
    duplicates,
    noise,
    scenarios,
    tuned_on,
)
from lora_studio.evaluation.task_file import TaskRow
from tests.conftest import build_adapter

TASKS = [f"task{i}" for i in range(6)]


def members(first: int = 0) -> list[Member]:
    return [
        Member(build_adapter(first + i, title=f"{first + i}"), task) for i, task in enumerate(TASKS)
    ]


@pytest.fixture(scope="module")
def material() -> Material:
    own = members()
    relatives = [replace(member, adapter=build_adapter(50 + i, title=f"relative {i}"))
                 for i, member in enumerate(own[:3])]  # fmt: skip
    cases = [Case(f"{m.task} prompt {i}", "answer", m.task, m.name) for m in own for i in range(40)]
    reported, tuning = divided(cases, 10)
    lies = noise(own, 5, [[f"{own[i].task} prompt"] for i in range(5)])
    return Material(
        tuple(own), tuple(relatives), tuple(reported), tuple(tuning), {}, {},
        tuple(noise(own, 5, [["unrelated"]] * 5)), tuple(lies),
    )  # fmt: skip


def test_what_is_chosen_by_is_never_reported_on(material: Material):
    reported = {case.prompt for case in material.cases}
    tuning = {case.prompt for case in material.tuning}
    assert reported
    assert tuning
    assert not reported & tuning
    assert all(tuned_on(prompt) for prompt in tuning)
    assert not any(tuned_on(prompt) for prompt in reported)
    for task in TASKS:
        assert 0 < sum(case.task == task for case in material.cases) <= 10


def test_the_scenarios_are_those_of_the_papers(material: Material):
    found = {scenario.key: scenario for scenario in scenarios(material)}
    assert list(found) == ["stream", "masked", "masked-alone", "pool-4", "pool-8", "pool-9",
                           "noise", "duplicates", "liars"]  # fmt: skip
    stream = found["stream"]
    assert stream.static
    assert sorted(stream.cases, key=str) == sorted(material.cases, key=str)
    assert [case.task for case in stream.cases] != [case.task for case in material.cases]
    assert {case.task for case in found["masked"].cases} == set(TASKS[:3])
    assert {case.task for case in found["masked-alone"].cases} == set(TASKS[3:])
    assert {case.task for case in found["pool-9"].cases} == set(TASKS[:4])
    assert [len(found[f"pool-{n}"].pool) for n in (4, 8, 9)] == [4, 8, 9]
    assert len(found["noise"].pool) == 11
    assert len(found["duplicates"].pool) == 12
    assert len({member.name for member in found["duplicates"].pool}) == 12


def test_masking_takes_the_own_adapter_and_its_copies_only(material: Material):
    own = material.own[0]
    masked = next(s for s in scenarios(material) if s.key == "masked")
    masked = replace(masked, pool=(*masked.pool, *duplicates([own])))
    case = next(case for case in masked.cases if case.own == own.name)
    allowed = masked.allowed(case)
    assert {m.source for m in masked.pool} - {m.source for m in allowed} == {own.name}
    assert len(masked.pool) - len(allowed) == 2
    places = [place for _, places in masked.pools() for place in places]
    assert sorted(places) == list(range(len(masked.cases)))
    for pool, places in masked.pools():
        assert {masked.cases[p].own for p in places}.isdisjoint(m.name for m in pool)


def test_noise_has_the_shape_and_norm_of_its_model_and_a_duplicate_its_update(material: Material):
    for model, drawn in zip(material.own, material.noise, strict=False):
        assert drawn.adapter.ranks == model.adapter.ranks
        assert drawn.adapter.norm() == pytest.approx(model.adapter.norm(), rel=1e-5)
        assert abs(drawn.adapter.cosine(model.adapter)) < 0.3
        assert drawn.adapter.card.samples == ("unrelated",)
    for model, copy in zip(material.own, duplicates(material.own), strict=True):
        assert copy.name != model.name
        assert copy.source == model.name
        assert copy.adapter.cosine(model.adapter) > 0.99


class OneEach:
    """Answers a prompt rightly under the adapter whose number it ends with."""

    base = "one each"

    def __init__(self, numbers: dict[str, str]) -> None:
        self._numbers = numbers

    def score(self, rows, *, check=None):
        def right(row) -> bool:
            return any(self._numbers.get(name) == row.prompt.split()[-1] for name in row.plan.ids)

        return [RowScore(row.id, right(row), -1.0 + right(row), 2) for row in rows]

    def generate(self, rows, *, check=None):
        raise AssertionError("nothing is to be written")


@pytest.fixture
def contest() -> Contest:
    pool = {member.name: member.adapter for member in members()}
    numbers = {name: str(i) for i, name in enumerate(pool)}
    rows = [TaskRow(f"p{n} {i}", "r") for n in range(4) for i in (0, 0, 1, 2, 3, 4, 5)]
    return Contest(Asker(OneEach(numbers)), rows, pool)


def test_controls_are_always_there(contest: Contest):
    found = {one.label: one for one in contest.controls()}
    assert list(found)[:4] == [BASE, BEST, RANDOM, PERFECT]
    assert found[BASE].estimate().value == 0
    assert found[BEST].estimate().value == pytest.approx(2 / 7)
    assert "0, chosen on these prompts" in found[BEST].notes[0]
    assert found[PERFECT].estimate().value == 1
    assert 0 < found[RANDOM].estimate().value < 1
    assert found[BEST].rank == 4
    assert found[PERFECT].rank == 6 * 4
    assert found[PERFECT].size == 2 * sum(a.parameters for a in contest.adapters.values())


def test_perfect_selection_is_the_own_adapter_where_that_is_known(contest: Contest):
    wrong = [next(iter(contest.adapters))] * len(contest.rows)
    found = {one.label: one for one in contest.controls(own=wrong)}
    assert found[PERFECT].values == found["0"].values


def test_of_a_loss_the_smaller_is_the_better(contest: Contest):
    loss = replace(contest, rows=[TaskRow(r.prompt, r.reference, "loss") for r in contest.rows])
    found = {one.label: one for one in loss.controls()}
    assert found[BEST].label == BEST
    assert "0, chosen" in found[BEST].notes[0]
    assert found[PERFECT].estimate().value == 0
    assert found[BASE].estimate().value == 1


def test_what_is_told_has_differences_from_the_controls(contest: Contest):
    base, best, *_ = contest.controls()
    own = Contender("all right", "routing", tuple(
        alone(list(contest.adapters)[int(row.prompt[-1])]) for row in contest.rows))  # fmt: skip
    found = told(contest.outcome(own), [base, best])
    assert found["value"] == 1
    assert found["low"] < 1
    assert found["against"][BASE]["value"] == 1
    assert found["against"][BEST]["behind"] == 0
    assert found["against"][BEST]["p"] < 0.001


def test_plans_of_merges_and_of_routes():
    pool = [member.adapter for member in members()[:3]]
    kept = {}
    merged = compose("linear", pool)
    assert isinstance(merged, Merged)
    assert row_plans(merged, [], 2, "m", kept.__setitem__) == [alone("m")] * 2
    assert kept["m"].id == merged.adapter.id
    routed = compose("selection", pool)
    near = [{pool[1].id: 0.9, pool[2].id: 0.1}, {pool[2].id: 0.3}]
    found = row_plans(routed, near, 2, "", kept.__setitem__)
    assert found == [alone(pool[1].id), alone(pool[2].id)]
    everyone = compose("mixture", pool, top_k=3)
    assert len(row_plans(everyone, [], 2, "", kept.__setitem__)) == 2
    assert RowPlan() not in found
