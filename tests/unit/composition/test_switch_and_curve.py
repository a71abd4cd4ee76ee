"""Plans of one branch whose strengths follow the steps, and the plain mean of branches."""

import pytest
import torch

from lora_studio.composition import compose
from lora_studio.composition.schedule import constant
from lora_studio.errors import InvalidRequest, NotFound
from tests.unit.composition.playing import (
    CONTENT,
    CONV,
    STYLE,
    VIEW,
    image_adapter,
    noise,
    predicted,
)


def cast(count):
    adapters = [image_adapter(i) for i in range(count)]
    return adapters, [a.id for a in adapters]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("tau", [1, 2, 5])
def test_switch_follows_the_paper_s_formula_with_each_one_s_own_weight(count, tau):
    adapters, ids = cast(count)
    weights = [0.8, 1.0, -0.5][:count]
    branch = compose("switch", adapters, weights, tau=tau).branches[0]
    for t in range(1, 41):
        index = ((t - 1) % (count * tau)) // tau
        expected = {ids[index]: weights[index]}
        assert branch.schedule(t - 1, 40) == expected
        assert branch.text_weights(t - 1, 40) == expected


def test_switch_says_when_a_round_is_longer_than_a_usual_run():
    adapters, _ = cast(3)
    assert compose("switch", adapters, tau=5).notes == ()
    assert "One round takes 30 steps" in compose("switch", adapters, tau=10).notes[0]


def test_switch_draws_its_turns():
    adapters, ids = cast(2)
    curves = compose("switch", adapters, [0.5, 1.0], tau=5).curves
    assert curves[ids[0]] == (0.5,) * 5 + (0.0,) * 5 + (0.5,) * 5 + (0.0,) * 5 + (0.5,)
    assert curves[ids[1]][5:10] == (1.0,) * 5


def test_composite_is_the_uniform_mean_of_branches_each_at_its_own_weight():
    adapters, ids = cast(3)
    weights = [0.8, 1.0, -0.5]
    plan = compose("composite", adapters, weights)
    assert plan.passes == 3
    parts = {i: predicted(branch, 2, 12) for i, branch in enumerate(plan.branches)}
    aggregator = plan.aggregator()
    assert list(aggregator.wanted(2, 12)) == [0, 1, 2]
    torch.testing.assert_close(aggregator.combine(parts, VIEW), sum(parts.values()) / 3)
    for branch, name, weight in zip(plan.branches, ids, weights, strict=True):
        assert branch.schedule(2, 12) == branch.text_weights(2, 12) == {name: weight}


def test_composite_commutes_with_guidance():
    guided = {i: noise(i)[0] + 7.5 * (noise(i)[1] - noise(i)[0]) for i in range(2)}
    mean = compose("composite", cast(2)[0]).aggregator().combine({0: noise(0), 1: noise(1)}, VIEW)
    torch.testing.assert_close(mean[0] + 7.5 * (mean[1] - mean[0]), sum(guided.values()) / 2)


def strengths(plan, adapter_id, steps=20):
    return [plan.branches[0].schedule(step, steps).get(adapter_id, 0.0) for step in range(steps)]


def test_a_curve_starts_and_stops_the_others_and_leaves_the_first_alone():
    adapters, ids = cast(3)
    plan = compose("curve", adapters, [1.0, 0.5, 2.0], start=0.25, stop=0.75, fade=0.0)
    assert strengths(plan, ids[0]) == [1.0] * 20
    assert strengths(plan, ids[1]) == [0.0] * 5 + [0.5] * 10 + [0.0] * 5
    assert strengths(plan, ids[2]) == [0.0] * 5 + [2.0] * 10 + [0.0] * 5
    for step in (0, 10, 19):
        assert plan.branches[0].text_weights(step, 20) == dict(
            zip(ids, [1.0, 0.5, 2.0], strict=True)
        )


@pytest.mark.parametrize(("who", "moving"), [("all", {0, 1}), ("first", {0}), ("others", {1})])
def test_a_curve_moves_whom_it_is_told_to(who, moving):
    adapters, ids = cast(2)
    plan = compose("curve", adapters, start=0.5, fade=0.0, who=who)
    assert {k for k in range(2) if strengths(plan, ids[k])[0] == 0.0} == moving
    assert all(strengths(plan, name)[19] == 1.0 for name in ids)


def test_a_fade_is_a_ramp_inside_the_window_and_none_at_the_ends_of_the_run():
    adapters, ids = cast(1)
    ramps = strengths(compose("curve", adapters, start=0.2, stop=0.8, fade=0.2, who="all"), ids[0])
    assert ramps[:4] == ramps[16:] == [0.0] * 4
    assert ramps[4:8] == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert ramps == pytest.approx(ramps[::-1])
    assert ramps[8:12] == [1.0] * 4
    whole = compose("curve", adapters, start=0.0, stop=1.0, fade=0.3, who="all")
    assert strengths(whole, ids[0]) == [1.0] * 20


def test_a_curve_that_stops_before_it_starts_is_refused():
    with pytest.raises(InvalidRequest, match="start must come first"):
        compose("curve", cast(2)[0], start=0.5, stop=0.5)


def test_the_same_adapter_twice_acts_with_both_weights():
    adapter = image_adapter(1)
    plan = compose("curve", [adapter, adapter], [1.0, 0.5], start=0.5, fade=0.0)
    assert strengths(plan, adapter.id) == [1.0] * 10 + [1.5] * 10


def test_b_lora_takes_one_block_of_the_first_and_the_next_block_of_the_others():
    adapters, ids = cast(3)
    plan = compose("block_lora", adapters, [1.0, 0.7, -0.4], family="sdxl")
    for step in (0, 19):
        assert plan.branches[0].schedule(step, 20) == {
            ids[0]: {CONTENT: 1.0},
            ids[1]: {STYLE: 0.7},
            ids[2]: {STYLE: -0.4},
        }
        assert plan.branches[0].text_weights(step, 20) == {}
    assert "1 of 5 modules act: those of its content block" in plan.notes[0]


def test_b_lora_is_for_sdxl_and_for_adapters_that_have_its_blocks():
    with pytest.raises(InvalidRequest, match=r"made for sdxl, .* of the family sd1"):
        compose("block_lora", cast(2)[0], family="sd1")
    other = image_adapter(5, modules=(CONV,))
    with pytest.raises(InvalidRequest, match="adapter 5 adapts nothing in the style block"):
        compose("block_lora", [image_adapter(1), other], family="sdxl")


def test_an_unknown_method_suggests_the_nearest():
    with pytest.raises(NotFound, match="'composite'"):
        compose("composit", [image_adapter(1)])


def test_a_branch_whose_strengths_are_by_module_says_nothing_to_the_text_encoder():
    assert constant({"a": {CONTENT: 1.0}}).text_weights(0, 10) == {}
