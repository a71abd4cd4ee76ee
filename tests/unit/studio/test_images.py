"""Pictures through the studio: compared, varied in a grid, kept for a while, judged blind."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from diffusers import UNet2DConditionModel
from peft import FourierFTConfig, get_peft_model
from PIL import Image

from lora_studio.adapter import AdapterCard
from lora_studio.errors import IncompatibleAdapters, InvalidRequest, NotFound
from lora_studio.families import module_shapes
from lora_studio.formats import load_adapter, save_adapter
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.worker.local import LocalWorker
from tests.conftest import build_adapter
from tests.tiny_pipelines import random_adapter, save_pipeline

FEW = {"steps": 3, "guidance": 4.0, "width": 16, "height": 16}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(save_pipeline("sd1", tmp_path_factory.mktemp("pipeline")))


@pytest.fixture(scope="module")
def studio(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(data_dir=folder / "data", base_model=base, device="cpu", max_rows=8)
    worker = LocalWorker(settings)
    with Studio(settings, Gallery.open(settings), worker) as studio:
        sizes = {name: (d_in, d_out) for name, (d_out, d_in) in module_shapes(base).items()}
        for seed, title in enumerate(("Star", "Neon")):
            adapter = random_adapter(sizes, seed, keep="attn")
            card = AdapterCard(title=title, base_model=base, trigger_words=(title.lower(),))
            path = save_adapter(replace(adapter, card=card), folder / title)
            studio.add_adapter(str(path)).result()
        yield studio


@pytest.fixture(scope="module")
def ids(studio):
    hits = studio.search_adapters(kinds=["uploaded"], sort="title")["hits"]
    return {hit["title"]: hit["id"] for hit in hits}


def recipe(ids, method="switch", **params):
    sources = [{"id": i, "weight": 1.0} for i in ids]
    return {"sources": sources, "compose": {"method": method, "params": params}}


def pixels(studio, cell):
    return Image.open(studio.image_path(cell["image"])).tobytes()


def test_an_uploaded_image_adapter_tells_its_blocks(studio, ids):
    entry = studio.get_adapter(ids["Neon"])
    assert (entry["modality"], entry["components"]) == ("image", ["text_encoder", "unet"])
    blocks = [row["block"] for row in entry["blocks"]]
    assert blocks == [
        "text_encoder",
        "unet.down_blocks.0",
        "unet.mid_block",
        "unet.up_blocks.1",
    ]


def test_a_base_model_tells_what_it_makes_without_being_loaded(studio, base):
    told = studio.get_base_model(base)
    assert (told["modality"], told["family"]) == ("image", "sd1")
    assert {b["modality"] for b in studio.list_base_models()} == {"image", "text"}


def test_columns_are_pictures_under_one_seed_a_row(studio, ids, base):
    columns = [
        {"kind": "adapter", "id": ids["Neon"]},
        {"kind": "adapter", "id": ids["Neon"], "weight": 0.0},
        {"kind": "recipe", "recipe": recipe(ids.values(), "composite"), "title": "Both"},
        {"kind": "recipe", "recipe": recipe(ids.values(), "cat")},
    ]
    events = list(studio.compare_outputs(["a star", "b"], columns, FEW, seed=7))
    result = events[-1]["result"]
    assert (result["modality"], result["steps"], result["seeds"]) == ("image", 3, [7, 8])
    titles = [c["title"] for c in result["columns"]]
    assert titles == ["Base model", "Neon", "Neon", "Both", "Concatenate"]
    assert result["columns"][3]["passes"] == pytest.approx(2)
    cells = {(c["prompt"], c["column"]): c for c in result["cells"]}
    assert len(cells) == 2 * 5
    assert all(cell["done"] for cell in cells.values())
    assert pixels(studio, cells[0, 0]) != pixels(studio, cells[0, 1])
    assert pixels(studio, cells[0, 0]) == pixels(studio, cells[0, 2])
    assert pixels(studio, cells[0, 0]) != pixels(studio, cells[1, 0])
    live = [c for e in events if e["type"] == "data" for c in e["cells"]]
    assert any(c["preview"] and not c["done"] for c in live)
    facts = Image.open(studio.image_path(cells[1, 1]["image"])).text
    assert json.loads(facts["lora_studio"])["seed"] == 8
    assert studio.get_status()["adapters"] == 2  # a composition that is only looked at is not kept


def test_pictures_have_names_that_lead_nowhere_else(studio):
    for name in ("../../gallery.sqlite", "x.png", f"{'0' * 32}-nothing.png"):
        with pytest.raises(NotFound, match="picture is gone"):
            studio.image_path(name)


def test_cancelling_stops_the_denoising(studio, ids):
    slow = {**FEW, "steps": 200}
    flow = studio.compare_outputs(["a"], [{"kind": "adapter", "id": ids["Neon"]}], slow)
    seen = []
    for event in flow:
        seen.append(event["type"])
        if event["type"] == "data":
            flow.cancel()
    assert seen[-1] == "cancelled"


def test_a_grid_varies_weight_and_steps_and_says_so_in_each_cell(studio, ids):
    axes = {
        "x": {"kind": "weight", "source": ids["Neon"], "title": "Neon", "values": "0-1 (+0.5)"},
        "y": {"kind": "steps", "values": "2, 3"},
    }
    only = recipe([ids["Neon"]], "cat")
    events = list(studio.compare_grid(axes, only, "a star", FEW, seed=3))
    result = events[-1]["result"]
    assert [c["title"] for c in result["columns"]] == ["Neon 0", "Neon 0.5", "Neon 1"]
    assert [r["title"] for r in result["rows"]] == ["steps 2", "steps 3"]
    cells = {(c["prompt"], c["column"]): c for c in result["cells"]}
    assert len(cells) == 6
    assert cells[1, 2]["caption"] == "Neon 1 · steps 3"
    assert len({pixels(studio, cell) for cell in cells.values()}) == 6
    plain = studio.compare_outputs(
        ["a star"], [{"kind": "adapter", "id": ids["Neon"]}], FEW, seed=3
    ).result()["cells"]
    assert pixels(studio, plain[0]) == pixels(studio, cells[1, 0])
    assert pixels(studio, plain[1]) == pixels(studio, cells[1, 2])
    shares = [e["fraction"] for e in events if e["type"] == "progress" and e.get("fraction")]
    assert shares


def test_a_grid_of_methods_by_seeds_is_one_job(studio, ids):
    axes = {
        "x": {"kind": "method", "values": ["switch", "composite"]},
        "y": {"kind": "seed", "values": "1-2"},
    }
    flow = studio.compare_grid(axes, recipe(ids.values()), "a star", FEW)
    events = list(flow)
    result = events[-1]["result"]
    assert [c["title"] for c in result["columns"]] == ["LoRA Switch", "LoRA Composite"]
    assert sorted({c["seed"] for c in result["cells"]}) == [1, 2]
    assert len([e for e in events if e["type"] == "started"]) == 1


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        (({"kind": "seed", "values": "1"}, {"kind": "seed", "values": "2"}), "vary the same"),
        (({"kind": "seed", "values": "1.5"}, {"kind": "steps", "values": "2"}), "whole number"),
        (({"kind": "steps", "values": "1-9 (+0)"}, {"kind": "seed", "values": "2"}), "never ends"),
        (({"kind": "steps", "values": "ten"}, {"kind": "seed", "values": "2"}), "neither a number"),
        (({"kind": "seed", "values": "1-999"}, {"kind": "steps", "values": "2"}), "at most 16"),
        (({"kind": "size", "values": "1"}, {"kind": "steps", "values": "2"}), "An axis is one of"),
    ],
)
def test_an_axis_that_cannot_be_read_is_refused(studio, ids, axes, reason):
    both = dict(zip("xy", axes, strict=True))
    with pytest.raises(InvalidRequest, match=reason):
        studio.compare_grid(both, recipe(ids.values()), "a star", FEW).result()


def test_a_dry_run_of_a_schedule_tells_passes_and_curves(studio, ids):
    plan = studio.plan_composition(recipe(ids.values(), "switch")).result()
    assert plan["scheduled"]
    assert plan["passes"] == pytest.approx(1)
    assert set(plan["curves"]) == set(ids.values())


def test_a_merge_of_image_adapters_is_kept_and_a_schedule_only_as_its_recipe(studio, ids):
    merged = studio.compose_adapter(recipe(ids.values(), "svd", rank=3), "Both").result()
    assert merged["entry"]["modality"] == "image"
    planned = studio.compose_adapter(recipe(ids.values(), "switch")).result()
    assert planned["adapter_id"] is None
    stored = studio.get_recipe(planned["recipe_id"])["recipe"]
    assert stored["modality"] == "image"
    studio.delete_adapter(merged["adapter_id"])


@pytest.mark.parametrize("dialect", ["diffusers", "kohya"])
def test_a_download_for_other_programs_is_the_same_adapter(studio, ids, dialect):
    path = Path(studio.export_adapter(ids["Neon"], dialect))
    assert path.suffix == ".safetensors"
    again, mine = load_adapter(path), studio.gallery.adapter(ids["Neon"])
    assert again.factors.keys() == mine.factors.keys()
    assert again.cosine(mine) > 0.999
    assert again.norm() == pytest.approx(mine.norm(), rel=1e-3)


def test_a_format_that_does_not_exist_is_refused(studio, ids):
    with pytest.raises(NotFound, match="kohya"):
        studio.export_adapter(ids["Neon"], "onnx")


def test_a_schedule_is_downloaded_as_its_sources_with_the_recipe(studio, ids, tmp_path):
    wanted = recipe(ids.values(), "switch", tau=2)
    with zipfile.ZipFile(studio.export_routed(wanted)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    sources = [load_adapter(path) for path in sorted((folder / "adapters").iterdir())]
    assert len(sources) == 2
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["compose"]["params"] == {"tau": 2}
    assert "tau = 2" in (folder / "README.md").read_text()
    with pytest.raises(InvalidRequest, match="makes one adapter"):
        studio.export_routed(recipe(ids.values(), "svd"))


def test_block_weights_and_regions_reach_the_pictures(studio, ids):
    plain = recipe([ids["Neon"]], "cat")
    cut = recipe([ids["Neon"]], "cat")
    cut["sources"][0]["module_weights"] = {"unet.up_blocks.1": 0.0}
    halves = recipe(ids.values(), "regional")
    halves["sources"][0]["region"] = {"box": [0, 0, 0.5, 1]}
    columns = [{"kind": "recipe", "recipe": r} for r in (plain, cut, halves)]
    cells = studio.compare_outputs(["a star"], columns, FEW).result()["cells"]
    assert len({pixels(studio, cell) for cell in cells}) == 4


def test_adapters_of_text_and_images_do_not_mix(studio, ids, tmp_path):
    path = save_adapter(replace(build_adapter(3), card=AdapterCard(title="Text")), tmp_path / "t")
    text = studio.add_adapter(str(path), {"base_model": "gpt2"}).result()
    with pytest.raises(IncompatibleAdapters, match="gpt2"):
        studio.plan_composition(recipe([ids["Neon"], text["id"]], "cat")).result()
    studio.delete_adapter(text["id"])


def ballot(ids, base, recipe_id, votes, name="one"):
    columns = [{"title": "Base model"}, {"title": "Neon", "id": ids["Neon"]}]
    columns.append({"title": "Both", "recipe_id": recipe_id})
    rows = [{"prompt": f"p{i}", "seed": i} for i in range(3)]
    return {"id": name, "base": base, "columns": columns, "rows": rows, "votes": votes}


def test_votes_are_tallied_with_intervals_and_kept_with_the_recipe(studio, ids, base):
    made = studio.compose_adapter(recipe(ids.values(), "switch")).result()["recipe_id"]
    votes = [{"row": 0, "best": [2]}, {"row": 1, "best": [1, 2]}, {"row": 2, "best": []}]
    told = studio.record_votes(ballot(ids, base, made, votes))
    assert [(r["correct"], r["n"]) for r in told["tally"]] == [(0, 2), (1, 2), (2, 2)]
    assert 0 < told["tally"][2]["low"] < 1
    (seen,) = studio.list_votes(base)
    assert seen["tally"] == told["tally"]
    recipe_text = yaml.safe_load(studio.get_recipe(made)["yaml"])
    (said,) = recipe_text["evaluation"]
    assert (said["kind"], said["correct"], said["n"]) == ("blind vote", 2, 2)
    again = ballot(ids, base, made, [{"row": 0, "best": [0]}])
    studio.record_votes(again)
    assert len(studio.list_votes(base)) == 1
    assert len(yaml.safe_load(studio.get_recipe(made)["yaml"])["evaluation"]) == 1
    assert studio.get_recipe(made)["recipe"]["id"] == made


@pytest.mark.parametrize(
    "votes", [[], [{"row": 9, "best": [0]}], [{"row": 0, "best": [7]}], [{"row": 0}], "x"]
)
def test_a_ballot_that_is_none_is_refused(studio, ids, base, votes):
    with pytest.raises(InvalidRequest):
        studio.record_votes(ballot(ids, base, "", votes))


def test_the_same_update_in_another_file_format_is_found_to_be_here_already(studio, ids):
    path = studio.export_adapter(ids["Star"], "kohya")
    entry = studio.add_adapter(path, {"title": "Star again"}).result()
    try:
        assert not entry["existed"]
        assert [(twin["kind"], twin["title"]) for twin in entry["twins"]] == [("near", "Star")]
        assert entry["twins"][0]["cosine"] > 0.999
        assert any("nearly the same as that of “Star”" in line for line in entry["report"])
        told = studio.get_adapter(ids["Star"])
        assert [twin["title"] for twin in told["twins"]] == ["Star again"]
        assert told["measures"]["alpha_is_rank"]
        assert told["measures"]["dialect"] == "peft"
    finally:
        studio.delete_adapter(entry["id"])
    assert studio.get_adapter(ids["Star"])["twins"] == []


def test_what_is_drawn_from_a_seed_is_drawn_in_the_confined_reader(studio, base, tmp_path):
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    config = FourierFTConfig(n_frequency=9, target_modules=["to_k"], init_weights=False)
    get_peft_model(unet, config).save_pretrained(tmp_path)
    entry = studio.add_adapter(str(tmp_path), {"base_model": base}).result()
    assert entry["source_format"] == "peft-tuner FourierFT"
    assert any("Every module fits" in line for line in entry["report"])
    studio.delete_adapter(entry["id"])
