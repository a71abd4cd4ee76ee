"""Owners, moderators and the log: who finds what, and what is kept of every change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy.exc import DBAPIError

from lora_studio.errors import InvalidRequest, NotAllowed, NotFound, TooMany
from lora_studio.gallery import Allowance, Gallery, Viewer
from lora_studio.retrieval.centroids import of_samples
from lora_studio.retrieval.embed import Embedder
from lora_studio.settings import Settings
from tests.unit.gallery.conftest import BASE, MakeAdapter


def titles(gallery: Gallery, viewer: Viewer) -> set[str]:
    return {hit.entry.title for hit in gallery.search(viewer=viewer).hits}


def log(gallery: Gallery) -> list[tuple[str, str]]:
    return [(row["actor"], row["action"]) for row in reversed(gallery.history())]


def test_a_search_shows_what_is_for_everyone_and_what_is_ones_own(
    gallery: Gallery, make_adapter: MakeAdapter
):
    gallery.add(make_adapter(1, title="open"), owner="alice")
    gallery.add(make_adapter(2, title="mine"), owner="alice", visibility="private")
    gallery.add(make_adapter(3, title="linked"), visibility="unlisted")
    held = gallery.add(make_adapter(4, title="held"), owner="bob")
    gallery.set_review(held.id, "quarantined", "mia")
    assert titles(gallery, Viewer()) == {"open"}
    assert titles(gallery, Viewer("alice")) == {"open", "mine"}
    assert titles(gallery, Viewer("bob")) == {"open", "held"}
    assert titles(gallery, Viewer(everything=True)) == {"open", "mine", "linked", "held"}
    facets = gallery.search(viewer=Viewer("bob")).facets["kinds"]
    assert facets == [{"value": "uploaded", "count": 2}]
    gallery.set_review(held.id, "reviewed", "mia")
    assert titles(gallery, Viewer()) == {"open", "held"}


def test_only_what_was_reviewed_is_chosen_for_others(
    gallery: Gallery, make_adapter: MakeAdapter, place: Callable[[Gallery], None], minilm: Embedder
):
    new = gallery.add(make_adapter(1, title="new", samples=("say it in French",)), owner="alice")
    old = gallery.add(make_adapter(2, title="old", samples=("translate to French",)), owner="carol")
    gallery.set_review(old.id, "reviewed", "mia")
    place(gallery)
    query = minilm.encode(["in French please"])[0]

    def chosen(owner: str, **more: bool) -> set[str]:
        viewer = Viewer(owner, reviewed=True, **more)
        return {h.entry.title for h in gallery.retrieve(query, base=BASE, k=9, viewer=viewer)}

    assert chosen("bob") == {"old"}
    assert chosen("alice") == {"old", "new"}
    assert {h.entry.title for h in gallery.search("French", query).hits} == {"old", "new"}
    gallery.set_review(new.id, "reviewed", "mia")
    assert chosen("bob") == {"old", "new"}


def test_the_same_weights_kept_private_by_another_are_not_betrayed(
    gallery: Gallery, make_adapter: MakeAdapter
):
    hers = gallery.add(make_adapter(1, title="hers"), owner="alice", visibility="private")
    his = gallery.add(make_adapter(1, title="his"), owner="bob")
    assert (his.title, his.owner) == ("his", "bob")
    assert his.id != hers.id
    assert gallery.add(make_adapter(1), owner="bob").id == his.id
    gallery.delete(hers.id, "alice")
    again = gallery.add(make_adapter(1, title="third"), owner="carol")
    assert again.id not in (hers.id, his.id)
    gallery.restore(hers.id, "alice")
    assert gallery.get(hers.id).title == "hers"
    assert gallery.blob_path(his.id).read_bytes() == gallery.blob_path(hers.id).read_bytes()


def test_weights_held_back_do_not_come_in_again(gallery: Gallery, make_adapter: MakeAdapter):
    entry = gallery.add(make_adapter(1), owner="alice")
    gallery.set_review(entry.id, "quarantined", "mia")
    gallery.delete(entry.id, "alice")
    for owner in ("alice", "bob"):
        with pytest.raises(NotAllowed, match="moderator"):
            gallery.add(make_adapter(1), owner=owner)


def test_an_edited_card_is_found_by_its_new_words_and_embedded_again(
    gallery: Gallery, make_adapter: MakeAdapter, place: Callable[[Gallery], None]
):
    entry = gallery.add(make_adapter(1, title="Old name", description="talks"), owner="alice")
    place(gallery)
    assert gallery.vector(entry.id) is not None
    gallery.edit(entry.id, {"title": "Pirate", "tags": ("sea",)}, "alice")
    assert gallery.search("pirate").total == 1
    assert gallery.search("old").total == 0
    assert gallery.search(tags=["sea"]).total == 1
    assert gallery.pending_vectors(gallery.embedder_id)
    place(gallery)
    assert gallery.vector(entry.id) is not None
    assert gallery.adapter(entry.id).card.title == "Pirate"
    gallery.edit(entry.id, {"licence": "mit"}, "alice")
    assert not gallery.pending_vectors(gallery.embedder_id)


def test_every_change_is_one_row_of_the_log_and_no_change_is_none(
    settings: Settings, make_adapter: MakeAdapter
):
    gallery = Gallery.open(settings)
    entry = gallery.add(make_adapter(1), owner="alice")
    gallery.add(make_adapter(1), owner="bob")  # known already: nothing changes
    gallery.set_visibility(entry.id, "private", "alice")
    gallery.set_visibility(entry.id, "private", "alice")
    gallery.edit(entry.id, {"title": "New"}, "alice")
    gallery.edit(entry.id, {"title": "New"}, "alice")
    gallery.set_review(entry.id, "quarantined", "mia")
    gallery.delete(entry.id, "mia")
    gallery.delete(entry.id, "mia")
    gallery.restore(entry.id, "mia")
    gallery.report(entry.id, "It lies.", "bob", 10)
    assert gallery.close_reports(entry.id, "mia") == 1
    assert gallery.close_reports(entry.id, "mia") == 0
    gallery.ban("bob", "Spam.", "mia")
    gallery.ban("bob", "Spam.", "mia")
    gallery.unban("bob", "mia")
    gallery.delete(entry.id, "alice")
    gallery.close()
    gallery = Gallery.open(settings, tombstone_grace=-1)
    assert log(gallery) == [
        ("alice", "upload"),
        ("alice", "show"),
        ("alice", "edit"),
        ("mia", "quarantine"),
        ("mia", "delete"),
        ("mia", "restore"),
        ("bob", "report"),
        ("mia", "close"),
        ("mia", "ban"),
        ("mia", "unban"),
        ("alice", "delete"),
        ("studio", "expire"),
    ]
    assert gallery.audit_broken_at() is None
    row = gallery.history(target=entry.id)[-2]
    assert (row["before"], row["after"]) == ({"visibility": "public"}, {"visibility": "private"})
    gallery.close()


def test_a_failed_change_leaves_no_row(gallery: Gallery, make_adapter: MakeAdapter):
    entry = gallery.add(make_adapter(1), owner="alice")
    with pytest.raises(NotFound):
        gallery.delete("0" * 64)
    with pytest.raises(TooMany):
        gallery.report(entry.id, "x", "bob", 0)
    with pytest.raises(TooMany):
        gallery.add(make_adapter(2), owner="alice", allowance=Allowance(1, 1 << 30))
    assert log(gallery) == [("alice", "upload")]


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET actor = 'nobody' WHERE seq = 2", "DELETE FROM audit WHERE seq = 2"],
)
def test_the_log_refuses_to_be_changed_and_notices_if_it_was(
    gallery: Gallery, make_adapter: MakeAdapter, statement: str
):
    for seed in range(4):
        gallery.add(make_adapter(seed), owner="alice")
    with pytest.raises(DBAPIError, match="only appended"), gallery._store.write() as connection:
        connection.exec_driver_sql(statement)
    assert gallery.audit_broken_at() is None
    with gallery._store.write() as connection:  # as somebody with the file in hand would
        for verb in ("update", "delete"):
            connection.exec_driver_sql(f"DROP TRIGGER audit_{verb}")
        connection.exec_driver_sql(statement)
    assert gallery.audit_broken_at() == 2


def test_purging_takes_the_file_unless_somebody_else_has_it(
    gallery: Gallery, make_adapter: MakeAdapter
):
    hers = gallery.add(make_adapter(1), owner="alice", visibility="private")
    his = gallery.add(make_adapter(1), owner="bob")
    path = gallery.blob_path(hers.id)
    gallery.purge(hers.id, "mia")
    with pytest.raises(NotFound):
        gallery.get(hers.id)
    assert gallery.blob_path(his.id) == path
    gallery.purge(his.id, "mia")
    assert not path.exists()
    assert gallery.search().total == 0


@pytest.mark.parametrize("limit", [1, 5])
def test_an_allowance_is_never_overrun_however_many_add_at_once(
    gallery: Gallery, make_adapter: MakeAdapter, limit: int
):
    done: list[str] = []
    refused: list[str] = []

    def add(seed: int) -> None:
        try:
            allowance = Allowance(limit, 1 << 30)
            entry = gallery.add(make_adapter(seed), owner="alice", allowance=allowance)
            done.append(entry.id)
        except TooMany as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), len(refused)) == (limit, 16 - limit)
    assert gallery.search().total == limit
    assert len(list(gallery._blobs.root.glob("??/*"))) == limit  # the refused left no file
    gallery.add(make_adapter(99), owner="bob", allowance=Allowance(limit, 1 << 30))


def test_bytes_count_until_they_are_removed_for_good(gallery: Gallery, make_adapter: MakeAdapter):
    entry = gallery.add(make_adapter(1), owner="alice")
    room = Allowance(100, 2 * entry.bytes)
    gallery.delete(entry.id, "alice")
    gallery.add(make_adapter(2), owner="alice", allowance=room)
    with pytest.raises(TooMany, match="MB"):
        gallery.add(make_adapter(3), owner="alice", allowance=room)
    gallery.purge(entry.id, "mia")
    gallery.add(make_adapter(3), owner="alice", allowance=room)


def test_a_centroid_places_an_adapter_as_its_samples_would(
    gallery: Gallery, make_adapter: MakeAdapter, place: Callable[[Gallery], None], minilm: Embedder
):
    samples = ("say it in French", "translate: the red house")
    sent = of_samples(samples, minilm).to_text()
    private = gallery.add(make_adapter(1, title="private", centroid=sent), owner="alice")
    told = gallery.add(make_adapter(2, title="told", samples=samples), owner="bob")
    place(gallery)
    assert gallery.get(private.id).described_by == "centroid"
    assert np.allclose(gallery.vector(private.id), gallery.vector(told.id), atol=1e-6)
    hits = gallery.search("French", minilm.encode(["French"])[0]).hits
    assert {(hit.entry.title, hit.reason_kind) for hit in hits} >= {("private", "card")}
    gallery.edit(private.id, {"description": "Speaks French."}, "alice")
    assert gallery.get(private.id).described_by == "centroid"


def test_a_centroid_of_another_embedder_or_length_places_nothing(
    gallery: Gallery, make_adapter: MakeAdapter, minilm: Embedder, tmp_path: Path
):
    gallery.add(make_adapter(1, centroid=of_samples(["x"], minilm).to_text()))
    other = of_samples(["x"], minilm).to_text().replace("minilm", "other", 1)
    entry = gallery.add(make_adapter(2, title="other", centroid=other))
    assert entry.described_by == ""
    short = "minilm 1 AACAPw=="  # one float32: 1.0
    with pytest.raises(InvalidRequest, match="length 384"):
        gallery.add(make_adapter(3, centroid=short))
