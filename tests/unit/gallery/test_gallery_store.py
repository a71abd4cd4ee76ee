"""What goes into the gallery comes out the same, once, and can be taken back."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from lora_studio.adapter import Adapter
from lora_studio.errors import InvalidAdapter, InvalidRequest, LoraStudioError, NotFound
from lora_studio.gallery import Gallery
from lora_studio.gallery.tables import open_engine
from lora_studio.settings import Settings


def stored_files(settings: Settings) -> list[Path]:
    return sorted((settings.data_dir / "gallery" / "blobs").glob("*/*.safetensors"))


def test_an_adapter_comes_back_the_same(gallery: Gallery, make_adapter) -> None:
    adapter = make_adapter(1, title="Past tense", samples=("she walks",), tags=("grammar",))
    entry = gallery.add(adapter, owner="ann")
    back = gallery.adapter(entry.id)
    assert back.id == adapter.id
    assert back.card == adapter.card
    for name, module in adapter.factors.items():
        assert np.allclose(back.factors[name].delta(), module.delta(), atol=1e-6)


def test_the_entry_measures_the_adapter(gallery: Gallery, make_adapter) -> None:
    adapter = make_adapter(1, rank=3, title="T", licence="MIT", contributor="Ann")
    entry = gallery.add(adapter, owner="ann")
    assert (entry.ranks, entry.max_rank, entry.modules) == ((3,), 3, 4)
    assert entry.module_kinds == ("q_proj", "v_proj")
    assert entry.norm == pytest.approx(adapter.norm())
    first = [m.norm() for name, m in adapter.factors.items() if "layers.0" in name]
    assert entry.layer_norms[0] == pytest.approx(np.linalg.norm(first))
    assert len(entry.layer_norms) == 2
    assert entry.parameters == adapter.parameters
    assert entry.bytes == gallery.blob_path(entry.id).stat().st_size
    assert (entry.kind, entry.owner, entry.licence) == ("uploaded", "ann", "MIT")
    assert entry.described_by == ""
    assert entry.warnings == ()
    assert entry.created.endswith("+00:00")


@pytest.mark.parametrize(
    ("factor", "warning"),
    [(0.0, "Every update is zero"), (1000.0, "unusually large"), (np.nan, "not finite")],
)
def test_doubtful_weights_are_warned_of(
    gallery: Gallery, make_adapter, factor: float, warning: str
) -> None:
    entry = gallery.add(make_adapter(1, title="T").scaled(factor))
    assert any(warning in text for text in entry.warnings)
    assert np.isfinite(entry.layer_norms).all()


def test_a_missing_title_is_replaced(gallery: Gallery, make_adapter) -> None:
    adapter = make_adapter(1)
    assert gallery.add(adapter).title == f"Adapter {adapter.id[:8]}"


def test_adding_twice_keeps_the_first(gallery: Gallery, settings: Settings, make_adapter) -> None:
    first = gallery.add(make_adapter(1, title="First"))
    again = gallery.add(make_adapter(1, title="Second"))
    assert again == first
    assert gallery.count() == 1
    assert len(stored_files(settings)) == 1


def test_the_same_weights_for_two_bases_are_two_adapters(gallery: Gallery, make_adapter) -> None:
    gallery.add(make_adapter(1))
    gallery.add(make_adapter(1, base_model="other"))
    assert (gallery.count(), gallery.count("other"), gallery.count("none")) == (2, 1, 0)


@pytest.mark.parametrize(
    ("owner", "recipe", "card", "kind"),
    [
        ("ann", None, {}, "uploaded"),
        ("demo", None, {}, "demo"),
        ("ann", "r1", {}, "composed"),
        ("demo", None, {"parents": ("x",)}, "composed"),
    ],
)
def test_kind_follows_where_it_came_from(
    gallery: Gallery, make_adapter, owner: str, recipe: str | None, card: dict, kind: str
) -> None:
    entry = gallery.add(make_adapter(1, **card), owner=owner, recipe=recipe)
    assert entry.kind == kind
    assert entry.recipe == (recipe or "")


def test_ids_may_be_shortened(gallery: Gallery, make_adapter) -> None:
    entry = gallery.add(make_adapter(1))
    assert gallery.get(entry.id[:8]) == entry
    assert gallery.adapter(entry.id[:20]).id == entry.id
    for name in (entry.id[:7], "", "%", "zzzzzzzzzz", entry.id + "0"):
        with pytest.raises(NotFound):
            gallery.get(name)


def test_an_ambiguous_beginning_says_so(gallery: Gallery, make_adapter) -> None:
    entries = [gallery.add(make_adapter(seed)) for seed in range(2)]
    shelf = gallery._finder._shelf
    twin = entries[0].id[:12] + "f" * 52
    shelf._slot_of[twin] = shelf._slot_of[entries[1].id]
    with pytest.raises(NotFound, match="2 adapters begin"):
        gallery.get(entries[0].id[:10])


def test_deleting_can_be_undone(gallery: Gallery, make_adapter) -> None:
    entry = gallery.add(make_adapter(1, title="T"), tests=[{"prompt": "a", "target": "b"}])
    assert gallery.delete(entry.id).deleted
    assert gallery.count() == 0
    assert gallery.search().total == 0
    assert gallery.get(entry.id).deleted
    for use in (gallery.adapter, gallery.blob_path, gallery.tests):
        with pytest.raises(NotFound, match="Restore it"):
            use(entry.id)
    assert gallery.delete(entry.id).deleted
    assert gallery.restore(entry.id) == entry
    assert gallery.adapter(entry.id).id == entry.id
    assert gallery.tests(entry.id) == [{"prompt": "a", "target": "b"}]


def test_adapters_that_come_and_go_leave_nothing_in_memory(gallery: Gallery, make_adapter) -> None:
    stays = gallery.add(make_adapter(0, title="Stays"))
    comes = [make_adapter(seed, title=f"Comes {seed}") for seed in range(1, 6)]
    for _ in range(20):
        for adapter in comes:
            gallery.delete(gallery.add(adapter).id)
    finder = gallery._finder
    assert gallery.search("stays").hits[0].entry == gallery.get(stays.id)
    assert [gallery.get(adapter.id).deleted for adapter in comes] == [True] * 5
    assert len(finder._shelf) < 80, "replaced adapters keep their slots"
    assert len(finder._entries._values) == 6, "what adapters once were is kept"


def test_adding_a_deleted_adapter_replaces_it(gallery: Gallery, make_adapter) -> None:
    old = gallery.add(make_adapter(1, title="Old", samples=("x",)), tests=[{"prompt": "p"}])
    gallery.set_vectors(old.id, "minilm", np.ones((1, 8)), "samples")
    gallery.delete(old.id)
    new = gallery.add(make_adapter(1, title="New", samples=("y", "z")))
    assert (new.id, new.title, new.deleted, new.described_by) == (old.id, "New", False, "")
    assert gallery.tests(new.id) == []
    assert gallery.search("old").total == 0
    assert gallery.search("new").total == 1
    assert gallery.pending_vectors("minilm") == [(new.id, ["y", "z"], "samples")]
    assert gallery.similar(new.id) == []


def test_a_deleted_adapter_goes_for_good_after_the_grace(settings: Settings, make_adapter) -> None:
    with_grace = Gallery.open(settings)
    kept, gone = with_grace.add(make_adapter(1)), with_grace.add(make_adapter(2))
    with_grace.delete(gone.id)
    with_grace.close()
    reopened = Gallery.open(settings)
    assert reopened.get(gone.id).deleted
    assert len(stored_files(settings)) == 2
    reopened.close()
    swept = Gallery.open(settings, orphan_grace=-1, tombstone_grace=-1)
    with pytest.raises(NotFound):
        swept.get(gone.id)
    assert [path.stem for path in stored_files(settings)] == [swept.blob_path(kept.id).stem]
    swept.close()


def test_another_process_sees_changes_at_once(settings: Settings, make_adapter) -> None:
    one, two = Gallery.open(settings), Gallery.open(settings)
    entry = one.add(make_adapter(1, title="Past", samples=("x",)))
    assert two.get(entry.id) == entry
    assert two.search("past").total == 1
    two.set_vectors(entry.id, "minilm", np.eye(8)[:1], "samples")
    assert one.search(vector=np.eye(8)[0]).hits[0].similarity == pytest.approx(1)
    two.delete(entry.id)
    assert one.search().total == 0
    two._store.purge(np.inf)
    with pytest.raises(NotFound):
        one.get(entry.id)
    one.close()
    two.close()


def test_a_private_adapter_is_got_but_not_found(gallery: Gallery, make_adapter) -> None:
    entry = gallery.add(make_adapter(1, title="Secret"), visibility="private")
    assert gallery.get(entry.id).visibility == "private"
    assert gallery.search("secret").total == 0
    assert gallery.count() == 0


def test_a_flipped_bit_is_found_before_use_and_mended(
    gallery: Gallery, make_adapter, caplog: pytest.LogCaptureFixture
) -> None:
    adapter: Adapter = make_adapter(1, title="T")
    entry = gallery.add(adapter)
    path = gallery.blob_path(entry.id)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(damaged)
    with caplog.at_level(logging.ERROR), pytest.raises(InvalidAdapter, match="Upload it again"):
        gallery.adapter(entry.id)
    assert entry.id in caplog.text
    assert gallery.search().total == 0
    gallery.add(adapter)
    assert gallery.adapter(entry.id).id == adapter.id
    assert gallery.search().total == 1


@pytest.mark.parametrize("cut", [True, False])
def test_a_missing_or_short_file_is_named_at_the_start(
    settings: Settings, make_adapter, caplog: pytest.LogCaptureFixture, cut: bool
) -> None:
    first = Gallery.open(settings)
    kept, lost = first.add(make_adapter(1)), first.add(make_adapter(2))
    path = first.blob_path(lost.id)
    first.close()
    if cut:
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3])
    else:
        path.unlink()
    with caplog.at_level(logging.ERROR):
        second = Gallery.open(settings)
    assert lost.id in caplog.text
    assert kept.id not in caplog.text
    assert [hit.entry.id for hit in second.search().hits] == [kept.id]
    with pytest.raises(InvalidAdapter):
        second.adapter(lost.id)
    second.close()


def test_a_gallery_of_a_newer_version_is_left_alone(settings: Settings) -> None:
    Gallery.open(settings).close()
    engine = open_engine(settings.data_dir / "gallery" / "gallery.sqlite")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE counters SET value = 99 WHERE name = 'schema'")
    engine.dispose()
    with pytest.raises(LoraStudioError, match="newer LoRA Studio"):
        Gallery.open(settings)


def test_recipes_are_kept_with_their_latest_result(gallery: Gallery) -> None:
    gallery.put_recipe("r1", "schema: 1\n", {"rank": 4}, None)
    gallery.put_recipe("r2", "schema: 1\n", {}, "a" * 64)
    created = gallery.get_recipe("r1")["created"]
    gallery.put_recipe("r1", "schema: 1\n", {"rank": 8}, "b" * 64)
    recipe = gallery.get_recipe("r1")
    assert recipe["result"] == {"rank": 8}
    assert recipe["adapter_id"] == "b" * 64
    assert recipe["created"] == created
    assert recipe["yaml"] == "schema: 1\n"
    assert [r["id"] for r in gallery.list_recipes(1)] == ["r2"]
    assert len(gallery.list_recipes()) == 2
    with pytest.raises(NotFound, match="no recipe 'r3'"):
        gallery.get_recipe("r3")


def test_notes_are_small_json_values(gallery: Gallery) -> None:
    assert gallery.get_note("demo") is None
    gallery.put_note("demo", {"version": 1})
    gallery.put_note("demo", {"version": 2})
    assert gallery.get_note("demo") == {"version": 2}


def test_vectors_must_belong_to_the_adapters_texts(gallery: Gallery, make_adapter) -> None:
    entry = gallery.add(make_adapter(1, title="T", samples=("a", "b")))
    for vectors, source in (
        (np.ones((3, 8)), "samples"),
        (np.ones((2, 8)), "card"),
        (np.full((2, 8), np.nan), "samples"),
        (np.zeros((2, 8)), "samples"),
    ):
        with pytest.raises(InvalidRequest):
            gallery.set_vectors(entry.id, "minilm", vectors, source)
    assert gallery.get(entry.id).described_by == ""
    gallery.set_vectors(entry.id, "minilm", np.ones((2, 8)), "samples")
    assert gallery.get(entry.id).described_by == "samples"
    assert gallery.pending_vectors("minilm") == []
    assert len(gallery.pending_vectors("another")) == 1
    other = gallery.add(make_adapter(2, title="U"))
    with pytest.raises(InvalidRequest, match="length 8"):
        gallery.set_vectors(other.id, "minilm", np.ones((1, 9)), "card")


def test_sqlite_syncs_every_commit_and_keeps_foreign_keys(settings: Settings) -> None:
    gallery = Gallery.open(settings)
    with gallery._store.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    gallery.close()
