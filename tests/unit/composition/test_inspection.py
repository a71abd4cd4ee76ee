"""The dry run of plans that are carried out while a picture is made."""

import json

import pytest

from lora_studio.composition import Recipe, Scheduled, Source, compose
from lora_studio.composition.inspection import scheduled_figures
from lora_studio.composition.schedule import constant
from lora_studio.errors import InvalidRequest
from lora_studio.formats import canonical
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import handler
from tests.unit.composition.playing import image_adapter


@pytest.fixture
def task(tmp_path):
    """Runs a task on a recipe of two image adapters, a and b."""
    blobs = {}
    for seed, name in enumerate("ab"):
        blobs[name] = str(tmp_path / name)
        (tmp_path / name).write_bytes(canonical.dump(image_adapter(seed)))
    ctx = JobContext(lambda _: None, lambda *_: None, lambda: False, tmp_path)

    def run(kind, method, family="", **source):
        recipe = Recipe({}, (Source("a", **source), Source("b")), method, modality="image")
        args = {"recipe": recipe.to_dict(), "blobs": blobs, "out": str(tmp_path / "out")}
        return handler(kind)({**args, "family": family}, ctx), tmp_path / "out"

    return run


def test_a_dry_run_gives_the_cost_and_the_curves_of_a_schedule(task):
    figures, _ = task("plan_composition", "cached_composite")
    assert figures["scheduled"] is figures["routed"] is True
    assert (figures["branches"], figures["passes"]) == (2, pytest.approx(1.35))
    assert set(figures["curves"]) == {"a", "b"}
    assert [len(curve) for curve in figures["curves"].values()] == [21, 21]
    assert 0 < figures["sign_conflict"] < 1
    assert json.loads(json.dumps(figures)) == figures


def test_a_dry_run_of_a_merge_is_not_scheduled(task):
    figures, _ = task("plan_composition", "svd")
    assert figures["scheduled"] is figures["routed"] is False
    assert figures["rank"] == {"min": 3, "max": 3}


def test_a_dry_run_knows_the_family(task):
    with pytest.raises(InvalidRequest, match="made for sdxl"):
        task("plan_composition", "block_lora", family="flux")


def test_composing_a_schedule_writes_no_adapter_and_tells_its_cost(task):
    result, out = task("compose_adapter", "composite")
    assert result["routed"] is True
    assert (result["passes"], result["notes"]) == (2.0, [])
    assert not out.exists()


def test_a_cut_adapter_is_drawn_under_its_own_id(task):
    figures, _ = task("plan_composition", "switch", module_weights={"unet.up_blocks": 0.0})
    assert set(figures["curves"]) == {"a", "b"}
    plan = Scheduled((constant({}),), curves={"a": (0.5, 0.0), "a#0123": (1.0, 1.0)})
    assert scheduled_figures(plan)["curves"] == {"a": [1.5, 1.0]}


def test_a_schedule_tells_people_what_they_should_know():
    plan = compose("switch", [image_adapter(i) for i in range(3)], tau=20)
    assert scheduled_figures(plan)["notes"] == list(plan.notes) != []
