"""The picture world: the same scene gives the same picture, and captions say what is there."""

import numpy as np
import pytest

from lora_studio.demo.image.config import MAX_TOKENS
from lora_studio.demo.image.judge import GREY, half
from lora_studio.demo.image.paint import canvas, render
from lora_studio.demo.image.scene import Scene, caption, draw_pair, draw_scene
from lora_studio.demo.image.tokenizer import new_tokenizer
from lora_studio.demo.image.words import HELD_OBJECTS, OBJECTS, PLAIN, STYLES, known_words


def test_a_seed_always_gives_the_same_scenes_and_pictures():
    first, again = (draw_scene(np.random.default_rng(7)) for _ in range(2))
    assert first == again
    assert np.array_equal(render(first), render(again))


@pytest.mark.parametrize("style", [PLAIN, *STYLES])
def test_every_object_can_be_drawn_in_every_style(style):
    pictures = [render(Scene(o, "red", "sky", style=style)) for o in (*OBJECTS, *HELD_OBJECTS)]
    assert {p.shape for p in pictures} == {(64, 64, 3)}
    assert {p.dtype for p in pictures} == {np.dtype(np.uint8)}
    assert len({p.tobytes() for p in pictures}) == len(pictures)


def test_a_caption_names_all_that_was_chosen_and_nothing_else():
    scene = Scene("fish", "pink", "mint", "left", "neon")
    assert caption(scene) == "a pink fish on the left, mint background, neon style"
    assert caption(Scene("cup", "red", "sky")) == "a red cup, sky background"
    assert caption(scene, short=True) == "a pink fish on the left, neon style"


def test_scenes_of_the_base_show_nothing_that_is_held_back():
    rng = np.random.default_rng(3)
    scenes = [draw_scene(rng) for _ in range(300)]
    assert {scene.object for scene in scenes} == set(OBJECTS)
    assert {scene.style for scene in scenes} == {PLAIN}
    assert not {word for s in scenes for word in caption(s).split()} & {*HELD_OBJECTS, *STYLES}


def test_the_position_in_the_caption_is_the_position_in_the_picture():
    def centre(position):
        picture = render(Scene("ball", "red", "midnight", position)).astype(float)
        red = np.clip(picture[..., 0] - picture[..., 2], 0, None)
        return (red.sum(0) * np.arange(64)).sum() / red.sum()

    assert centre("left") < 26 < centre("middle") < 38 < centre("right")


def test_a_pair_has_an_object_on_either_side_and_a_caption_that_fits_the_encoder():
    rng, tokenizer = np.random.default_rng(4), new_tokenizer()
    pairs = [draw_pair(rng, ("fish",), ("star",), STYLES) for _ in range(20)]
    for pair in pairs:
        shared = [(s.background, s.style, s.phase) for s in (pair.left, pair.right)]
        assert shared[0] == shared[1]
        assert len(tokenizer(caption(pair)).input_ids) <= MAX_TOKENS
    left, right = pairs[0].left, pairs[0].right
    assert caption(pairs[0]) == (
        f"a {left.colour} fish on the left, a {right.colour} star on the right, "
        f"{left.background} background, {left.style} style"
    )


def test_the_objects_of_a_pair_do_not_reach_the_middle():
    rng = np.random.default_rng(6)
    for _ in range(20):
        pair = draw_pair(rng, HELD_OBJECTS, HELD_OBJECTS)
        one, other = (
            canvas(scene).outline < 0 for scene in (pair.left, pair.right)
        )  # (128, 128) of samples
        assert not one[:, 64:].any()
        assert not other[:, :64].any()


def test_halves_of_a_pair_are_judged_apart():
    picture = render(draw_pair(np.random.default_rng(8)))[None]
    left, right = half(picture, "left"), half(picture, "right")
    assert np.array_equal(left[:, :, :32], picture[:, :, :32])
    assert np.array_equal(right[:, :, 32:], picture[:, :, 32:])
    assert set(np.unique(left[:, :, 32:])) == set(np.unique(right[:, :, :32])) == {GREY}


def test_every_word_of_the_world_is_one_token():
    tokenizer = new_tokenizer()
    for word in known_words():
        ids = tokenizer(word, add_special_tokens=False).input_ids
        assert len(ids) == 1, word
