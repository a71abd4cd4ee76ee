"""Recipes come back: out of every file that is handed out, and as the same adapter again."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from lora_studio import cli
from lora_studio.adapter import AdapterCard
from lora_studio.composition import METHODS, Recipe
from lora_studio.composition.replay import TOLERANCE, compare
from lora_studio.errors import InvalidRequest
from lora_studio.formats import export, load_adapter, save_adapter
from lora_studio.formats.carried import carried_recipe
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.worker.local import LocalWorker
from tests.conftest import build_adapter

TITLES = ("Past tense", "French")
COPIES = [m.name for m in METHODS if m.name in ("cat", "linear", "magnitude_prune", "dare_linear")]
DECOMPOSE = ["svd", "lego", "ties_delta", "task_arithmetic"]


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(data_dir=folder / "data", device="cpu")
    with Studio(settings, Gallery.open(settings), LocalWorker(settings)) as studio:
        for seed, title in enumerate(TITLES):
            card = AdapterCard(title=title, base_model="far/away", licence="mit")
            home = save_adapter(replace(build_adapter(seed, layers=3), card=card), folder / title)
            studio.add_adapter(str(home)).result()
        yield studio


@pytest.fixture
def ids(studio):
    hits = studio.search_adapters(kinds=["uploaded"], sort="title")["hits"]
    return [hit["id"] for hit in hits]


def compose(studio, ids, method="cat", **source):
    sources = [{"id": i, "weight": 0.7, **source} for i in ids]
    wanted = {"sources": sources, "compose": {"method": method, "params": {}}}
    return studio.compose_adapter(wanted).result()


def run(studio, *words):
    return cli.main(["compose", *map(str, words), "--data", str(studio.settings.data_dir)])


def unpacked(studio, made, folder):
    with zipfile.ZipFile(studio.export_adapter(made["adapter_id"])) as archive:
        archive.extractall(folder)
    (home,) = folder.iterdir()
    return home


@pytest.mark.parametrize("method", COPIES)
def test_a_recipe_rebuilds_the_very_bytes_of_the_download(studio, ids, tmp_path, capsys, method):
    made = compose(studio, ids, method, module_weights={"*": [1.0, 0.2], "*v_proj*": 0.5})
    home = unpacked(studio, made, tmp_path / "zip")
    assert run(studio, home / "recipe.yaml", "-o", tmp_path / "again", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["difference"]) == ("identical", 0.0)
    again = tmp_path / "again" / "adapter_model.safetensors"
    assert again.read_bytes() == (home / "adapter_model.safetensors").read_bytes()
    assert (tmp_path / "again" / "recipe.yaml").read_text() == (home / "recipe.yaml").read_text()


@pytest.mark.parametrize("method", DECOMPOSE)
def test_a_decomposing_recipe_rebuilds_within_the_stated_tolerance(studio, ids, tmp_path, method):
    made = compose(studio, ids, method)
    home = unpacked(studio, made, tmp_path / "zip")
    assert run(studio, home / "adapter_model.safetensors", "-o", tmp_path / "again") == 0
    mine, theirs = load_adapter(tmp_path / "again"), load_adapter(home)
    for name, module in mine.factors.items():
        gap = np.linalg.norm(module.delta() - theirs.factors[name].delta())
        assert gap <= TOLERANCE * theirs.norm()


def test_the_difference_is_told_without_the_adapter_that_was_made(studio, ids):
    made = compose(studio, ids, "svd")
    result = studio.get_recipe(made["recipe_id"])["recipe"]["result"]
    adapter = studio.gallery.adapter(made["adapter_id"])
    assert compare(adapter, result).state == "identical"
    noise = build_adapter(9, layers=3, base="far/away")
    for share, state in ((1e-5, "within tolerance"), (1e-2, "different")):
        size = share * adapter.norm() / noise.norm()
        factors = {
            name: replace(
                module,
                A=np.concatenate([module.A, noise.factors[name].A]),
                B=np.concatenate([module.B, size * noise.factors[name].B], axis=1).astype("f"),
            )
            for name, module in adapter.folded().factors.items()
        }
        found = compare(replace(adapter, factors=factors), result)
        assert found.state == state
        assert found.difference == pytest.approx(share, rel=0.6)
    assert compare(adapter, {"sha256": "0"}).state == "different"
    assert compare(adapter, None).state == "nothing to compare with"


def test_a_source_that_changed_and_one_that_is_missing_are_named(studio, ids, tmp_path, capsys):
    made = compose(studio, ids)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(studio.get_recipe(made["recipe_id"])["yaml"])
    empty = ["--data", str(tmp_path / "empty"), "-o", str(tmp_path / "out"), "--json"]
    files = {}
    for adapter_id, title in zip(ids, sorted(TITLES), strict=True):
        adapter = studio.gallery.adapter(adapter_id)
        files[title] = str(save_adapter(adapter, tmp_path / title))
    other = build_adapter(7, layers=3)
    card = AdapterCard(title="French", base_model="far/away")
    changed = str(save_adapter(replace(other, card=card), tmp_path / "changed"))

    def error(*more):
        assert cli.main(["compose", str(recipe), *empty, *more]) == 1
        return json.loads(capsys.readouterr().out)["error"]

    missing = error("--from", files["French"])
    assert missing["code"] == "NotFound"
    assert "'Past tense'" in missing["message"]
    wrong = error("--from", files["Past tense"], "--from", changed)
    assert wrong["code"] == "SourceChanged"
    assert "'French' has changed" in wrong["message"]
    assert not (tmp_path / "out").exists()
    given = ["--from", files["Past tense"], "--from", files["French"]]
    assert cli.main(["compose", str(recipe), *empty, *given]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "identical"
    assert error(*given)["code"] == "InvalidRequest"  # it is there already
    assert not (tmp_path / "empty").exists()


def test_a_result_that_differs_is_not_written(studio, ids, tmp_path, capsys):
    made = compose(studio, ids)
    data = studio.get_recipe(made["recipe_id"])["recipe"]
    data["sources"][0]["weight"] = 0.1  # an edited request beside the old result
    path = tmp_path / "edited.yaml"
    path.write_text(yaml.safe_dump(data))
    assert run(studio, path, "-o", tmp_path / "out", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "ResultDiffers"
    assert not (tmp_path / "out").exists()


def test_a_mergekit_file_is_composed(studio, ids, tmp_path, capsys):
    names = [
        f"./{title.lower().replace(' ', '-')}-{i[:8]}" for title, i in zip(TITLES, ids, strict=True)
    ]
    models = [{"model": f"far/away+{n}", "parameters": {"weight": [1, 0]}} for n in names]
    path = tmp_path / "mergekit.yaml"
    path.write_text(yaml.safe_dump({"merge_method": "task_arithmetic", "models": models}))
    assert run(studio, path, "-o", tmp_path / "out.zip", "--json") == 0
    assert json.loads(capsys.readouterr().out)["state"] == "nothing to compare with"
    assert "model.layers.2.self_attn.q_proj" not in load_adapter(tmp_path / "out.zip").factors


@pytest.mark.parametrize("kind", ["zip", "safetensors", "yaml"])
def test_a_file_that_was_handed_out_reopens_its_composition(studio, ids, tmp_path, kind):
    made = compose(studio, ids, units={"model.layers.0.self_attn.q_proj": {"include": [0, 2]}})
    path = Path(studio.export_adapter(made["adapter_id"]))
    if kind != "zip":
        home = unpacked(studio, made, tmp_path / "zip")
        path = home / {"safetensors": "adapter_model.safetensors", "yaml": "recipe.yaml"}[kind]
    found = studio.open_recipe(str(path)).result()
    assert (found["recipe_id"], found["adapter_id"]) == (made["recipe_id"], made["adapter_id"])
    assert [s["id"] for s in found["recipe"]["sources"]] == ids
    assert found["missing"] == []
    assert "units" in found["recipe"]["sources"][0]


def test_what_is_missing_is_named_and_what_mergekit_names_is_found_by_title(studio, tmp_path):
    path = tmp_path / "mergekit.yaml"
    models = [
        {"model": f"far/away+{name}", "parameters": {"weight": 1, "density": 0.5}}
        for name in ("me/past-tense", "me/nobody")
    ]
    path.write_text(yaml.safe_dump({"merge_method": "ties", "models": models}))
    found = studio.open_recipe(str(path)).result()
    assert found["missing"] == [{"id": "me/nobody", "title": "nobody", "here": None}]
    assert any("'past-tense' was found by its name" in note for note in found["notes"])
    assert any("1 of 2 adapters are not in this gallery: 'nobody'" in n for n in found["notes"])
    assert found["recipe_id"] is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"\xff\xfe\x00", "carries no recipe"),
        ("a.yaml", b"", "carries no recipe"),
        ("a.yaml", b"a: &x [1]\nb: [*x, *x]", "without YAML anchors"),
        ("a.yaml", b"just: words", "1 to 64 sources"),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, "carries no recipe"),
        ("a.zip", b"PK\x03\x04rubbish", "zip is damaged"),
        ("a.json", b"[" * 100_000, "at most 32 deep"),
        ("a.safetensors", (2).to_bytes(8, "little") + b"{}", "carries no recipe"),
        ("a.yaml", b"x: " + b"y" * (2 << 20), "over 1 MiB"),
    ],
)
def test_other_files_are_refused_with_what_can_be_opened(studio, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Exception, match=message):
        studio.open_recipe(str(path)).result()


def test_the_card_says_sources_weights_licences_units_and_commands(studio, ids, tmp_path):
    made = compose(studio, ids, "lego", module_weights={"*": [1.0, 0.5]})
    home = unpacked(studio, made, tmp_path / "zip")
    text = (home / "README.md").read_text()
    assert "| Past tense | 0.7; * × 1 → 0.5 | mit |" in text
    assert "lora-studio compose recipe.yaml" in text
    assert "vllm serve far/away --enable-lora --max-lora-rank 8" in text
    assert "LoRA-LEGO" in text
    drawing = ET.parse(home / "units.svg").getroot()
    circles = drawing.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 8 + 2  # the units of two adapters of rank 4, and the legend
    assert carried_recipe(home / "adapter_model.safetensors").startswith("{")


def test_titles_cannot_break_out_of_the_picture_or_the_card(studio, ids, tmp_path):
    evil = '</text><script>alert("x")</script> | `rm` \u202e'
    adapter = replace(build_adapter(5, layers=3), card=AdapterCard(evil, base_model="far/away"))
    entry = studio.gallery.add(adapter)
    made = compose(studio, [entry.id, ids[0]])
    home = unpacked(studio, made, tmp_path / "zip")
    drawing = ET.parse(home / "units.svg")  # well-formed, so nothing was closed early
    assert "script" not in {node.tag.rpartition("}")[2] for node in drawing.iter()}
    assert "<script>" not in (home / "README.md").read_text().partition("## Composed from")[2]


def test_vllm_limits_are_told(make_adapter):
    from lora_studio.studio.model_card import vllm_problem, vllm_rank

    assert vllm_problem(make_adapter(1, rank=9)) == ""
    assert vllm_rank(make_adapter(1, rank=9)) == 16
    one, two = make_adapter(1, rank=4), make_adapter(2, rank=6)
    mixed = {**one.factors, "model.layers.0.self_attn.q_proj": two.factors[
        "model.layers.0.self_attn.q_proj"]}  # fmt: skip
    assert "unlike ranks" in vllm_problem(replace(one, factors=mixed))
    assert "513" in vllm_problem(make_adapter(1, rank=513))


def test_history_is_a_tree_in_both_directions(studio, ids):
    first = compose(studio, ids, "cat")
    second = compose(studio, [first["adapter_id"], ids[0]], "svd")
    up = studio.get_lineage(second["adapter_id"])["parents"]
    assert {node["id"] for node in up} == {first["adapter_id"], ids[0]}
    (node,) = [n for n in up if n["id"] == first["adapter_id"]]
    assert {n["id"] for n in node["parents"]} == set(ids)
    assert node["recipe"] == first["recipe_id"]
    down = studio.get_lineage(ids[0])["children"]
    (again,) = [n for n in down if n["id"] == first["adapter_id"]]
    assert [n["id"] for n in again["children"]] == [second["adapter_id"]]
    studio.delete_adapter(first["adapter_id"])
    up = studio.get_lineage(second["adapter_id"])["parents"]
    assert {"id": first["adapter_id"], "gone": True} in up or any(
        n["id"] == first["adapter_id"] for n in up
    )


def test_equal_exports_are_equal_bytes(make_adapter, tmp_path):
    facts = {"recipe": "{}", "zebra": "1", "apple": "2"}
    recipe = Recipe({"repo": "tiny"}, (), "cat")
    assert recipe.id
    for turn in range(4):
        export(make_adapter(1), "peft", tmp_path / str(turn), facts)
    files = {(tmp_path / str(t) / "adapter_model.safetensors").read_bytes() for t in range(4)}
    assert len(files) == 1


def test_a_routed_recipe_is_refused_by_name(studio, ids, tmp_path):
    path = tmp_path / "routed.yaml"
    sources = [{"id": i} for i in ids]
    path.write_text(yaml.safe_dump({"sources": sources, "compose": {"method": "mixture"}}))
    assert run(studio, path) == 1
    with pytest.raises(InvalidRequest, match="no file"):
        carried_recipe(tmp_path / "nowhere.yaml")
