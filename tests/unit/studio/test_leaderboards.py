"""The shipped leaderboards fit the gallery they are about, and a cell can be measured again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lora_studio.composition import METHODS
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.evaluation.leaderboard import shipped
from lora_studio.settings import Settings
from lora_studio.studio import Studio


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """With the demo in it, asked at once: adapters are being placed yet."""
    with Studio.open(Settings(data_dir=tmp_path_factory.mktemp("board") / "data")) as found:
        yield found


@pytest.mark.parametrize("modality", ["text", "image"])
def test_every_line_can_be_composed_as_it_stands(modality: str):
    board = shipped(modality)
    for group in board.groups:
        assert len(group.adapters) == len({id for id, _ in group.adapters}) > 1
        for line in board.lines:
            cell = board.cells[group.key].get(line.label, {})
            if line.method:
                recipe = board.recipe(group, line)
                METHODS.get(recipe.method).checked(recipe.params)
            if "rate" in cell:
                assert 0 <= cell["low"] <= cell["rate"] <= cell["high"] <= 1
                assert cell["rate"] == pytest.approx(cell["correct"] / cell["n"], abs=1e-4)


def test_groups_of_three_to_eight_adapters_and_all_merges_are_there():
    board = shipped("text")
    single = [len(group.adapters) for group in board.groups if not group.suite]
    assert {3, 4, 6, 8} <= set(single)
    measured = {line.method for line in board.lines if line.method}
    assert {m.name for m in METHODS if m.kind in ("merging", "routing")} <= measured


def test_controls_compose_nothing():
    board = shipped("text")
    group, line = board.find(board.groups[0].key, "base model")
    with pytest.raises(NotFound, match="control"):
        board.recipe(group, line)
    with pytest.raises(NotFound, match="no cell"):
        board.find("nowhere", "base model")
    with pytest.raises(NotFound, match="leaderboard"):
        shipped("music")


def test_the_sources_of_every_group_are_in_a_new_gallery(studio: Studio):
    for modality in ("text", "image"):
        for group in studio.get_leaderboard(modality)["groups"]:
            for id, title in group["adapters"]:
                assert studio.get_adapter(id)["title"] == title


@pytest.mark.parametrize("label", ["Concatenate", "Selection (routed)", "LoRA-LEGO, k=r"])
def test_a_cell_measured_again_gives_the_shipped_figure(studio: Studio, label: str):
    board = shipped("text")
    group = board.groups[0]
    before = len(studio.gallery.search(kinds=("composed",)).hits)
    found = studio.measure_cell(group.key, label).result()
    known = board.cells[group.key][label]
    assert found["n"] == known["n"]
    # Answers that lie on the edge may fall differently where sums are rounded differently.
    assert found["correct"] == pytest.approx(known["correct"], abs=0.02 * known["n"])
    assert len(studio.gallery.search(kinds=("composed",)).hits) == before


def test_part_of_a_cell_and_the_base_model_are_measured_too(studio: Studio):
    group = shipped("text").groups[0]
    found = studio.measure_cell(group.key, "base model", 5).result()
    assert found["n"] == 5 * len(group.adapters)
    assert found["correct"] == 0


def test_what_cannot_be_measured_is_refused_at_once(studio: Studio):
    group = shipped("text").groups[0]
    with pytest.raises(InvalidRequest, match="by itself"):
        studio.measure_cell(group.key, "own adapter")
    with pytest.raises(InvalidRequest, match="0 to 100"):
        studio.measure_cell(group.key, "base model", -5)


def test_a_measurement_can_be_stopped(studio: Studio):
    group = shipped("text").groups[0]
    flow = studio.measure_cell(group.key, "Refit on samples, k=r")
    kinds = []
    for event in flow:
        kinds.append(event["type"])
        flow.cancel()
    assert kinds[-1] == "cancelled"


def test_a_source_that_was_deleted_is_named(studio: Studio):
    board = shipped("text")
    group = board.groups[0]
    id, _ = group.adapters[0]
    studio.delete_adapter(id)
    try:
        with pytest.raises(NotFound, match="was deleted"):
            studio.measure_cell(group.key, "Concatenate").result()
    finally:
        studio.restore_adapter(id)
