"""Walking through a denoiser and refitting on the way, on tiny random pipelines with linear layers
and convolutions adapted."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import unfold

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.composition import METHODS, Merged
from lora_studio.composition import compose as compose_any
from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.image import ImageEngine
from lora_studio.errors import Cancelled
from lora_studio.evaluation import image_walk
from lora_studio.evaluation.image_probe import ImageProbe
from tests.tiny_pipelines import MAKERS, random_adapter, save_pipeline

CATS = ("a cat", "a red cat", "two cats", "a cat, snow")
HOUSES = ("a house", "an old house", "a house, sea")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> ImageEngine:
    return ImageEngine(str(save_pipeline("sd1", tmp_path_factory.mktemp("sd1"))), "cpu")


def adapted(engine: ImageEngine, seed: int, keep: str = "", size: float = 0.12) -> Adapter:
    """An adapter of every linear layer and convolution, encoder included, that runs."""
    prefix = engine.family.denoiser
    named = engine.bank.modules
    modules = {
        name: dims
        for name, dims in adaptable_modules(named).items()
        if name.startswith(f"{prefix}.") or ".text_model.encoder" in name
    }
    found = random_adapter(modules, seed, size=size, keep=keep)
    factors = {
        name: replace(f, kind="conv", kernel=tuple(module.weight.shape[1:]))
        if isinstance(module := named[name], torch.nn.Conv2d)
        else f
        for name, f in found.factors.items()
    }
    return Adapter(factors, AdapterCard(title=f"adapter {seed}"))


def probe_of(engine, *adapters, samples=(CATS, HOUSES), **given) -> ImageProbe:
    sources = {str(i): adapter for i, adapter in enumerate(adapters)}
    return ImageProbe(engine, sources, dict(zip(sources, samples, strict=False)), **given)


def compose(method, adapters, weights=None, **given) -> Merged:
    plan = compose_any(method, adapters, weights, **given)
    assert isinstance(plan, Merged)
    return plan


def zeros(adapter, sites):
    return {s.name: replace(adapter.factors[s.name], scaling=0.0) for s in sites}


@pytest.mark.parametrize("family", MAKERS)
def test_one_source_is_found_again_in_every_family(family, tmp_path):
    engine = ImageEngine(str(save_pipeline(family, tmp_path)), "cpu")
    one = adapted(engine, 1, keep="" if engine.family.embeds else "transformer.")
    probe = probe_of(engine, one, side=16)
    plan = compose("refit", [one], probe=probe, ridge=0.0005, guard=0.0)
    (found,) = probe.agreement([(plan.adapter, 1.0)])
    assert found.logprob > 0.999
    assert "Fitted to 4 sample prompts" in plan.notes[0]
    assert len(plan.shares) > 0.7 * len(one.factors)
    assert all(np.allclose(share, 1.0, atol=1e-4) for share in plan.shares.values())


def test_sources_of_other_prompts_are_both_kept_better_than_by_their_sum(engine):
    one, two = adapted(engine, 1), adapted(engine, 2)
    probe = probe_of(engine, one, two)
    each = [probe_of(engine, one), probe_of(engine, two, samples=(HOUSES,))]
    refit = compose("refit", [one, two], probe=probe, rank=4, guard=0.0).adapter
    whole = compose("cat", [one, two]).adapter
    assert refit.max_rank == whole.max_rank == 4
    for mine in each:
        fitted, added = mine.agreement([(refit, 1.0), (whole, 1.0)])
        assert fitted.logprob > added.logprob + 0.1


def test_shares_tell_who_a_unit_belongs_to(engine):
    """Two adapters of different modules: each module's units are all its own source's."""
    one, two = adapted(engine, 1, keep="attn1.to_q"), adapted(engine, 2, keep="conv1")
    plan = compose("refit", [one, two], probe=probe_of(engine, one, two), guard=0.0)
    assert set(plan.shares) == set(one.factors) | set(two.factors)
    first = next(iter(plan.shares[name] for name in one.factors))
    assert first.shape == (2, 2)
    strong = [plan.shares[name].sum(1) for name in two.factors]
    assert all(share[1] > share[0] for share in strong)


def dense_inputs(engine, call, adapter, names):
    """Inputs, by adding the updates to the weights themselves; what reads the stream as well."""
    seen, hooks, before = {}, [], {}
    for name, factors in adapter.factors.items():
        weight = engine.bank.modules[name].weight
        before[name] = weight.detach().clone()
        with torch.no_grad():
            weight += torch.tensor(factors.delta()).view_as(weight)
    for name in names:
        hooks.append(
            engine.bank.modules[name].register_forward_pre_hook(
                lambda _, args, name=name: seen.setdefault(name, args[0])
            )
        )
    with torch.no_grad():
        engine.denoiser(*call.args, **call.kwargs)
    for hook in hooks:
        hook.remove()
    for name, weight in before.items():
        with torch.no_grad():
            engine.bank.modules[name].weight.copy_(weight)
    return seen


def rows_of(module, x):
    if isinstance(module, torch.nn.Conv2d):
        assert not isinstance(module.padding, str)
        return unfold(x, module.kernel_size, 1, module.padding, module.stride).mT.flatten(0, 1)
    return x.flatten(0, -2)


def test_targets_lead_from_the_merged_model_back_to_the_source(engine, monkeypatch):
    """The formula X dW^T + (X - X') W^T + (H - H'), term by term from the dense model, with
    convolutions unfolded."""
    monkeypatch.setattr(image_walk, "POSITIONS", 1 << 20)
    own, other = adapted(engine, 1, keep="unet."), adapted(engine, 2, keep="unet.")
    probe = probe_of(engine, own, samples=(CATS[:2],))
    met = {}

    def fit(sites):
        met.update({s.name: s.parts[0] for s in sites})
        return {s.name: other.factors[s.name] for s in sites}

    probe.walk([(own, 1.0)], own, fit)
    scenes = probe._scenes(None, {}, probe._recorded[0])
    conv = "unet.down_blocks.0.resnets.0.conv2"
    block = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
    streams = {
        conv: "unet.down_blocks.0.resnets.0.norm1",
        f"{block}.attn1.to_out.0": f"{block}.norm1",
        f"{block}.ff.net.2": f"{block}.norm3",
        f"{block}.attn1.to_q": None,
        "unet.up_blocks.1.resnets.0.conv1": None,
        "unet.down_blocks.0.downsamplers.0.conv": None,
    }
    names = [*streams, *(s for s in streams.values() if s)]
    x = [dense_inputs(engine, s.call, own, names) for s in scenes]
    x_now = [dense_inputs(engine, s.call, other, names) for s in scenes]
    for name, stream in streams.items():
        module, part = engine.bank.modules[name], met[name]
        weight = module.weight.detach().flatten(1)
        mine = torch.cat([rows_of(module, seen[name]) for seen in x])
        now = torch.cat([rows_of(module, seen[name]) for seen in x_now])
        wanted = mine @ torch.tensor(own.factors[name].delta()).T + (mine - now) @ weight.T
        if stream:
            flat = [[s[stream] for s in seen] for seen in (x, x_now)]
            conv_like = isinstance(module, torch.nn.Conv2d)
            h, h_now = (
                torch.cat([(t.permute(0, 2, 3, 1) if conv_like else t).flatten(0, -2) for t in ts])
                for ts in flat
            )
            wanted = wanted + h - h_now
        np.testing.assert_allclose(part.inputs, now, atol=1e-3)
        np.testing.assert_allclose(part.wanted, wanted, atol=5e-3)
        assert float(part.weights.sum()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("off_diagonal", [0.0, 0.9])
def test_regmean_is_the_dense_formula_on_what_each_source_saw(engine, off_diagonal):
    one, two = adapted(engine, 1, keep="unet."), adapted(engine, 2, keep="unet.")
    probe, seen = probe_of(engine, one, two), {}

    def look(sites):
        seen.update({s.name: s.parts for s in sites})
        return zeros(one, sites)

    probe.walk([(one, 1.0), (two, 1.0)], one, look, sequential=False)
    plan = compose("regmean", [one, two], probe=probe, rank=64, off_diagonal=off_diagonal)
    assert any(one.factors[name].kind == "conv" for name in seen)
    for name, parts in seen.items():
        total, gram = 0.0, 0.0
        for part, adapter in zip(parts, (one, two), strict=True):
            x = part.inputs.double().numpy() * np.sqrt(part.weights.double().numpy())[:, None]
            own = x.T @ x
            own = off_diagonal * own + (1 - off_diagonal) * np.diag(np.diag(own))
            total = total + adapter.factors[name].delta() @ own
            gram = gram + own
            dense = part.inputs.numpy() @ adapter.factors[name].delta().T
            np.testing.assert_allclose(part.wanted, dense, atol=2e-3)
        found = plan.adapter.factors[name].delta() @ gram
        np.testing.assert_allclose(found, total, atol=5e-3 * np.abs(total).max())


def test_the_guard_holds_back_what_the_base_model_draws_unasked(engine):
    one = adapted(engine, 1)
    probe = probe_of(engine, one)
    bare = probe._unasked(3)
    assert [row.prompt for row in bare.rows] == [""] * 3

    def moved(guard):
        plan = compose("refit", [one], probe=probe, guard=guard, ridge=0.0005)
        with engine.bank.guests({"it": plan.adapter}) as guests:
            return sum(probe._off({guests["it"]: 1.0}, bare))

    assert moved(1.0) < 0.8 * moved(0.0)


def test_the_sum_is_the_teacher_where_it_answers_as_the_sources(engine):
    """Adapters that touch nothing in common, one of them very weak, may simply be added."""
    one, weak = adapted(engine, 1), adapted(engine, 2, size=0.005)
    probe = probe_of(engine, one, weak, samples=(CATS,))
    plan = compose("refit", [one, weak], probe=probe, guard=0.0)
    assert "The plain sum answers 100% of them" in plan.notes[1]
    loud = compose("refit", [one, adapted(engine, 3)], probe=probe, guard=0.0)
    assert len(loud.notes) < 2 or "plain sum" not in loud.notes[1]


def test_a_walk_is_the_same_every_time_and_in_every_order(engine, monkeypatch):
    monkeypatch.setattr(image_walk, "POSITIONS", 200)  # fewer than there are, so dice are cast
    one, two, none = adapted(engine, 1), adapted(engine, 2), adapted(engine, 3)
    probe = probe_of(engine, one, two)
    left = compose("refit", [one, two, none], [1.0, 0.5, 0.0], probe=probe)
    again = compose("refit", [one, two, none], [1.0, 0.5, 0.0], probe=probe)
    right = compose("refit", [two, one], [0.5, 1.0], probe=probe)
    assert left.adapter.id == again.adapter.id == right.adapter.id
    name = next(iter(left.shares))
    np.testing.assert_array_equal(left.shares[name][:2], right.shares[name][::-1])
    assert (left.shares[name][2] == 0).all()


def test_memory_is_bounded_by_positions_and_by_pictures_under_way(engine, monkeypatch):
    monkeypatch.setattr(image_walk, "POSITIONS", 120)
    monkeypatch.setattr(image_walk, "IN_FLIGHT", 16 * 16 * 2 * 8)  # one row of 8 scenes, twice
    one, two = adapted(engine, 1), adapted(engine, 2)
    probe, rows = probe_of(engine, one, two), []
    evaluate = []
    engine.denoiser.register_forward_pre_hook(lambda _, args: evaluate.append(len(args[0])))
    probe._unasked(0)
    evaluate.clear()

    def fit(sites):
        rows.append(sum(len(part.inputs) for part in sites[0].parts))
        return zeros(one, sites)

    probe.walk([(one, 1.0), (two, 1.0)], one, fit)
    assert max(rows) <= 120
    assert set(evaluate) == {1}


def test_a_walk_can_be_cancelled_and_leaves_nothing_behind(engine):
    one, said = adapted(engine, 1), []

    def progress(fraction, message):
        said.append((fraction, message))
        if message.startswith("fitting modules: 5 "):
            raise Cancelled("enough")

    probe = probe_of(engine, one, progress=progress)
    before, threads = engine.bank.ids, threading.active_count()
    hooks = {n: len(m._forward_hooks) for n, m in engine.bank.modules.items()}
    with pytest.raises(Cancelled):
        compose("refit", [one], probe=probe, guard=0.0)
    assert [message.split(" of ")[0] for _, message in said][-1] == "fitting modules: 5"
    assert 0 < said[-1][0] < 1
    assert engine.bank.ids == before
    assert threading.active_count() == threads
    assert all(len(m._forward_hooks) <= hooks[n] + 1 for n, m in engine.bank.modules.items())


def test_without_samples_or_a_model_it_is_svd_and_says_so(engine):
    adapters = [adapted(engine, 1), adapted(engine, 2)]
    svd = compose("svd", adapters).adapter
    for method in ("refit", "regmean"):
        silent = compose(method, adapters, probe=probe_of(engine, *adapters, samples=()))
        alone = compose(method, adapters)
        assert "no sample inputs" in silent.notes[0]
        assert "needs the base model" in alone.notes[0]
        assert silent.adapter.id == alone.adapter.id == svd.id


def test_the_two_halves_of_a_split_share_no_picture(engine):
    one, two = adapted(engine, 1), adapted(engine, 2)
    fitted, judged = probe_of(engine, one, two).split()
    asked = [{row.prompt for r in p._recorded for row in r.rows} for p in (fitted, judged)]
    assert asked == [{*CATS[:3], *HOUSES[:2]}, {CATS[3], HOUSES[2]}]
    (found,) = fitted.agreement([(one, 1.0)])
    assert found.prompts == 5


def test_best_on_samples_tries_refit_on_pictures_held_back(engine):
    one, two = adapted(engine, 1), adapted(engine, 2)
    plan = compose("preset", [one, two], probe=probe_of(engine, one, two))
    assert "on 2 sample prompts of the sources (not test prompts), held back" in plan.notes[0]
    assert METHODS.get("refit").title in plan.notes[0]
