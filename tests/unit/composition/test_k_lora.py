import numpy as np
import pytest

from lora_studio.composition import compose
from lora_studio.errors import InvalidRequest
from tests.unit.composition.playing import CONTENT, CONV, PROJ, STYLE, TEXT, image_adapter

SHARED = (CONTENT, STYLE, CONV, PROJ)
STEPS = 30


def pair():
    """Two adapters whose layers differ in strength, so that they change hands one by one."""
    content, style = image_adapter(1, rank=2), image_adapter(2, rank=3)
    sizes = dict(zip(SHARED, (0.4, 0.9, 1.3, 2.0), strict=True))
    factors = {n: m.scaled(sizes.get(n, 1.0)) for n, m in content.factors.items()}
    return type(content)(factors, content.card), style


def chosen_the_long_way(content, style, scale):
    """Module -> whether the content acts, with the top entries taken anew at one step."""
    ours = {n: np.abs(content.factors[n].delta()).astype(float) for n in SHARED}
    theirs = {n: np.abs(style.factors[n].delta()).astype(float) for n in SHARED}
    ratios = np.array([ours[n].sum() / theirs[n].sum() for n in SHARED])
    gamma = ratios[ratios < 3 * ratios.mean()].mean()
    found = {}
    for name in SHARED:
        k = content.factors[name].rank * style.factors[name].rank
        top_c, top_s = (np.sort(d.ravel())[::-1][:k].sum() for d in (ours[name], theirs[name]))
        found[name] = top_c / gamma > scale * top_s
    return found


@pytest.mark.parametrize("variant", ["s", "s*"])
def test_every_step_chooses_as_the_paper_s_rule_does(variant):
    content, style = pair()
    branch = compose("k_lora", [content, style], [0.9, 0.6], variant=variant).branches[0]
    seen = set()
    for step in range(STEPS):
        scale = 1.5 * step / STEPS + (0.5 if variant == "s" else 1.275)
        scale = scale % 1.5 if variant == "s*" else scale
        expected = chosen_the_long_way(content, style, scale)
        weights = branch.schedule(step, STEPS)
        for name in SHARED:
            takes = bool(expected[name])
            assert weights[content.id][name] == (0.9 if takes else 0.0), (step, name)
            assert weights[style.id][name] == (0.0 if takes else 0.6), (step, name)
        seen.add(tuple(expected.values()))
    assert len(seen) > 2, "layers change hands at different steps"


def test_the_choice_does_not_depend_on_weights_or_on_the_adapters_scale():
    content, style = pair()
    strong = style.scaled(40.0)
    plain = compose("k_lora", [content, style]).branches[0].schedule
    scaled = compose("k_lora", [content, strong], [3.0, 0.1]).branches[0].schedule
    for step in range(STEPS):
        left, right = plain(step, STEPS), scaled(step, STEPS)
        for name in SHARED:
            assert bool(left[content.id][name]) == bool(right[content.id][name])


def test_modules_of_one_adapter_only_always_act_and_the_text_encoder_has_both():
    content, style = image_adapter(1, modules=(CONTENT, CONV, TEXT)), image_adapter(2)
    plan = compose("k_lora", [content, style], [1.0, 0.5])
    for step in range(STEPS):
        weights = plan.branches[0].schedule(step, STEPS)
        assert weights[style.id][STYLE] == weights[style.id][PROJ] == 0.5
        assert TEXT not in weights[content.id]
        text = plan.branches[0].text_weights(step, STEPS)
        assert text == {content.id: 1.0, style.id: 0.5}
    assert "2 modules are in one adapter only" in plan.notes[0]


def test_the_curves_are_the_share_of_modules_times_the_weight():
    content, style = pair()
    curves = compose("k_lora", [content, style], variant="s").curves
    for ours, theirs in zip(curves[content.id], curves[style.id], strict=True):
        assert ours + theirs == pytest.approx(1.0)
    assert curves[content.id][0] > curves[content.id][-1]


def test_an_adapter_without_any_effect_leaves_every_layer_to_the_other():
    content = image_adapter(1)
    nothing = image_adapter(2, scaling=0.0)
    for first, second, acting in ((content, nothing, content), (nothing, content, content)):
        weights = compose("k_lora", [first, second]).branches[0].schedule(29, STEPS)
        assert all(weights[acting.id][name] == 1.0 for name in SHARED)


def test_more_than_two_adapters_are_refused():
    with pytest.raises(InvalidRequest, match="two adapters, content and style, and here are 3"):
        compose("k_lora", [image_adapter(i) for i in range(3)])
