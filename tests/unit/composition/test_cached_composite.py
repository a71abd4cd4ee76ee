import pytest
import torch

from lora_studio.composition import compose
from lora_studio.composition.denoising.cached_composite import weights
from lora_studio.composition.denoising.frequencies import by_high_frequencies, high_share
from lora_studio.composition.schedule import StepView
from tests.unit.composition.playing import VIEW, image_adapter, noise, play

WHOLE_STEPS = {
    ("even", 1): list(range(20)),
    ("even", 3): [0, 3, 6, 9, 12, 15, 18],
    ("both ends", 3): [0, 2, 4, 6, 8, 11, 14, 17, 18],
}


def cast(count):
    return [image_adapter(i) for i in range(count)]


def wanted(plan, steps=20):
    aggregator, found = plan.aggregator(), []
    for step in range(steps):
        asked = list(aggregator.wanted(step, steps))
        found.append(asked)
        aggregator.combine({i: noise(i, step) for i in asked}, VIEW)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("dominance", [0.0, 0.5, 1.0])
def test_all_weights_sum_to_the_number_of_adapters(count, dominance):
    for refreshed in range(8):
        lead, other = weights(count, refreshed, dominance)
        assert lead + (count - 1) * other == pytest.approx(count)
        assert lead >= other or count == 1


def test_the_leader_s_weight_decays_as_the_paper_says():
    for refreshed, w in enumerate([3.5, 3.0, 2.75, 2.625]):
        lead, other = weights(4, refreshed, 1.0)
        assert lead / other == pytest.approx(w)


@pytest.mark.parametrize(("schedule", "refresh"), WHOLE_STEPS)
def test_all_are_asked_at_a_refresh_and_else_the_leader_alone(schedule, refresh):
    plan = compose("cached_composite", cast(3), refresh=refresh, schedule=schedule)
    due = WHOLE_STEPS[schedule, refresh]
    asked = wanted(plan)
    assert [step for step, some in enumerate(asked) if len(some) == 3] == due
    leaders = [sum(at <= step for at in due) - 1 for step in range(20)]
    for step, some in enumerate(asked):
        assert len(some) == 3 or some == [leaders[step] % 3]
    assert plan.passes == pytest.approx(sum(map(len, asked)) / 20)


def test_at_refresh_one_and_no_dominance_it_is_composite():
    adapters = cast(3)
    plan = compose("cached_composite", adapters, [1.0, 0.5, -0.2], refresh=1, dominance=0.0)
    same = compose("composite", adapters, [1.0, 0.5, -0.2])
    torch.testing.assert_close(play(plan)[0], play(same)[0])


def test_a_cached_step_adds_the_remembered_residuals_to_the_leader():
    aggregator = compose("cached_composite", cast(2), refresh=2).aggregator()
    first = {i: noise(i, 0) for i in range(2)}
    lead, other = weights(2, 0, 1.0)
    found = aggregator.combine(first, VIEW)
    torch.testing.assert_close(found, (lead * first[0] + other * first[1]) / 2)
    assert list(aggregator.wanted(1, 20)) == [0]
    now = noise(0, 1)
    guess = now + first[1] - first[0]
    found = aggregator.combine({0: now}, VIEW)
    torch.testing.assert_close(found, (lead * now + other * guess) / 2)


def test_every_picture_remembers_its_own_predictions():
    plan = compose("cached_composite", cast(2), refresh=10)
    assert play(plan)[0].equal(play(plan)[0])
    assert plan.aggregator() is not plan.aggregator()


def wave(frequency, shape=(2, 3, 16, 24)):
    """A prediction that varies `frequency` times from left to right, on a faint ground."""
    across = torch.arange(shape[-1]) / shape[-1]
    return torch.cos(2 * torch.pi * frequency * across).expand(shape) + 0.01 * noise(0, shape=shape)


def test_the_finest_prediction_leads_first_where_asked():
    plan = compose("cached_composite", cast(3), refresh=4, order="high frequencies first")
    aggregator = plan.aggregator()
    parts = {0: wave(2), 1: wave(11), 2: wave(5)}
    view = StepView(0, 20, ("uncond", "cond"), (16, 24))
    lead, other = weights(3, 0, 1.0)
    found = aggregator.combine(parts, view)
    torch.testing.assert_close(found, (lead * parts[1] + other * (parts[0] + parts[2])) / 3)
    assert list(aggregator.wanted(1, 20)) == [1]
    assert plan.curves == {}


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (8, 8), (64, 48)])
def test_high_frequencies_are_measured_on_rings_that_exist_at_that_size(size):
    view = StepView(0, 4, ("cond",), size)
    share = high_share(noise("x", shape=(1, 4, *size)), view)
    assert 0.0 <= share <= 1.0
    equal = [noise("x", shape=(1, 4, *size))] * 3
    assert by_high_frequencies(equal, view) == [0, 1, 2]
