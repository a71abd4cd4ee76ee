"""Verdicts of a studio: statistics taken once, a worker of their own, cards put together."""

import time
from dataclasses import replace

import numpy as np
import pytest

from lora_studio.adapter import AdapterCard
from lora_studio.composition import compose
from lora_studio.errors import IncompatibleAdapters, InvalidRequest, NotFound
from lora_studio.gallery import Gallery
from lora_studio.hosting import Hosting
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.studio.permissions import Actor
from lora_studio.worker.local import LocalWorker
from tests.conftest import build_adapter

CARDS = [("One", "mit", ("cat",)), ("Two", "cc-by-nc-4.0", ("Cat", "dog")), ("Three", "", ())]


def made(seed, **card):
    title, licence, words = CARDS[seed] if seed < len(CARDS) else (f"Number {seed}", "mit", ())
    adapter = build_adapter(seed, layers=3, title=title, licence=licence).folded()
    return replace(adapter, card=replace(adapter.card, trigger_words=words, **card))


@pytest.fixture
def studio(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", base_model="tiny")
    with Studio(settings, Gallery.open(settings), LocalWorker(settings)) as found:
        yield found


def recipe(entries, method="svd", weights=None, **params):
    given = weights or [1.0] * len(entries)
    sources = [{"id": e.id, "weight": w} for e, w in zip(entries, given, strict=True)]
    return {
        "base": {"repo": "tiny"},
        "sources": sources,
        "compose": {"method": method, "params": params},
    }


def until_ready(studio, wanted, which="some"):
    """Asks as the page does; everything it was told."""
    told = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        told.append(studio.peek_verdict(wanted, which))
        if told[-1]["ready"] and not told[-1]["left"]:
            return told
        time.sleep(0.05)
    raise AssertionError(told[-1])


def test_a_verdict_is_given_from_statistics_that_are_taken_once(studio):
    adapters = [made(i) for i in range(3)]
    entries = [studio.gallery.add(adapter) for adapter in adapters]
    told = until_ready(studio, recipe(entries, rank=3))
    assert not told[0]["ready"]
    assert told[0]["licence"]["because"] == ["Three"]
    assert told[0]["triggers"]["collisions"] == [{"word": "cat", "sources": ["One", "Two"]}]
    row = next(r for r in told[-1]["methods"] if r["name"] == "svd")
    merged = compose("svd", adapters, rank=3).adapter
    assert row["cosines"] == pytest.approx([merged.cosine(a) for a in adapters], abs=2e-3)
    assert [s["title"] for s in told[-1]["sources"]] == ["One", "Two", "Three"]
    kept = list(studio.gallery.statistics.root.rglob("*.stats"))
    assert len(kept) == 6
    again = until_ready(studio, recipe(entries, weights=[1.0, 0.5, -1.0], rank=3))
    assert again[0]["ready"], "what was found out once is known"
    assert studio.worker.status()["model"]["state"] == "stopped"
    assert studio.worker.status()["light"]["state"] == "stopped"


def test_all_methods_are_judged_in_one_go_too(studio):
    entries = [studio.gallery.add(made(i)) for i in range(2)]
    found = studio.judge_composition(recipe(entries, "cat"), "all").result()
    some = studio.judge_composition(recipe(entries, "cat"), "some").result()
    assert len(found["methods"]) > len(some["methods"]) > 5
    assert found["chosen"] == "cat"
    assert found["left"] == 0
    assert [row["name"].partition(":")[0] for row in found["controls"]] == ["single", "random"]


def test_lost_and_damaged_statistics_are_taken_again(studio):
    entries = [studio.gallery.add(made(i)) for i in range(2)]
    first = until_ready(studio, recipe(entries))[-1]
    for path in studio.gallery.statistics.root.rglob("*.stats"):
        path.write_bytes(b"torn")
    third = studio.gallery.add(made(4))
    more = until_ready(studio, recipe([*entries, third]))
    assert not more[0]["ready"]
    assert len(more[-1]["sources"]) == 3
    before, after = np.array(first["cosines"]), np.array(more[-1]["cosines"])[:2, :2]
    assert after == pytest.approx(before, abs=1e-3)


def test_where_nothing_can_be_kept_it_says_so(studio):
    entries = [studio.gallery.add(made(i)) for i in range(2)]
    studio.gallery.statistics.root.write_text("in the way")
    with pytest.raises(Exception, match="Is the disk full"):
        until_ready(studio, recipe(entries))


def test_what_does_not_fit_is_refused_with_what_the_cards_say(studio):
    dora = made(0)
    factors = {n: replace(m, magnitude=np.ones(m.d_out, "f")) for n, m in dora.factors.items()}
    entries = [studio.gallery.add(replace(dora, factors=factors)), studio.gallery.add(made(1))]
    found = until_ready(studio, recipe(entries))[-1]
    assert "In ‘One’" in found["refused"]
    assert "DoRA" in found["refused"]
    assert found["licence"]["outcome"] == "non_commercial"
    other = studio.gallery.add(
        replace(made(3), card=AdapterCard(title="Stranger", base_model="another"))
    )
    with pytest.raises(IncompatibleAdapters, match="Stranger"):
        studio.peek_verdict(recipe([entries[1], other]))
    with pytest.raises(InvalidRequest, match="takes part"):
        studio.peek_verdict(recipe(entries, weights=[0.0, 0.0]))
    many = [studio.gallery.add(made(10 + i)) for i in range(17)]
    with pytest.raises(InvalidRequest, match="at most 16"):
        studio.peek_verdict(recipe(many))
    with pytest.raises(InvalidRequest, match="some or all"):
        studio.peek_verdict(recipe(many[:2]), "everything")


def test_nobody_learns_of_adapters_that_are_not_theirs(tmp_path):
    settings = Settings(
        data_dir=tmp_path / "data", base_model="tiny", hosting=Hosting(auth="header:X-User")
    )
    with Studio(settings, Gallery.open(settings), LocalWorker(settings)) as studio:
        mine = studio.gallery.add(made(0), owner="me", visibility="private")
        shown = studio.gallery.add(made(1), owner="me")
        with pytest.raises(NotFound):
            studio.peek_verdict(recipe([mine, shown]), actor=Actor("you", "You"))
        with pytest.raises(NotFound):
            studio.judge_composition(recipe([mine, shown]), actor=Actor("you", "You")).result()
