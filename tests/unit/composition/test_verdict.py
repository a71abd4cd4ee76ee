"""The verdict before running: its figures against the merges themselves, densely computed."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.composition import METHODS, Source, choose_units, compose
from lora_studio.composition.verdict import join, random_adapter, verdict
from lora_studio.composition.verdict.conflict import clashes
from lora_studio.composition.verdict.cores import sample
from lora_studio.composition.verdict.nature import nature
from lora_studio.composition.verdict.trial import Bench
from lora_studio.composition.verdict.weights import even_weights, weakest
from lora_studio.errors import IncompatibleAdapters, InvalidRequest
from lora_studio.rank_units.statistics import gather
from tests.conftest import build_adapter
from tests.unit.composition.playing import image_adapter

RANK = 3
SETTLED = [
    m.name
    for m in METHODS
    if m.kind == "merging" and not m.tunes({}) and m.name not in ("slerp", "shared_factor")
]


def ranked(name):
    return {"rank": RANK} if any(p.name == "rank" for p in METHODS.get(name).params) else {}


NATURES = {n: nature(n, ranked(n)) for n in SETTLED}
EXACT = [n for n, found in NATURES.items() if found.alike and not found.sized]
DRAWN = [n for n, found in NATURES.items() if found.drawn]
ESTIMATED = [n for n in SETTLED if n not in EXACT and n not in DRAWN]


def uneven():
    """Three adapters of different ranks and modules, titled, scalings folded as the studio does."""
    made = [
        build_adapter(0, rank=4, title="One"),
        build_adapter(1, rank=2, scaling=0.5, title="Two"),
        build_adapter(2, rank=3, scaling=-1.5, title="Three", kinds=("q_proj", "v_proj", "o_proj")),
    ]
    lacking = {n: m for n, m in made[0].factors.items() if n != "model.layers.1.self_attn.q_proj"}
    return [one.folded() for one in (replace(made[0], factors=lacking), *made[1:])]


WEIGHTS = [1.0, 0.6, -0.8]


def joint(adapters, sources=None):
    profiles, pairs = gather(adapters)
    return join([profiles[i] for i in range(len(adapters))], pairs, sources)


def dense_figures(merged, adapters):
    """Cosine to each source, and the share of each within the result's spaces, densely."""
    kept = []
    for adapter in adapters:
        inside = 0.0
        for name, module in adapter.factors.items():
            u, s, vt = np.linalg.svd(merged.factors[name].delta().astype(float))
            alive = int((s > 1e-5 * s[0]).sum())
            inside += ((u[:, :alive].T @ module.delta() @ vt[:alive].T) ** 2).sum()
        kept.append(inside / adapter.norm() ** 2)
    return [merged.cosine(adapter) for adapter in adapters], kept


def row(found, name):
    return next(r for r in found["methods"] if r["name"] == name)


@pytest.mark.parametrize("name", EXACT)
def test_what_treats_directions_alike_is_told_exactly(name):
    adapters = uneven()
    params = ranked(name)
    told = row(verdict(adapters, WEIGHTS, name, which="some", **params), name)
    merged = compose(name, adapters, WEIGHTS, **params).adapter
    cosines, kept = dense_figures(merged, adapters)
    assert told["how"] == "exact"
    assert told["cosines"] == pytest.approx(cosines, abs=2e-3)
    assert told["kept"] == pytest.approx(kept, abs=5e-3)
    ranks = merged.ranks.values()
    assert told["rank"] == {"min": min(ranks), "max": max(ranks)}
    assert told["bytes"] == 4 * merged.parameters
    if told["norm"] is not None:
        mean = np.mean([a.norm() for a in adapters])
        assert told["norm"] == pytest.approx(merged.norm() / mean, rel=2e-3)


@pytest.mark.parametrize("name", ESTIMATED)
def test_what_looks_at_entries_is_estimated_and_says_so(name):
    adapters = uneven()
    params = ranked(name)
    told = row(verdict(adapters, WEIGHTS, name, which="some", **params), name)
    merged = compose(name, adapters, WEIGHTS, **params).adapter
    assert told["how"] == "estimate"
    assert told["cosines"] == pytest.approx([merged.cosine(a) for a in adapters], abs=0.2)


@pytest.mark.parametrize("name", [*DRAWN, "preset", "refit"])
def test_what_statistics_cannot_tell_is_to_be_run(name):
    told = row(verdict(uneven(), WEIGHTS, name, which="some"), name)
    assert (told["how"], told["cosines"], told["score"]) == ("run", None, None)
    assert "run it to know" in told["note"]


