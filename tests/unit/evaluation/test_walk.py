"""Walking through a model and refitting on the way, on tiny random models with every kind of
module adapted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_studio.adapter import Adapter
from lora_studio.composition import Merged
from lora_studio.composition import compose as compose_any
from lora_studio.engines.layers import Layers
from lora_studio.engines.text import RowPlan, ScoreRow, TextEngine
from lora_studio.errors import Cancelled
from lora_studio.evaluation.probe import EngineProbe
from lora_studio.formats import load
from lora_studio.settings import DEMO_BASE, Settings
from tests.tiny_models import GPT2, random_adapter, save_model

SAMPLES = tuple(f"sample {i}" for i in range(8))
WHOLE = {
    f"model.layers.{i}.{name}": dims
    for i in range(2)
    for name, dims in {
        "self_attn.q_proj": (32, 32),
        "self_attn.k_proj": (32, 16),
        "self_attn.v_proj": (32, 16),
        "self_attn.o_proj": (32, 32),
        "mlp.gate_proj": (32, 48),
        "mlp.up_proj": (32, 48),
        "mlp.down_proj": (48, 32),
    }.items()
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model("llama", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def engine(folder):
    return TextEngine(folder, device="cpu", max_rows=5)


def compose(method, adapters, weights=None, **given) -> Merged:
    plan = compose_any(method, adapters, weights, **given)
    assert isinstance(plan, Merged)
    return plan


def weak(seed, **given):
    return random_adapter(seed, dims=WHOLE, scaling=0.2, **given)


def probe_of(engine, *adapters, samples=SAMPLES, **given):
    sources = {str(i): adapter for i, adapter in enumerate(adapters)}
    return EngineProbe(engine, sources, dict.fromkeys(sources, samples), **given)


def zeros(adapter, sites):
    return {s.name: replace(adapter.factors[s.name], scaling=0.0) for s in sites}


def test_modules_come_in_order_and_those_of_one_input_together(engine):
    one, met = weak(1), []
    probe = probe_of(engine, one)
    counted = probe.walk(
        [(one, 1.0)], one, lambda sites: met.append([s.name for s in sites]) or zeros(one, sites)
    )
    assert counted.prompts == 8
    first = [[name.rpartition(".")[2] for name in group] for group in met[:4]]
    assert first == [
        ["q_proj", "k_proj", "v_proj"],
        ["o_proj"],
        ["gate_proj", "up_proj"],
        ["down_proj"],
    ]
    assert len(met) == 8


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_writes_to_the_residual_stream_is_found(kind, tmp_path):
    engine = TextEngine(save_model(kind, tmp_path), device="cpu")
    layers = Layers(engine, [[1, 2, 3], [4, 5]])
    names = layers.modules(0)
    _, seen = layers.run(0, layers.start(), layers.alike({}), names)
    wrote = {
        name.rpartition("layers.0." if kind == "llama" else "h.0.")[2] for name in seen.writers
    }
    writers = {
        "llama": {"self_attn.o_proj", "mlp.down_proj"},
        "gpt2": {"attn.c_proj", "mlp.c_proj"},
    }
    assert wrote == writers[kind]
    assert list(seen.writers.values()) == [0, 1]


def plain_run(folder, ids, *adapters):
    """Inputs of all modules and the stream before each half of a layer, by adding the updates to
    the weights themselves."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    seen, streams = {}, {}
    with torch.no_grad():
        for adapter in adapters:
            for name, module in adapter.factors.items():
                model.get_parameter(f"{name}.weight").add_(torch.tensor(module.delta()))
        for name in WHOLE:
            model.get_submodule(name).register_forward_pre_hook(
                lambda _, args, n=name: seen.__setitem__(n, args[0][0])
            )
        for i, layer in enumerate(model.model.layers):
            for norm in ("input_layernorm", "post_attention_layernorm"):
                getattr(layer, norm).register_forward_pre_hook(
                    lambda _, args, n=(i, norm): streams.__setitem__(n, args[0][0])
                )
        model(torch.tensor([ids]))
    return seen, streams


