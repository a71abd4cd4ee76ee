"""What every registered method must keep, whoever wrote it."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from lora_studio.composition import (
    METHODS,
    Merged,
    Recipe,
    Routed,
    Scheduled,
    Source,
    compose,
    run_recipe,
)
from lora_studio.composition.gate import VECTORS, Gate
from lora_studio.composition.schedule import constant
from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from tests.conftest import D_OUT, build_adapter
from tests.deltas import deltas, distance
from tests.fitting import fitting
from tests.tiny_pipelines import random_adapter, save_pipeline
from tests.unit.composition.playing import (
    CONTENT,
    CONV,
    SIZES,
    STYLE,
    TEXT,
    image_adapter,
    play,
)

MERGING = [m.name for m in METHODS if m.kind == "merging"]
ROUTING = [m.name for m in METHODS if m.kind == "routing"]
DENOISING = [m.name for m in METHODS if m.kind == "denoising"]
ALL = METHODS.names()
TEXT_ONLY = [m.name for m in METHODS if m.modality == "text"]


def runs_on(family, name):
    """Whether a method is made for this family of image models."""
    return not METHODS.get(name).families or family in METHODS.get(name).families


def gate(modules):
    """A gate that opens differently for each output."""
    rng = np.random.default_rng(3)
    return Gate({m: {v: rng.normal(size=out).astype("f") for v in VECTORS}
                 for m, (_, out) in modules.items()})  # fmt: skip


GATE = gate(SIZES)


def source(name, seed):
    """An adapter of the kind a method is for."""
    if name in DENOISING:
        return image_adapter(seed)
    return fitting(name, [build_adapter(seed)])[0]


@pytest.mark.parametrize("name", MERGING)
def test_one_adapter_at_weight_one_is_the_identity(name):
    adapter = build_adapter(1, scaling=1.7)
    assert distance(deltas(compose(name, [adapter]).adapter), deltas(adapter)) < 1e-6


@pytest.mark.parametrize("name", MERGING)
def test_the_order_of_adapters_does_not_matter(name):
    adapters = fitting(name, [build_adapter(i, rank=3 + i) for i in range(3)])
    weights = [1.0, 0.5, -0.25][: len(adapters)]
    left = compose(name, adapters, weights).adapter
    right = compose(name, adapters[::-1], weights[::-1]).adapter
    assert distance(deltas(left), deltas(right)) < 1e-5


@pytest.mark.parametrize("name", MERGING)
def test_mixed_ranks_scalings_and_missing_modules_are_taken(name):
    one = build_adapter(1, rank=2, layers=3, scaling=0.5)
    two = build_adapter(2, rank=7, layers=1, scaling=4.0, kinds=("q_proj", "o_proj"))
    one, two = fitting(name, [one, two])
    result = compose(name, [one, two]).adapter
    assert set(result.factors) == set(one.factors) | set(two.factors)
    assert all(np.isfinite(d).all() for d in deltas(result).values())


@pytest.mark.parametrize("name", MERGING)
def test_weight_zero_leaves_an_adapter_out(name):
    one, two = build_adapter(1), build_adapter(2)
    with_zero = compose(name, [one, two], [1.0, 0.0]).adapter
    assert distance(deltas(with_zero), deltas(compose(name, [one]).adapter)) < 1e-6


@pytest.mark.parametrize("name", MERGING)
def test_a_negative_weight_turns_the_update_around(name):
    adapter = fitting(name, [build_adapter(1)])[0]
    negated = deltas(compose(name, [adapter], [-1.0]).adapter)
    assert distance(negated, {n: -d for n, d in deltas(adapter).items()}) < 1e-6


@pytest.mark.parametrize("name", MERGING)
def test_half_precision_is_merged_in_full(name):
    adapters = fitting(name, [build_adapter(i, scaling=0.5) for i in range(2)])

    def changed(adapter, *types):
        def cast(factor):
            for one in types:
                factor = factor.astype(one)
            return factor

        factors = {n: replace(m, A=cast(m.A), B=cast(m.B)) for n, m in adapter.factors.items()}
        return replace(adapter, factors=factors)

    half = compose(name, [changed(a, "f2") for a in adapters]).adapter
    full = compose(name, [changed(a, "f2", "f4") for a in adapters]).adapter
    assert {m.A.dtype for m in half.factors.values()} == {np.dtype("f4")}
    assert distance(deltas(half), deltas(full)) < 5e-3


@pytest.mark.parametrize("name", MERGING)
def test_embeddings_are_merged(name):
    def tokens(seed):
        one = build_adapter(seed, kinds=("embed_tokens",), layers=1)
        wide = {n: replace(m, A=np.tile(m.A, 4), kind="embedding") for n, m in one.factors.items()}
        return replace(one, factors=wide)

    merged = compose(name, fitting(name, [tokens(1), tokens(2)])).adapter
    (module,) = merged.factors.values()
    assert (module.kind, module.d_in) == ("embedding", 96)
    assert np.isfinite(module.delta()).all()


def with_param(param):
    return [n for n in MERGING if any(p.name == param for p in METHODS.get(n).params)]


@pytest.mark.parametrize("name", with_param("rank"))
def test_a_result_has_the_rank_that_is_asked_for(name):
    adapters = fitting(name, [build_adapter(i, rank=4 + i) for i in range(3)])
    ranks = list(compose(name, adapters, rank=3).adapter.ranks.values())
    assert sum(ranks) <= 3 * len(ranks) if name == "net_utility" else max(ranks) <= 3


@pytest.mark.parametrize("name", with_param("budget"))
def test_rank_follows_its_budget(name):
    adapters = fitting(name, [build_adapter(i, rank=4) for i in range(2)])
    whole = compose(name, adapters, rank=D_OUT).adapter
    values = {n: np.linalg.svd(m.delta().astype(float))[1] for n, m in whole.factors.items()}

    shared = compose(name, adapters, rank=3, budget="shared")
    ranks = shared.adapter.ranks
    assert sum(ranks.values()) == 3 * len(ranks)
    assert f"{min(ranks.values())} to {max(ranks.values())}" in shared.notes[0]
    left_in = min(values[n][k - 1] for n, k in ranks.items() if k > 1)
    assert left_in >= max(values[n][k] for n, k in ranks.items()) * (1 - 1e-4)

    for n, k in compose(name, adapters, budget="energy", keep=0.8).adapter.ranks.items():
        held = np.cumsum(values[n] ** 2) / np.sum(values[n] ** 2)
        assert k == int(np.argmax(held >= 0.8 * (1 - 1e-6))) + 1
    for n, k in compose(name, adapters, budget="sv_ratio", keep=0.6).adapter.ranks.items():
        assert k == (values[n] >= 0.4 * (1 - 1e-6) * values[n][0]).sum()
    assert compose(name, adapters, budget="energy", keep=1.0, rank=2).adapter.max_rank == 2


@pytest.mark.parametrize("name", MERGING)
def test_the_same_seed_gives_the_same_bytes(name):
    adapters = fitting(name, [build_adapter(i) for i in range(3)])
    first, second = (compose(name, adapters, seed=5).adapter for _ in range(2))
    assert first.id == second.id


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_round_trip_composes_the_same(name):
    pool = {str(i): source(name, i) for i in range(2)}
    defaults = {p.name: p.default for p in METHODS.get(name).params}
    sources = tuple(Source(i, region={"box": [0.0, 0.0, 0.5, 1.0]}) for i in pool)
    modality = "image" if name in DENOISING else "text"
    recipe = Recipe({"repo": "tiny"}, sources, name, defaults, seed=3, modality=modality)
    first = run_recipe(recipe, pool.__getitem__, gate=GATE)
    second = run_recipe(Recipe.from_yaml(recipe.to_yaml()), pool.__getitem__, gate=GATE)
    if isinstance(first, Merged):
        assert isinstance(second, Merged)
        assert first.adapter.id == second.adapter.id
    elif isinstance(first, Scheduled):
        assert isinstance(second, Scheduled)
        assert play(first)[0].equal(play(second)[0])
        assert (first.passes, first.curves) == (second.passes, second.curves)
    else:
        assert first == second


@pytest.mark.parametrize("name", ALL)
def test_nothing_but_zeros_is_refused(name):
    with pytest.raises(InvalidRequest, match="Every weight is zero"):
        compose(name, [source(name, 1)], [0.0])


@pytest.mark.parametrize("name", MERGING)
def test_sizes_that_differ_are_refused_with_the_module(name):
    big = build_adapter(2)
    cut = {n: type(m)(m.A[:, :-1], m.B) for n, m in big.factors.items()}
    with pytest.raises(IncompatibleAdapters, match="q_proj"):
        compose(name, [build_adapter(1), type(big)(cut, big.card)])


@pytest.mark.parametrize("name", ROUTING)
def test_routed_plans_name_only_their_sources(name):
    adapters = [build_adapter(i) for i in range(4)]
    plan = compose(name, adapters, [1.0, 1.0, 0.0, 1.0])
    assert isinstance(plan, Routed)
    assert set(plan.weights) == {adapters[i].id for i in (0, 1, 3)}
    row = plan.row({adapters[1].id: 0.9})
    assert row.terms[0][0] == adapters[1].id
    assert len(row.terms) == plan.top_k


@pytest.mark.parametrize("name", ALL)
def test_the_signature_is_the_whole_declaration(name):
    method = METHODS.get(name)
    assert method.summary.endswith(".")
    assert len(inspect.getdoc(method.function).split("\n\n")) >= 2, "formula and relations"
    for param in method.params:
        assert param.check(param.default) == param.default
        assert param.type in ("choice", "bool") or param.min <= param.default <= param.max
        assert param.help


@pytest.mark.parametrize("name", MERGING + DENOISING)
def test_parameters_out_of_range_are_refused_by_name(name):
    for param in METHODS.get(name).params:
        bad = {"choice": "nonsense", "bool": 3}.get(param.type, 1e9)
        with pytest.raises(InvalidRequest, match=param.name):
            compose(name, [source(name, 1)], **{param.name: bad})


@pytest.mark.parametrize("name", [n for n in MERGING if n not in TEXT_ONLY])
def test_merges_of_image_adapters_keep_what_each_module_is(name):
    one = image_adapter(1, rank=2, modules=(CONTENT, CONV, TEXT))
    two = image_adapter(2, rank=4, scaling=0.5, modules=(CONTENT, STYLE, CONV, TEXT))
    one, two = fitting(name, [one, two])
    merged = compose(name, [one, two], [1.0, -0.5]).adapter
    assert set(merged.factors) == {CONTENT, STYLE, CONV, TEXT}
    for module, factors in merged.factors.items():
        own = two.factors[module]
        assert (factors.kind, factors.kernel) == (own.kind, own.kernel)
        assert factors.component == own.component == module.partition(".")[0]
        assert np.isfinite(factors.delta()).all()
    alone = compose(name, [one]).adapter
    assert distance(deltas(alone), deltas(one)) < 1e-6


@pytest.mark.parametrize("name", DENOISING)
def test_one_adapter_at_weight_one_denoises_as_it_does_alone(name):
    adapter = image_adapter(1)
    plan = compose(name, [adapter, image_adapter(2)], [1.0, 0.0], gate=GATE)
    assert isinstance(plan, Scheduled)
    alone, asked = play(Scheduled((constant({adapter.id: 1.0}),)))
    found, passes = play(plan)
    np.testing.assert_allclose(found, alone, rtol=1e-12, atol=1e-12)
    assert passes == asked


@pytest.mark.parametrize("name", DENOISING)
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.8, -0.5)])
def test_a_schedule_names_only_its_sources_and_repeats_itself(name, weights):
    adapters = [image_adapter(1), image_adapter(2)]
    plan = compose(name, adapters, weights, gate=GATE)
    named = {
        i
        for branch in plan.branches
        for step in range(12)
        for i in {*branch.schedule(step, 12), *branch.text_weights(step, 12)}
    }
    assert named == {a.id for a in adapters}
    assert set(plan.curves) <= named
    assert all(len(curve) == 21 for curve in plan.curves.values())
    once, asked = play(plan, 20)
    again, _ = play(plan, 20)
    assert once.equal(again)
    assert once.isfinite().all()
    assert asked / 20 == pytest.approx(plan.passes)


@pytest.mark.parametrize("name", DENOISING)
def test_denoising_methods_refuse_adapters_of_text_models(name):
    with pytest.raises(InvalidRequest, match="is for image models, and this composition is for te"):
        compose(name, [build_adapter(1)])


@pytest.mark.parametrize("name", TEXT_ONLY)
def test_methods_of_text_models_refuse_adapters_of_image_models(name):
    with pytest.raises(InvalidRequest, match="is for text models, and this composition is for im"):
        compose(name, [image_adapter(1)])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Method -> its picture of one adapter, and of two with the passes it took; a real pipeline."""
    engine = ImageEngine(str(save_pipeline("sd1", tmp_path_factory.mktemp("sd1"))), "cpu")
    modules = adaptable_modules(engine.bank.modules)
    parts = ("unet.", "text_encoder.text_model.")
    modules = {name: dims for name, dims in modules.items() if name.startswith(parts)}
    pool = [
        replace(adapter, card=replace(adapter.card, trigger_words=("cat",)))
        for adapter in (random_adapter(modules, seed=seed) for seed in (1, 2))
    ]
    for adapter in pool:
        engine.bank.add(adapter.id, adapter)
    rows = [ImageRow("plain", "a cat", plain({pool[0].id: 1.0}))]
    for name in DENOISING:
        if runs_on("sd1", name):
            given = {"family": "sd1", "gate": gate(modules)}
            rows.append(ImageRow(f"{name} 1", "a cat", compose(name, pool[:1], **given)))
            rows.append(ImageRow(f"{name} 2", "a cat", compose(name, pool, **given)))
    made = engine.generate(rows, Denoising(steps=6, width=16, height=16, guidance=4.0))
    engine.close()
    return {row.id: (row.plan, picture) for row, picture in zip(rows, made, strict=True)}


@pytest.mark.parametrize("name", [n for n in DENOISING if runs_on("sd1", n)])
def test_a_real_pipeline_makes_the_adapter_s_own_picture_and_another_of_two(name, pictures):
    _, alone = pictures["plain"]
    one, two = pictures[f"{name} 1"][1], pictures[f"{name} 2"][1]
    np.testing.assert_array_equal(one.pixels, alone.pixels)
    assert one.passes == 1.0
    assert (two.pixels != alone.pixels).any()