def test_the_nature_of_methods_is_found_by_trying_them():
    assert {"svd", "cat", "linear", "task_arithmetic", "ctm"} <= set(EXACT)
    assert {"lego", "ties_delta"} <= set(ESTIMATED)
    assert {"dare_delta", "dare_linear"} <= set(DRAWN)
    assert nature("ties_delta", {}).dense
    assert nature("ties_svd", {}).dense
    assert not nature("svd", {}).dense
    assert not nature("ties", {}).dense
    assert nature("lego", {"norm": "l2"}).alike
    assert not nature("lego", {"norm": "inf"}).alike


def test_convolutions_and_text_encoders_are_told_exactly_too():
    adapters = [image_adapter(i, rank=2 + i) for i in range(3)]
    found = verdict(adapters, method="svd", which="some", rank=2)
    merged = compose("svd", adapters, rank=2).adapter
    assert row(found, "svd")["cosines"] == pytest.approx(
        [merged.cosine(a) for a in adapters], abs=2e-3
    )
    assert not [r for r in found["methods"] if r["kind"] == "routing"]


def test_chosen_units_and_module_weights_are_taken_in():
    adapters = uneven()[1:]
    q_proj = "model.layers.0.self_attn.q_proj"
    sources = [
        Source("a", units={q_proj: {"exclude": [0]}}, module_weights={"model.layers.1": 0.5}),
        Source("b", module_weights={"model.layers.0.self_attn.o_proj": 0.0}),
    ]
    cut = [choose_units(a, s) for a, s in zip(adapters, sources, strict=True)]
    bench = Bench(joint(adapters, sources), [1.0, 0.7], ["a", "b"])
    made = bench.make("svd", {"rank": 2})
    merged = compose("svd", cut, [1.0, 0.7], rank=2).adapter
    norms = bench.joint.norms
    assert norms == pytest.approx([a.norm() for a in cut], rel=1e-4)
    assert made.inner / (np.sqrt(made.square) * norms) == pytest.approx(
        [merged.cosine(a) for a in cut], abs=2e-3
    )


def test_a_large_set_is_sampled_evenly_and_its_sums_stay_exact():
    adapters = [build_adapter(i, layers=12) for i in range(3)]
    whole = joint(adapters)
    names = sample(whole, work=2000.0 * 6)
    assert names == sample(whole, work=2000.0 * 6)
    assert 2 <= len(names) < len(whole.members)
    assert {n.rpartition(".")[2] for n in names} == {"q_proj", "v_proj"}
    bench = Bench(whole, [1.0] * 3, list("abc"), names=names)
    cat, svd = bench.make("cat", {}), bench.make("svd", {"rank": 4})
    merged = compose("cat", adapters).adapter
    assert (cat.how, svd.how) == ("exact", "sampled")
    assert np.sqrt(cat.square) == pytest.approx(merged.norm(), rel=1e-4)
    merged = compose("svd", adapters, rank=4).adapter
    assert svd.inner / (np.sqrt(svd.square) * whole.norms) == pytest.approx(
        [merged.cosine(a) for a in adapters], abs=0.05
    )
    assert set(svd.ranks) == set(whole.members)


def test_the_order_does_not_depend_on_the_order_of_adapters():
    adapters = uneven()
    first = verdict(adapters, WEIGHTS)
    again = verdict(adapters, WEIGHTS)
    turned = verdict(adapters[::-1], WEIGHTS[::-1])
    rows = [[(r["name"], r["how"]) for r in found["methods"]] for found in (first, again, turned)]
    assert rows[0] == rows[1] == rows[2]
    for one, two in zip(first["methods"], turned["methods"], strict=True):
        if one["cosines"]:
            assert one["cosines"] == pytest.approx(two["cosines"][::-1], abs=1e-3)
    assert [s["title"] for s in turned["sources"]] == ["Three", "Two", "One"]
    assert json.loads(json.dumps(first)) == first


def test_rows_are_in_the_order_of_their_weakest_source_with_a_reason():
    found = verdict(uneven(), WEIGHTS)
    scores = [r["score"] for r in found["methods"] if r["score"] is not None]
    assert all(one >= two - 0.0051 for one, two in pairwise(scores))
    assert all(r["reason"] for r in found["methods"])
    assert found["methods"][0]["reason"].startswith("Least unlike its weakest source")


def test_a_proposal_is_better_than_the_choice_and_no_larger_than_twice_a_source():
    found = verdict([build_adapter(i) for i in range(3)], method="linear")
    better = row(found, found["proposal"]["method"])
    assert better["score"] > row(found, "linear")["score"]
    assert better["rank"]["max"] <= 2 * 4
    chosen = verdict(
        [build_adapter(i) for i in range(3)], method=better["name"], **better["params"]
    )
    assert chosen["proposal"] is None


