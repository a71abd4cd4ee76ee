"""Inside a UNet's attention: what is watched, mixed and kept apart; nothing stays behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lora_studio.composition import compose
from lora_studio.composition.schedule import Attention, Scheduled, constant
from lora_studio.engines.attention import AttentionRules, Seat, token_places
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.errors import Cancelled, InvalidRequest
from tests.tiny_pipelines import clip_tokenizer, save_pipeline

WISH = Denoising(steps=3, width=32, height=32, guidance=4.0)
LEFT, RIGHT = {"box": [0.0, 0.0, 0.5, 1.0]}, {"box": [0.5, 0.0, 1.0, 1.0]}


@pytest.fixture
def engine(paired_engine):
    return paired_engine("sd1")


def picture(engine, plan, prompt="a cat, a dog", **more):
    return engine.generate([ImageRow("x", prompt, plan, 1)], replace(WISH, **more))[0].pixels


def difference(left, right):
    return int(np.abs(left.astype(int) - right).max())


def half(engine, **changes):
    given = {"shares": lambda h, w: np.full((2, h, w), 0.5, np.float32)} | changes
    branches = tuple(constant({adapter.id: 1.0}) for adapter in engine.adapters)
    return Scheduled(branches, lambda: First(), attention=Attention(**given))


class First:
    """Asks both branches and takes the first."""

    def wanted(self, step, steps):
        return (0, 1)

    def combine(self, predictions, view):
        return predictions[0]


def test_rules_that_ask_for_nothing_change_nothing(engine):
    first = plain({engine.adapters[0].id: 1.0})
    watched = half(engine, shares=None, words={"cat": ("cat",)})
    assert difference(picture(engine, first), picture(engine, watched)) <= 1


def test_all_of_one_branch_is_that_branch_and_a_mixture_is_not(engine):
    alone = picture(engine, plain({engine.adapters[0].id: 1.0}))

    def first_only(h, w):
        return np.stack([np.ones((h, w)), np.zeros((h, w))]).astype(np.float32)

    assert difference(alone, picture(engine, half(engine, shares=first_only))) <= 1
    assert difference(alone, picture(engine, half(engine))) > 5


def test_pictures_with_and_without_rules_share_a_batch(engine):
    base = ImageRow("base", "a cat, a dog", plain({}), 1)
    mixed = ImageRow("mixed", "a cat, a dog", half(engine), 1)
    together = engine.generate([base, mixed], WISH)
    for row, made in zip((base, mixed), together, strict=True):
        assert difference(engine.generate([row], WISH)[0].pixels, made.pixels) <= 1


def test_branches_that_are_mixed_stay_in_one_batch_however_small(engine):
    whole = picture(engine, half(engine))
    engine.max_batch, before = 1, engine.max_batch
    try:
        assert difference(whole, picture(engine, half(engine))) <= 1
    finally:
        engine.max_batch = before


def test_places_of_two_regions_do_not_see_each_other(engine):
    masks = np.zeros((2, 4, 4), np.float32)
    masks[0, :, :1] = masks[1, :, 3:] = 1.0
    plan = Attention(apart=lambda h, w: masks)
    rules = AttentionRules(engine.denoiser, [plan], {}, (4, 4))
    rules.seat([Seat(0, 0, "cond")], torch.device("cpu"))
    q, k = torch.randn(1, 1, 16, 3), torch.randn(1, 1, 16, 3)
    values = torch.eye(16)[None, None]  # attention itself comes out
    shares = rules.attend(q, k, values, cross=False)[0, 0].view(4, 4, 4, 4)
    assert shares[:, 0, :, 3].abs().max() == 0
    assert shares[:, 3, :, 0].abs().max() == 0
    assert (shares[:, 1] > 0).all()  # what lies in no region sees everything
    assert (shares[:, 0, :, :3] > 0).all()
    torch.testing.assert_close(shares.sum((2, 3)), torch.ones(4, 4))


def test_maps_say_where_a_branch_attends_to_words(engine):
    plan = Attention(words={"cat": ("cat",)})
    rules = AttentionRules(engine.denoiser, [plan], {(0, 0): {"cat": [2]}}, (4, 4))
    rules.seat([Seat(0, 0, "uncond"), Seat(0, 0, "cond")], torch.device("cpu"))
    q, k = torch.randn(2, 1, 16, 3), torch.randn(2, 1, 5, 3)
    rules.attend(q, k, torch.randn(2, 1, 5, 3), cross=True)
    expected = (q[1, 0] @ k[1, 0].T * 3**-0.5).softmax(-1)[:, 2].view(4, 4)
    torch.testing.assert_close(rules.maps(0)[0, "cat"], expected)
    rules.begin()
    assert rules.maps(0) == {}


@pytest.mark.parametrize("fails", [True, False])
def test_the_processors_are_put_back_whatever_happens(engine, fails):
    before = dict(engine.denoiser.attn_processors)

    def check():
        if fails:
            raise Cancelled

    try:
        engine.generate([ImageRow("x", "a cat", half(engine), 1)], WISH, check=check)
    except Cancelled:
        assert fails
    assert engine.denoiser.attn_processors == before


def test_a_transformer_is_refused(tmp_path):
    engine = ImageEngine(str(save_pipeline("flux", tmp_path)), "cpu")
    plan = Scheduled((constant({}),), attention=Attention(words={"cat": ("cat",)}))
    with pytest.raises(InvalidRequest, match="cannot be looked into"):
        engine.generate([ImageRow("x", "a cat", plan)], Denoising(steps=1, width=16, height=16))


def test_places_of_words_count_the_start_token_and_all_that_is_cut_off_is_left_out():
    tokenizer = clip_tokenizer()  # one token a letter, 16 in all
    assert token_places(tokenizer, "a cat", ["cat"]) == [2, 3, 4]
    assert token_places(tokenizer, "a cat", ["dog"]) == []
    assert token_places(tokenizer, "abcdefghijklmn cat", ["cat"]) == []


def test_words_of_a_region_are_asked_for_there(engine):
    one = engine.adapters[0]
    everywhere = {"box": [0.0, 0.0, 1.0, 1.0], "prompt": "a dog"}
    for method in ("regional", "regional_attention"):
        plan = compose(method, [one], regions=[everywhere], family="sd1")
        asked = picture(engine, plain({one.id: 1.0}), "a dog")
        assert difference(picture(engine, plan, "a cat"), asked) <= 1


def test_each_side_of_a_picture_depends_on_its_own_adapter_most(engine):
    regions = [LEFT, RIGHT]
    both = picture(engine, compose("regional_attention", engine.adapters, regions=regions))
    weaker = picture(
        engine, compose("regional_attention", engine.adapters, [1.0, 0.2], regions=regions)
    )
    change = np.abs(both.astype(int) - weaker).mean((0, 2))
    assert change[16:].mean() > 1.5 * change[:16].mean()


def test_isolation_changes_the_picture(engine):
    regions = [LEFT, RIGHT]
    apart, together = (
        compose("regional_attention", engine.adapters, regions=regions, isolate=isolate)
        for isolate in (True, False)
    )
    assert difference(picture(engine, apart), picture(engine, together)) > 0
