"""Training a retriever head: it learns what tasks have in common, and the report is honest."""

from __future__ import annotations

import numpy as np
import pytest

from lora_studio.errors import Cancelled, InvalidRequest
from lora_studio.retrieval.retriever import unit_rows
from lora_studio.training import retriever_head as training
from lora_studio.training.retriever_head import HeadSpec, fit_head, trained_on
from lora_studio.training.retriever_report import Interval, bootstrap, compare, ranks, table

DIM, NOISY = 24, 6
SPEC = HeadSpec(steps=60, rate=1e-2, temperature=0.1)
RNG = np.random.default_rng(0)
CENTRES = np.concatenate([np.zeros((8, NOISY)), RNG.normal(size=(8, DIM - NOISY))], 1)


def drawn(tasks: range, n: int, seed: int) -> dict[str, np.ndarray]:
    """Samples of tasks, disturbed in the first axes only, by far more than tasks differ."""
    rng = np.random.default_rng(seed)
    found = {}
    for task in tasks:
        rows = np.repeat(CENTRES[[task]], n, 0)
        rows[:, :NOISY] += 6 * rng.normal(size=(n, NOISY))
        found[f"task {task}"] = unit_rows(rows)
    return found


def test_what_disturbs_all_tasks_is_learned_away_for_tasks_never_seen() -> None:
    head = fit_head("minilm", drawn(range(4), 12, 1), SPEC)
    assert head.facts["after"] < 0.7 * head.facts["before"]
    places = {task: rows.mean(0)[None] for task, rows in drawn(range(8), 12, 2).items()}
    lines = compare(places, drawn(range(8), 40, 3), head, [f"task {i}" for i in range(4)])
    (unseen,) = [line for line in lines if line.tasks == "unseen" and line.k == 1]
    assert unseen.gain.low > 0.05
    assert unseen.prompts == 160
    assert "| unseen | 1 |" in table(lines)


def test_the_gradient_is_that_of_the_loss() -> None:
    vectors = np.concatenate(list(drawn(range(3), 4, 5).values())).astype(np.float64)
    same = training._same([4, 4, 4])
    update = np.random.default_rng(1).normal(size=(DIM, DIM)) * 0.05
    slope = training._loss(vectors, update, same, 0.2)[1]
    for i, j in [(0, 0), (3, 7), (20, 1)]:
        step = np.zeros((DIM, DIM))
        step[i, j] = 1e-5
        up, down = (training._loss(vectors, update + s, same, 0.2)[0] for s in (step, -step))
        assert (up - down) / 2e-5 == pytest.approx(slope[i, j], rel=1e-4, abs=1e-7)


def test_the_same_samples_give_the_same_head() -> None:
    first, second = (fit_head("minilm", drawn(range(3), 5, 1), SPEC) for _ in range(2))
    assert first.id == second.id


def test_no_steps_leave_the_embedder_as_it_is() -> None:
    assert not fit_head("minilm", drawn(range(3), 5, 1), HeadSpec(steps=0)).update.any()


def test_tasks_are_drawn_by_the_seed() -> None:
    names = [f"t{i}" for i in range(10)]
    assert len(trained_on(names, HeadSpec())) == 4
    assert trained_on(names, HeadSpec()) == trained_on(names[::-1], HeadSpec())
    assert trained_on(names, HeadSpec()) != trained_on(names, HeadSpec(seed=1))
    assert len(trained_on(names, HeadSpec(fraction=0.01))) == 2
    with pytest.raises(InvalidRequest, match="fraction"):
        trained_on(names, HeadSpec(fraction=0))


def test_too_little_to_contrast_is_refused() -> None:
    for few in (drawn(range(1), 5, 1), drawn(range(3), 1, 1)):
        with pytest.raises(InvalidRequest, match="two or more"):
            fit_head("minilm", few)


def test_training_can_be_cancelled() -> None:
    def check() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        fit_head("minilm", drawn(range(3), 5, 1), SPEC, check=check)


def test_a_task_is_as_near_as_its_nearest_adapter() -> None:
    places = {"a": np.array([[1.0, 0], [0, 1]]), "b": np.array([[0.8, 0.6]])}
    found = ranks(places, {"a": np.array([[0.1, 1.0]]), "b": np.array([[1.0, 0.05]])}, None)
    assert (found["a"].tolist(), found["b"].tolist()) == ([0], [1])


def test_the_bootstrap_knows_that_few_tasks_are_few() -> None:
    rng = np.random.default_rng(0)
    one_task = bootstrap([np.ones(200), np.zeros(200)], rng, 500)
    assert np.std(one_task) > 0.3
    assert np.std(bootstrap([np.ones(200)] * 9, rng, 500)) == pytest.approx(0)


def test_intervals_hold_their_mean() -> None:
    head = fit_head("minilm", drawn(range(3), 6, 1), SPEC)
    for line in compare(drawn(range(5), 3, 2), drawn(range(5), 20, 3), head, ["task 0"]):
        for found in (line.untuned, line.tuned, line.gain):
            assert isinstance(found, Interval)
            assert found.low - 1e-9 <= found.mean <= found.high + 1e-9