def test_the_controls_are_always_there():
    adapters = uneven()
    found = verdict(adapters, WEIGHTS, which="some")
    single, random = found["controls"]
    place = int(single["name"].partition(":")[2])
    assert single["cosines"][place] == pytest.approx(1.0)
    assert single["cosines"] == pytest.approx(
        [adapters[place].cosine(a) for a in adapters], abs=1e-3
    )
    drawn = [
        [random_adapter(adapters[place], seed).cosine(a) for a in adapters] for seed in range(200)
    ]
    assert np.std(drawn, axis=0) == pytest.approx(random["cosines"], rel=0.25)


def test_a_random_adapter_keeps_ranks_and_norms_and_follows_its_seed():
    like = uneven()[2]
    drawn = random_adapter(like, 5)
    assert drawn.ranks == like.ranks
    for name, module in drawn.factors.items():
        assert module.norm() == pytest.approx(like.factors[name].norm(), rel=1e-4)
    assert drawn.id == random_adapter(like, 5).id != random_adapter(like, 6).id


def test_copies_share_everything_and_opposed_copies_cancel():
    one = build_adapter(3)
    for weight, signs, cancelled in ((1.0, 0.0, 0.0), (-1.0, 1.0, 1.0)):
        found = clashes(joint([one, one]), [1.0, weight])
        for clash in found.values():
            assert (clash.inputs, clash.outputs) == pytest.approx((1.0, 1.0), abs=1e-4)
            assert (clash.signs, clash.cancelled) == pytest.approx((signs, cancelled), abs=1e-4)
            assert clash.stake == pytest.approx(clash.energy, rel=1e-3)
    assert sum(c.energy for c in found.values()) == pytest.approx(1.0)


def test_overlap_is_that_of_principal_angles():
    one, two = build_adapter(0, rank=2), build_adapter(1, rank=3)
    found = clashes(joint([one, two]), [1.0, 1.0])
    for name, clash in found.items():
        q, p = (np.linalg.qr(a.factors[name].A.T.astype(float))[0] for a in (one, two))
        cosines = np.linalg.svd(q.T @ p)[1]
        assert clash.inputs == pytest.approx(float((cosines**2).mean()), abs=1e-4)
        assert 0.35 < clash.signs < 0.65


def test_even_weights_keep_their_signs_and_lift_the_weakest_source():
    loud = build_adapter(1, scaling=6.0)
    found = joint([build_adapter(0), loud, build_adapter(2)])
    weights = even_weights(found, [1.0, 1.0, -1.0])
    assert weights is not None
    assert np.sign(weights).tolist() == [1, 1, -1]
    assert abs(weights[1]) < abs(weights[0])
    assert weakest(found, np.array(weights)) > weakest(found, np.array([1.0, 1.0, -1.0])) + 0.03
    assert even_weights(joint([build_adapter(0), build_adapter(2)]), [1.0, 1.0]) is None


def test_one_adapter_alone_has_no_conflict_and_no_proposal():
    found = verdict([build_adapter(0)], method="svd", rank=2, which="some")
    assert (found["conflict"], found["proposal"], found["weights"]) == (None, None, None)
    assert row(found, "svd")["rank"] == {"min": 2, "max": 2}
    assert row(found, "cat")["cosines"] == pytest.approx([1.0])
    assert "only changes its rank" in found["warnings"][0]


def test_shared_seeds_are_warned_of():
    one = build_adapter(0)
    alike = {
        n: replace(m, B=np.random.default_rng(9).normal(size=m.B.shape).astype("f"))
        for n, m in one.factors.items()
    }
    found = verdict([one, replace(one, factors=alike)], which="some")
    assert any("same random A" in text for text in found["warnings"])


def test_other_sizes_and_dora_are_refused_by_name():
    small = Adapter(
        {
            "model.layers.0.self_attn.q_proj": LoraFactors(
                np.ones((2, 6), "f"), np.ones((5, 2), "f")
            )
        },
        AdapterCard(base_model="tiny"),
    )
    with pytest.raises(IncompatibleAdapters, match=r"layers\.0\.self_attn\.q_proj.*24→20.*6→5"):
        verdict([build_adapter(0), small])
    one = build_adapter(0)
    dora = {n: replace(m, magnitude=np.ones(m.d_out, "f")) for n, m in one.factors.items()}
    with pytest.raises(IncompatibleAdapters, match="DoRA"):
        verdict([replace(one, factors=dora), build_adapter(1)])
    with pytest.raises(InvalidRequest, match="need one each"):
        verdict([one], [1.0, 2.0])
    with pytest.raises(InvalidRequest, match="zero"):
        verdict([one], [0.0])