def test_targets_lead_from_the_merged_model_back_to_the_source(engine, folder):
    """The formula X dW^T + (X - X') W^T + (H - H'), term by term from a plain model."""
    own, other = weak(1), weak(2)
    probe = probe_of(engine, own, samples=SAMPLES[:1])
    (sample,) = probe._samples
    ids = [*engine.prompt_ids(sample.prompt), *sample.answer[:-1]]
    met = {}

    def fit(sites):
        met.update({s.name: s.parts[0] for s in sites})
        return {s.name: other.factors[s.name] for s in sites}

    probe.walk([(own, 1.0)], own, fit)
    x, h = plain_run(folder, ids, own)
    x_now, h_now = plain_run(folder, ids, other)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for name, part in met.items():
        weight = model.get_parameter(f"{name}.weight").detach()
        wanted = x[name] @ torch.tensor(own.factors[name].delta()).T
        wanted = wanted + (x[name] - x_now[name]) @ weight.T
        layer, kind = int(name.split(".")[2]), name.rpartition(".")[2]
        norm = {"o_proj": "input_layernorm", "down_proj": "post_attention_layernorm"}.get(kind)
        if norm:
            wanted = wanted + h[layer, norm] - h_now[layer, norm]
        np.testing.assert_allclose(part.inputs, x_now[name], atol=2e-4)
        np.testing.assert_allclose(part.wanted, wanted, atol=2e-3)


def test_one_source_is_found_again(engine):
    one = weak(1)
    probe = probe_of(engine, one)
    plan = compose("refit", [one], probe=probe, ridge=0.0005, guard=0.0)
    (found,) = probe.agreement([(plan.adapter, 1.0)])
    assert found.exact == 1.0
    assert plan.adapter.cosine(one) > 0.99
    assert all(np.allclose(share, 1.0, atol=1e-4) for share in plan.shares.values())


def test_the_order_and_weight_zero_change_nothing(engine):
    one, two, three = weak(1), weak(2, rank=2), weak(3)
    probe = probe_of(engine, one, two)
    left = compose("refit", [one, two, three], [1.0, 0.5, 0.0], probe=probe, guard=0.0)
    right = compose("refit", [two, one], [0.5, 1.0], probe=probe, guard=0.0)
    assert left.adapter.id == right.adapter.id
    name = next(iter(left.shares))
    np.testing.assert_array_equal(left.shares[name][:2], right.shares[name][::-1])
    assert (left.shares[name][2] == 0).all()


def test_other_ranks_missing_modules_and_sources_without_samples_are_taken(engine):
    one, two, silent = weak(1, rank=2), weak(2, rank=5, skip=6), weak(3)
    probe = EngineProbe(engine, {"1": one, "2": two, "3": silent}, {"1": SAMPLES, "2": SAMPLES[:3]})
    plan = compose("refit", [one, two, silent], probe=probe, guard=0.3)
    assert plan.notes == (
        "Fitted to 11 sample prompts of the sources and their own answers.",
        f"No sample inputs are known of '{silent.card.title}': the fit knows only their updates.",
    )
    assert plan.adapter.factors.keys() == one.factors.keys()
    assert plan.adapter.max_rank == 5
    assert all(
        np.isfinite(f.A).all() and np.isfinite(f.B).all() for f in plan.adapter.factors.values()
    )


def test_gpt2_with_its_turned_matrices_is_refitted_too(tmp_path):
    engine = TextEngine(save_model("gpt2", tmp_path), device="cpu")
    one = random_adapter(1, dims=GPT2, scaling=0.2)
    plan = compose("refit", [one], probe=probe_of(engine, one), ridge=0.0005, guard=0.0)
    assert plan.adapter.cosine(one) > 0.99


def test_a_walk_can_be_cancelled_and_leaves_nothing_behind(engine):
    one, calls = weak(1), []

    def progress(fraction, message):
        calls.append(message)
        if message == "fitting layer 2 of 2":
            raise Cancelled("enough")

    probe = probe_of(engine, one, progress=progress)
    before = engine.bank.ids
    with pytest.raises(Cancelled):
        compose("refit", [one], probe=probe)
    assert calls == ["fitting layer 1 of 2", "fitting layer 2 of 2"]
    assert engine.bank.ids == before


