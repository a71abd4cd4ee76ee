import pytest
import torch

from lora_studio.composition import compose
from lora_studio.composition.denoising.patch_weights import Patches
from lora_studio.composition.schedule import StepView
from tests.unit.composition.playing import VIEW, image_adapter, noise


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_weights_of_a_patch_sum_to_one_and_are_the_same_all_over_it(patch, size):
    own, base = noise("own", shape=(3, 4, *size)), noise("base", shape=(4, *size))
    shares = Patches(3, patch, 0.1).shares(own, base)
    assert shares.shape == (3, *size)
    torch.testing.assert_close(shares.sum(0), torch.ones(size))
    for top in range(0, size[0], patch):
        for left in range(0, size[1], patch):
            block = shares[:, top : top + patch, left : left + patch].flatten(1)
            assert (block == block[:, :1]).all()


def test_a_share_is_the_softmax_of_one_minus_the_cosine_with_the_base_model():
    own, base = noise("own", shape=(2, 4, 4, 4)), noise("base", shape=(4, 4, 4))
    shares = Patches(2, 2, 0.3).shares(own, base)
    block = (slice(None), slice(2, 4), slice(0, 2))
    distance = torch.stack(
        [1 - torch.cosine_similarity(o[block].flatten(), base[block].flatten(), dim=0) for o in own]
    )
    expected = (distance / 0.3).softmax(0).float()
    torch.testing.assert_close(shares[:, 2, 0], expected)


def test_the_adapter_that_departs_from_the_base_model_wins_where_it_does():
    base = noise("base", shape=(2, 4, 6, 8))
    left, right = base.clone(), base.clone()
    left[..., :4] *= -1
    right[..., 4:] *= -1
    plan = compose("patch_weights", [image_adapter(1), image_adapter(2)], temperature=0.01)
    found = plan.aggregator().combine({0: base, 1: left, 2: right}, VIEW)
    torch.testing.assert_close(found[1], -base[1])
    torch.testing.assert_close(found[0], base[0])


def test_a_large_temperature_is_the_mean_and_the_half_without_prompt_is_the_base_s():
    plan = compose("patch_weights", [image_adapter(1), image_adapter(2)], temperature=1.0)
    base = noise("base")
    near = {0: base, 1: base + 1e-4 * noise(1), 2: base + 1e-4 * noise(2)}
    found = plan.aggregator().combine(near, VIEW)
    torch.testing.assert_close(found[1], ((near[1] + near[2]) / 2)[1], rtol=0, atol=1e-6)
    assert found[0].equal(base[0])
    turned = StepView(0, 4, ("cond", "uncond"), VIEW.size)
    swapped = {i: p.flip(0) for i, p in near.items()}
    assert plan.aggregator().combine(swapped, turned).flip(0).equal(found)
    alone = StepView(0, 4, ("uncond",), VIEW.size)
    assert plan.aggregator().combine({i: p[:1] for i, p in near.items()}, alone).equal(base[:1])


def test_packed_tokens_are_weighed_where_they_lie():
    plan = compose("patch_weights", [image_adapter(1), image_adapter(2)], patch=2)
    parts = {i: noise(i) for i in range(3)}
    packed = {i: p.flatten(2).transpose(1, 2) for i, p in parts.items()}
    whole = plan.aggregator().combine(parts, VIEW)
    found = plan.aggregator().combine(packed, VIEW)
    torch.testing.assert_close(found, whole.flatten(2).transpose(1, 2))
