"""What the page sends is not trusted: baskets, columns, maps, jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.web.jobs import UNKNOWN_ERROR, Jobs
from lora_studio.web.pages.compare_form import MAX_PROMPTS, prompts_of
from lora_studio.web.pages.gallery import gather
from lora_studio.web.routes import MapFiles
from lora_studio.web.session import MAX_BASKET, columns_of, recipe_of, sources_of, test_sources_of

test_sources_of.__test__ = False  # a function of the app, not a test
VISITOR = SimpleNamespace(session_hash="visitor")


def basket(*rows: dict) -> dict:
    return {"basket": [{"weight": 1.0, "enabled": True, **row} for row in rows]}


class Handle:
    """A job that yields given events and remembers being cancelled."""

    def __init__(self, *events: dict) -> None:
        self.events = events
        self.cancelled = False

    def __iter__(self):
        yield from self.events

    def cancel(self) -> None:
        self.cancelled = True


def test_rows_that_are_off_stay_out_of_the_recipe():
    session = basket({"id": "a"}, {"id": "b", "enabled": False}, {"id": "c", "weight": -0.5})
    recipe = recipe_of(session, "base", "cat", {"scale": 2.0})
    assert [(s["id"], s["weight"]) for s in recipe["sources"]] == [("a", 1.0), ("c", -0.5)]
    assert recipe["compose"] == {"method": "cat", "params": {"scale": 2.0}, "seed": 0}


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), "1", None])
def test_a_weight_must_be_a_finite_number(weight: object):
    with pytest.raises(InvalidRequest, match="not a number"):
        sources_of(basket({"id": "a", "weight": weight}))


def test_a_basket_has_an_end_and_an_empty_one_says_what_to_do():
    with pytest.raises(InvalidRequest, match="at most"):
        sources_of(basket(*({"id": str(i)} for i in range(MAX_BASKET + 1))))
    with pytest.raises(InvalidRequest, match="describe a task"):
        recipe_of({}, "base", "cat")


def test_the_base_is_always_the_first_column_and_eight_is_the_most():
    columns = [{"kind": "adapter", "id": str(i), "title": "t"} for i in range(20)]
    found = columns_of({"columns": columns}, None, "base")
    assert found[0] == {"kind": "base"}
    assert len(found) == 8


def test_a_saved_composition_becomes_its_recipe():
    studio = SimpleNamespace(get_recipe=lambda name: {"recipe": {"id": name}})
    columns = [{"kind": "composition", "recipe_id": "r", "title": "t"}]
    assert columns_of({"columns": columns}, studio, "base")[1]["recipe"] == {"id": "r"}


def test_the_parents_of_a_composition_bring_its_test_prompts():
    session = basket({"id": "a"}, {"id": "made", "parents": ["b", "a"]})
    session["columns"] = [{"kind": "random"}, {"kind": "adapter", "id": "c", "sources": ["d"]}]
    assert test_sources_of(session) == ["a", "b", "d"]


def test_only_published_maps_of_the_studio_are_served(tmp_path: Path):
    maps = MapFiles(tmp_path / "studio")
    inside = tmp_path / "studio" / "maps" / "a.bin"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(b"1")
    outside = tmp_path / "b.bin"
    outside.write_bytes(b"2")
    with pytest.raises(NotFound):
        maps.find("a.bin")
    assert maps.find(maps.publish(str(inside))) == inside.resolve()
    for bad in (outside, inside.parent / ".." / ".." / ".." / "b.bin", inside.with_suffix(".txt")):
        with pytest.raises(InvalidRequest):
            maps.publish(str(bad))


def test_prompts_are_lines_and_have_an_end():
    assert prompts_of("one\n\n  two ") == ["one", "two"]
    with pytest.raises(InvalidRequest):
        prompts_of(" \n ")
    with pytest.raises(InvalidRequest):
        prompts_of("x\n" * (MAX_PROMPTS + 1))


def test_loose_files_become_one_folder(tmp_path: Path):
    files = []
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text(name)
        files.append(str(tmp_path / name))
    folder = tmp_path / "together"
    folder.mkdir()
    assert {p.name for p in gather(files, folder).iterdir()} == {Path(f).name for f in files}
    assert gather(files[:1], folder) == Path(files[0])
    with pytest.raises(InvalidRequest):
        gather(None, folder)


def test_a_job_streams_its_states_and_ends_with_its_result():
    handle = Handle(
        {"type": "queued", "position": 2},
        {"type": "progress", "fraction": 0.5, "message": "half"},
        {"type": "done", "result": {"x": 1}},
    )
    seen = list(Jobs().stream(VISITOR, "slot", lambda: handle))
    assert [state["state"] for state, _ in seen] == ["queued", "running", "done"]
    assert seen[-1][1] == {"result": {"x": 1}}


def test_leaving_early_or_stopping_cancels_the_job():
    jobs = Jobs()
    handle = Handle({"type": "queued", "position": 1}, {"type": "started"})
    stream = jobs.stream(VISITOR, "slot", lambda: handle)
    next(stream)
    jobs.stop("someone else")
    assert not handle.cancelled
    jobs.stop("visitor", "slot")
    assert handle.cancelled
    handle.cancelled = False
    stream.close()
    assert handle.cancelled


def test_errors_are_one_sentence_and_what_was_not_foreseen_tells_nothing():
    def refuse() -> Handle:
        raise InvalidRequest("Pick an adapter.")

    def crash() -> Handle:
        raise RuntimeError("secret path /home/x")

    jobs = Jobs()
    ((said, _),) = jobs.stream(VISITOR, "slot", refuse)
    assert (said["state"], said["error"]) == ("error", "Pick an adapter.")
    ((said, _),) = jobs.stream(VISITOR, "slot", crash)
    assert said["error"] == UNKNOWN_ERROR