def test_without_samples_or_a_model_it_is_svd_and_says_so(engine):
    adapters = [weak(1), weak(2)]
    svd = compose("svd", adapters).adapter
    silent = compose("refit", adapters, probe=probe_of(engine, *adapters, samples=()))
    alone = compose("refit", adapters)
    assert "no sample inputs" in silent.notes[0]
    assert "needs the base model" in alone.notes[0]
    assert silent.adapter.id == alone.adapter.id == svd.id


def test_the_two_halves_of_a_split_share_no_sample(engine):
    one, two = weak(1), weak(2)
    probe = probe_of(engine, one, two)
    fitted, judged = probe.split()
    assert len(fitted._samples) == 12
    assert len(judged._samples) == 4
    assert not set(fitted._samples) & set(judged._samples)
    assert {s.adapter for s in judged._samples} == {one.id, two.id}
    assert isinstance(one, Adapter)


@pytest.mark.parametrize("off_diagonal", [0.0, 0.9, 1.0])
def test_regmean_is_the_dense_formula_on_what_each_source_saw(engine, off_diagonal):
    one, two = weak(1, rank=2), weak(2, rank=3)
    probe, seen = probe_of(engine, one, two), {}

    def look(sites):
        seen.update({s.name: s.parts for s in sites})
        return zeros(one, sites)

    probe.walk([(one, 1.0), (two, 1.0)], one, look, sequential=False)
    plan = compose("regmean", [one, two], probe=probe, rank=5, off_diagonal=off_diagonal)
    for name, parts in seen.items():
        total, gram = 0.0, 0.0
        for part, adapter in zip(parts, (one, two), strict=True):
            x = part.inputs.double().numpy() * np.sqrt(part.weights.double().numpy())[:, None]
            own = x.T @ x
            own = off_diagonal * own + (1 - off_diagonal) * np.diag(np.diag(own))
            total = total + adapter.factors[name].delta() @ own
            gram = gram + own
            dense = part.inputs.numpy() @ adapter.factors[name].delta().T
            np.testing.assert_allclose(part.wanted, dense, atol=1e-3)
        # On inputs that were seen, whatever the ridge does on those that were not.
        found = plan.adapter.factors[name].delta() @ gram
        np.testing.assert_allclose(found, total, atol=2e-3 * np.abs(total).max())


def test_lorahub_finds_the_one_adapter_whose_answers_count(engine):
    one, other = weak(1), weak(2)
    probe = EngineProbe(engine, {"1": one, "2": other}, {"1": SAMPLES})
    plan = compose("lorahub", [one, other], probe=probe, space="updates", rank=8, tries=60)
    tried, even = probe.agreement(
        [(plan.adapter, 1.0), (compose("lorahub", [one, other], space="updates").adapter, 1.0)]
    )
    assert "60 tries on 8 sample prompts" in plan.notes[0]
    assert tried.logprob > even.logprob
    assert plan.adapter.cosine(one) > plan.adapter.cosine(other) + 0.3


def test_best_on_samples_judges_on_samples_held_back(engine):
    one, two = weak(1), weak(2)
    plan = compose("preset", [one, two], probe=probe_of(engine, one, two))
    assert (
        "was best: on 4 sample prompts of the sources (not test prompts), held back"
        in plan.notes[0]
    )
    assert all(n in plan.notes[0] for n in ("Refit on samples", "LoRA-LEGO", "SVD of the sum"))


def test_what_refit_makes_of_demo_adapters_beats_svd_on_their_tests():
    """Three adapters that spoil each other's answers, at equal rank, on held-out prompts."""
    engine, folder = TextEngine(DEMO_BASE, device="cpu"), Settings().demo_adapters_dir
    loaded = [load(folder / f"plain-{task}") for task in ("past", "french", "json")]
    adapters = [one.adapter for one in loaded]
    rows = [
        ScoreRow(str(i), test["prompt"], test["target"], RowPlan((("merged", 1.0),)))
        for one in loaded
        for i, test in enumerate(one.tests[:30])
    ]
    sources = {a.id: a for a in adapters}
    probe = EngineProbe(engine, sources, {a.id: a.card.samples for a in adapters})

    def correct(method, **given):
        engine.bank.add("merged", compose(method, adapters, probe=probe, rank=8, **given).adapter)
        return sum(score.exact for score in engine.score(rows))

    assert correct("refit") > correct("svd", auto_scale=True) + 9
