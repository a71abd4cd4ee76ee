import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from lora_studio.composition import Recipe, Source, compose, run_recipe
from lora_studio.composition.denoising.masks import mask_of
from lora_studio.composition.denoising.regional import Ground
from lora_studio.composition.schedule import StepView
from lora_studio.errors import InvalidRequest
from tests.unit.composition.playing import VIEW, image_adapter, noise, play

LEFT, RIGHT = {"box": [0.0, 0.0, 0.5, 1.0]}, {"box": [0.5, 0.0, 1.0, 1.0]}


def planned(*regions, feather=0.0):
    pool = {str(i): image_adapter(i) for i in range(len(regions))}
    sources = tuple(Source(i, region=r) for i, r in zip(pool, regions, strict=True))
    recipe = Recipe({}, sources, "regional", {"feather": feather}, modality="image")
    return run_recipe(recipe, pool.__getitem__)


def combined(plan, shape=(2, 4, 6, 8), view=VIEW):
    parts = {i: noise(i, shape=shape) for i in range(len(plan.branches))}
    return plan.aggregator().combine(parts, view), parts


@pytest.mark.parametrize("feather", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("size", [(6, 8), (16, 16), (33, 20)])
@pytest.mark.parametrize(
    "boxes", [([0, 0, 0.5, 1], [0.5, 0, 1, 1]), ([0.1, 0.1, 0.4, 0.9], [0.3, 0.2, 0.8, 0.7])]
)
def test_shares_are_a_partition_of_the_picture(feather, size, boxes):
    masks = [mask_of({"box": box}) for box in boxes]
    shares = Ground(masks, feather, True).shares(*size)
    assert shares.shape == (3, *size)
    np.testing.assert_allclose(shares.sum(0), 1.0, atol=1e-6)
    assert shares.min() >= 0.0


def test_the_base_model_has_no_part_where_soft_regions_meet():
    top_left, top_right = {"box": [0, 0, 0.5, 0.5]}, {"box": [0.5, 0, 1, 0.5]}
    masks = [mask_of(top_left), mask_of(top_right)]
    shares = Ground(masks, 0.1, True).shares(32, 16)
    np.testing.assert_allclose(shares[2, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(shares[2, -1], 1.0, atol=1e-6)
    assert shares[0, 0, 7] == pytest.approx(shares[1, 0, 8])


def test_each_side_is_predicted_by_its_own_adapter():
    plan = planned(LEFT, RIGHT)
    assert plan.passes == len(plan.branches) == 2
    found, parts = combined(plan)
    torch.testing.assert_close(found[..., :4], parts[0][..., :4])
    torch.testing.assert_close(found[..., 4:], parts[1][..., 4:])


def test_the_base_model_fills_what_the_regions_leave_open():
    plan = planned(LEFT)
    assert plan.passes == 2
    assert plan.branches[1].schedule(0, 10) == plan.branches[1].text_weights(0, 10) == {}
    found, parts = combined(plan)
    torch.testing.assert_close(found[..., :4], parts[0][..., :4])
    torch.testing.assert_close(found[..., 4:], parts[1][..., 4:])


def test_a_source_without_region_acts_everywhere_and_overlaps_are_means():
    plan = planned({}, RIGHT)
    assert plan.passes == 2
    found, parts = combined(plan)
    torch.testing.assert_close(found[..., :4], parts[0][..., :4])
    torch.testing.assert_close(found[..., 4:], ((parts[0] + parts[1]) / 2)[..., 4:])


def test_without_any_region_it_is_composite_and_says_so():
    adapters = [image_adapter(1), image_adapter(2)]
    plan = compose("regional", adapters)
    torch.testing.assert_close(play(plan)[0], play(compose("composite", adapters))[0])
    assert "as in Composite" in plan.notes[0]


def test_packed_tokens_lie_row_by_row():
    plan = planned(LEFT, RIGHT, feather=0.1)
    picture, parts = combined(plan)
    packed = {i: p.flatten(2).transpose(1, 2) for i, p in parts.items()}  # (halves, tokens, ch)
    found = plan.aggregator().combine(packed, VIEW)
    torch.testing.assert_close(found, picture.flatten(2).transpose(1, 2))


def test_tokens_without_a_known_place_are_refused_with_the_reason():
    view = StepView(0, 4, ("cond",), (48,))
    with pytest.raises(InvalidRequest, match="does not say where in the picture"):
        combined(planned(LEFT, RIGHT), shape=(1, 48, 4), view=view)


def test_a_black_mask_is_refused_by_the_adapter_s_name():
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    black = {"mask": base64.b64encode(buffer.getvalue()).decode()}
    with pytest.raises(InvalidRequest, match="mask of adapter 0 is black"):
        planned(black, LEFT)
