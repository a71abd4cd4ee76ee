"""CLoRA on a real pipeline: latents are moved so that words part, and nothing stays behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lora_studio.composition import compose
from lora_studio.composition.denoising.clora import AttentionMasks, Contrast
from lora_studio.composition.schedule import StepView
from lora_studio.engines import image as image_engine
from lora_studio.engines.image import Denoising, ImageRow
from lora_studio.errors import InvalidRequest
from tests.tiny_pipelines import random_adapter

WISH = Denoising(steps=4, width=32, height=32, guidance=4.0)


@pytest.fixture(params=["sd1", "sdxl"])
def engine(request, paired_engine):
    return paired_engine(request.param)


def test_a_move_lowers_the_loss_and_has_the_size_asked_for(engine, monkeypatch):
    """The loss is measured again at the moved latents, by a second guided step of size 0."""
    moves = []
    original = image_engine.guided

    def spied(pipe, conductor, rules, plans, latents, step, steps):
        moved = original(pipe, conductor, rules, plans, latents, step, steps)
        if step == 1:
            before = plans[0].guide.loss(rules.maps(0)).item()
            time = pipe.scheduler.timesteps[step]
            given = pipe.scheduler.scale_model_input(moved, time)
            conductor.watch(given, time, [0])
            after = plans[0].guide.loss(rules.maps(0)).item()
            moves.append(((moved - latents).square().mean().sqrt().item(), before, after))
        return moved

    monkeypatch.setattr(image_engine, "guided", spied)
    plan = compose("clora", engine.adapters, family=engine.family.name, strength=0.02)
    engine.generate([ImageRow("x", "a cat, a dog", plan, 1)], WISH)
    size, before, after = moves[0]
    assert size == pytest.approx(0.02, rel=1e-3)
    assert after < before


def test_guidance_changes_the_picture_and_leaves_the_model_as_it_was(engine):
    weights = {n: t.clone() for n, t in engine.denoiser.state_dict().items()}
    guided, masked = (
        compose("clora", engine.adapters, family=engine.family.name, strength=strength)
        for strength in (0.2, 0.0)
    )
    rows = [ImageRow(n, "a cat, a dog", plan, 1) for n, plan in (("g", guided), ("m", masked))]
    made = engine.generate(rows, WISH)
    assert (made[0].pixels != made[1].pixels).any()
    alone = engine.generate(rows[1:], WISH)[0]
    assert np.abs(alone.pixels.astype(int) - made[1].pixels).max() <= 1
    assert all(torch.equal(t, weights[n]) for n, t in engine.denoiser.state_dict().items())
    assert not any(p.requires_grad for p in engine.denoiser.parameters())


def test_a_prompt_that_does_not_name_an_adapter_is_refused_with_its_words(engine):
    plan = compose("clora", engine.adapters, family=engine.family.name)
    with pytest.raises(InvalidRequest, match=r"does not name adapter 2.*dog"):
        engine.generate([ImageRow("x", "a cat", plan, 1)], WISH)


def test_an_adapter_without_words_is_refused():
    adapters = [random_adapter({"unet.x": (4, 4)}, seed) for seed in (1, 2)]
    with pytest.raises(InvalidRequest, match="has none"):
        compose("clora", adapters)


def test_a_dit_is_refused_with_the_reason():
    adapters = [random_adapter({"transformer.x": (4, 4)}, seed) for seed in (1, 2)]
    with pytest.raises(InvalidRequest, match=r"sd1 and sd2 and sdxl.*flux"):
        compose("clora", adapters, family="flux")


def test_the_loss_is_least_when_concepts_lie_apart_and_branches_agree():
    left, right = torch.zeros(4, 4), torch.zeros(4, 4)
    left[:, :2], right[:, 2:] = 1, 1
    apart = {(0, "a"): left, (1, "a"): left, (0, "b"): right, (2, "b"): right}
    same = dict.fromkeys(apart, left)
    crossed = {**apart, (1, "a"): right, (2, "b"): left}
    loss = Contrast(["a", "b"], 0.1, 0.5).loss
    assert loss(apart) < loss(same) < loss(crossed)
    even = torch.tensor(3.0).log()  # each of three others is as near as the one positive
    torch.testing.assert_close(loss(same), even)


def test_each_place_belongs_to_whoever_attends_to_it_and_the_rest_to_the_base():
    seen = {(1, "a"): torch.zeros(8, 8), (2, "b"): torch.zeros(8, 8)}
    seen[1, "a"][:, :2] = seen[2, "b"][:, 6:] = 1.0
    parts = {i: torch.full((2, 4, 8, 8), float(i)) for i in range(3)}
    view = StepView(0, 4, ("uncond", "cond"), (8, 8), seen)
    mixed = AttentionMasks(["a", "b"], 0.6).combine(parts, view)
    assert (mixed[..., 0] == 1).all()
    assert (mixed[..., 7] == 2).all()
    assert (mixed[..., 3:5] == 0).all()
