import base64
import io

import numpy as np
import pytest
from PIL import Image

from lora_studio.composition import Recipe, Source
from lora_studio.composition.denoising.masks import feathered, mask_of
from lora_studio.errors import InvalidRequest


def png(values):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(values, dtype=np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def recipe(region):
    return Recipe.from_dict({"sources": [{"id": "a", "region": region}], "modality": "image"})


def test_a_region_is_part_of_the_request_only_where_there_is_one():
    plain, boxed = recipe({}), recipe({"box": [0, 0.25, 1, 0.5]})
    assert "region" not in plain.to_dict()["sources"][0]
    assert plain.id == Recipe({}, (Source("a"),), modality="image").id != boxed.id
    assert Recipe.from_yaml(boxed.to_yaml()) == boxed
    assert boxed.sources[0].region == {"box": [0.0, 0.25, 1.0, 0.5]}


def test_a_painted_mask_survives_the_recipe():
    mask = png([[0, 255], [255, 0]])
    again = Recipe.from_yaml(recipe({"mask": mask}).to_yaml())
    assert again.sources[0].region == {"mask": mask}
    np.testing.assert_array_equal(mask_of(again.sources[0].region).at(2, 2), [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ([0, 0, 1, 1], "A region is"),
        ({"circle": 1}, "A region is"),
        ({"box": [0, 0, 1, 1], "mask": "x"}, "A region is"),
        ({"box": [0.5, 0, 0.5, 1]}, "x0 < x1"),
        ({"box": [0, 0, 1, 1.5]}, "from 0 to 1"),
        ({"box": [0, 0, 1]}, "x0, y0, x1, y1"),
        ({"box": [0, 0, 1, True]}, "x0, y0, x1, y1"),
        ({"box": [0, 0, float("nan"), 1]}, "x0 < x1"),
        ({"mask": "not base64!"}, "PNG in base64"),
        ({"mask": base64.b64encode(b"GIF89a" + bytes(64)).decode()}, "PNG in base64"),
        ({"mask": "A" * 400_000}, "at most 256 kB"),
        ({"mask": 7}, "PNG in base64"),
    ],
)
def test_a_wrong_region_says_what_is_expected(region, message):
    with pytest.raises(InvalidRequest, match=message):
        recipe(region)


def test_a_mask_too_large_to_open_is_refused_by_its_header():
    whole = bytearray(base64.b64decode(png([[255]])))
    whole[16:24] = (100_000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidRequest, match="4096 pixels"):
        recipe({"mask": base64.b64encode(whole).decode()})


def test_a_broken_picture_is_refused_when_it_is_drawn():
    cut = base64.b64encode(base64.b64decode(png([[255] * 64] * 64))[:50]).decode()
    with pytest.raises(InvalidRequest, match="cannot be read"):
        mask_of({"mask": cut})


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (8, 8), (64, 48)])
def test_boxes_that_share_a_border_leave_nothing_between_them(size):
    left, right = mask_of({"box": [0, 0, 0.3, 1]}), mask_of({"box": [0.3, 0, 1, 1]})
    np.testing.assert_allclose(left.at(*size) + right.at(*size), 1.0, atol=1e-12)
    assert left.at(*size).mean() == pytest.approx(0.3)


@pytest.mark.parametrize("size", [(3, 2), (16, 16), (40, 24)])
def test_a_painted_mask_keeps_its_share_of_the_picture_at_any_size(size):
    values = np.random.default_rng(0).integers(0, 256, (16, 12))
    drawn = mask_of({"mask": png(values)}).at(*size)
    assert drawn.shape == size
    assert drawn.mean() == pytest.approx(values.mean() / 255)


def test_a_feather_softens_borders_and_leaves_a_full_mask_full():
    np.testing.assert_allclose(feathered(np.ones((9, 16)), 0.2), 1.0)
    hard = mask_of({"box": [0, 0, 0.5, 1]}).at(8, 16)
    soft = feathered(hard, 0.1)
    assert np.all(np.diff(soft[0]) < 0)
    assert soft[0, 0] > 0.99 > soft[0, 7] > 0.5 > soft[0, 8] > 0.01 > soft[0, 15]
    np.testing.assert_array_equal(feathered(hard, 0.0), hard)
