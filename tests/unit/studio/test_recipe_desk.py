"""What people ask about recipes: their downloads, what changed between two, what weights mean."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from PIL import Image, PngImagePlugin

from lora_studio.adapter import AdapterCard
from lora_studio.composition import Recipe, Source
from lora_studio.composition.mergekit import read_any
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.formats import save_adapter
from lora_studio.formats.carried import PNG_TEXT
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.studio.changes import changes, related
from lora_studio.web.recipe_routes import _name
from lora_studio.web.session import recipe_of, session_from
from lora_studio.worker.local import LocalWorker
from tests.conftest import build_adapter

BASE = "far/away"


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(data_dir=folder / "data", device="cpu")
    with Studio(settings, Gallery.open(settings), LocalWorker(settings)) as studio:
        for seed, title in enumerate(("Past tense", "French")):
            card = AdapterCard(title=title, base_model=BASE)
            home = save_adapter(replace(build_adapter(seed, layers=3), card=card), folder / title)
            studio.add_adapter(str(home)).result()
        yield studio


@pytest.fixture
def ids(studio):
    hits = studio.search_adapters(kinds=["uploaded"], sort="title")["hits"]
    return [hit["id"] for hit in hits]


def compose(studio, ids, method="cat", **source):
    wanted = {
        "sources": [{"id": i, "weight": 0.7, **source} for i in ids],
        "compose": {"method": method, "params": {}},
    }
    return studio.compose_adapter(wanted).result()


def recipe(method="linear", seed=0, params=None, **weights):
    sources = tuple(Source(name, weight) for name, weight in weights.items())
    return Recipe({"repo": BASE}, sources, method, params or {}, seed)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (recipe(a=1.0), recipe(a=0.5), ["a 1 → 0.5"]),
        (recipe(a=1.0), recipe(a=1.0, b=1.0), ["with b"]),
        (recipe(a=1.0, b=1.0), recipe(a=1.0, b=0.0), ["without b"]),
        (recipe(a=1.0), recipe("cat", a=1.0), ["Linear → Concatenation"]),
        (
            recipe("svd", params={"rank": 4}, a=1.0),
            recipe("svd", params={"rank": 8}, a=1.0),
            ["Rank 4 → 8"],
        ),
        (recipe(a=1.0), recipe(seed=3, a=1.0), ["seed 0 → 3"]),
        (recipe("gone", a=1.0), recipe("lost", a=1.0), ["gone → lost"]),
        (recipe(a=1.0), recipe(a=1.0), []),
    ],
)
def test_what_changed_is_told_in_a_phrase(before, after, said):
    from lora_studio.composition import METHODS

    titles = {"Linear": METHODS.get("linear").title, "Concatenation": METHODS.get("cat").title}
    wanted = [" → ".join(titles.get(word, word) for word in phrase.split(" → ")) for phrase in said]
    assert changes(before, after) == wanted


def test_weights_by_module_units_and_names_are_told_and_long_ones_cut():
    plain = Source("a", about={"title": "x" * 100})
    shaped = replace(plain, module_weights={"*": 0.5}, units={"m": {"include": [0]}})
    before, after = (Recipe({"repo": BASE}, (one,), "cat") for one in (plain, shaped))
    first, second = changes(before, after)
    assert first.endswith("…: other weights by module")
    assert len(first) < 100
    assert second.endswith("other rank units")
    assert changes(after, before)[0].endswith("no weights by module")


def test_only_what_shares_an_adapter_and_the_base_is_related():
    assert related(recipe(a=1.0), recipe("cat", a=0.5, b=1.0))
    assert not related(recipe(a=1.0), recipe(b=1.0))
    other = replace(recipe(a=1.0), base={"repo": "other"})
    assert not related(recipe(a=1.0), other)


def test_two_stored_recipes_are_compared(studio, ids):
    one, two = compose(studio, ids, "cat"), compose(studio, ids[:1], "svd")
    told = studio.compare_recipes(one["recipe_id"], two["recipe_id"])
    assert told["related"]
    assert "without Past tense" in told["changes"]
    with pytest.raises(NotFound):
        studio.compare_recipes(one["recipe_id"], "0" * 64)


def test_downloads_say_why_there_is_none_and_what_vllm_takes(studio, ids):
    made = compose(studio, ids, "svd")
    told = studio.list_exports(made["recipe_id"])
    why = {row["format"]: row["why"] for row in told["files"]}
    assert why["peft"] == why["recipe"] == why["mergekit"] == ""
    assert "image models" in why["diffusers"]
    assert told["vllm"] == {"rank": 8, "why": ""}
    text = studio.export_mergekit(made["recipe_id"])
    back = read_any(text).recipe
    assert [s.about["file"] for s in back.sources] == [
        f"./french-{ids[0][:8]}",
        f"./past-tense-{ids[1][:8]}",
    ]
    lego = compose(studio, ids, "lego")
    told = studio.list_exports(lego["recipe_id"])
    (row,) = [row for row in told["files"] if row["format"] == "mergekit"]
    assert "no counterpart in mergekit" in row["why"]
    with pytest.raises(InvalidRequest, match="no counterpart"):
        studio.export_mergekit(lego["recipe_id"])


def test_a_plan_for_run_time_offers_what_runs_it(studio, ids):
    made = compose(studio, ids, "mixture")
    told = studio.list_exports(made["recipe_id"])
    why = {row["format"]: row["why"] for row in told["files"]}
    assert why["routed"] == ""
    assert "at run time" in why["peft"]
    assert told["vllm"] is None


def test_weights_by_module_are_checked_key_by_key(studio, ids):
    good = studio.check_module_weights(ids[0], {"*": [1, 0], "*v_proj*": 0.5})
    assert good["keys"]["*"] == {"modules": good["modules"], "error": ""}
    assert 0 < good["keys"]["*v_proj*"]["modules"] < good["modules"]
    assert good["layers"] == sorted(good["layers"], reverse=True)
    assert len(good["layers"]) == 3
    bad = studio.check_module_weights(ids[0], {"*": 1, "*mlpp*": 1, "*v_proj*": ["x"]})
    assert bad["layers"] == []
    assert bad["keys"]["*"]["error"] == ""
    assert "no module with 'mlpp'" in bad["keys"]["*mlpp*"]["error"]
    assert "expected a number" in bad["keys"]["*v_proj*"]["error"]
    with pytest.raises(InvalidRequest):
        studio.check_module_weights(ids[0], [1])
    with pytest.raises(NotFound):
        studio.check_module_weights("f" * 64, {"*": 1})


def test_a_source_that_is_here_in_another_version_is_named(studio, ids, tmp_path):
    made = compose(studio, ids)
    data = studio.get_recipe(made["recipe_id"])["recipe"]
    data["sources"][0]["id"] = "e" * 64
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    found = studio.open_recipe(str(path)).result()
    assert found["missing"] == [
        {"id": "e" * 64, "title": "French", "here": {"id": ids[0], "title": "French"}}
    ]
    (note,) = found["notes"]
    assert "'French' has changed" in note
    assert ids[0][:12] in note
    row = session_from(studio, found)["basket"][0]
    assert (row["missing"], row["title"], row["here"]["id"]) == (True, "French", ids[0])


def test_a_reopened_composition_asks_for_the_very_same(studio, ids):
    shaped = {
        "module_weights": {"*": [1.0, 0.5], "*v_proj*": 1.0},
        "units": {"model.layers.0.self_attn.q_proj": {"include": [0]}},
    }
    made = compose(studio, ids, "cat", **shaped)
    found = studio.get_recipe(made["recipe_id"])
    session = session_from(studio, {**found, "recipe_id": found["id"]})
    again = studio.compose_adapter(recipe_of(json.loads(json.dumps(session)), BASE)).result()
    assert (again["recipe_id"], again["existed"]) == (made["recipe_id"], True)


def test_a_picture_of_a_composed_adapter_opens_its_composition(studio, ids, tmp_path):
    made = compose(studio, ids)
    path = tmp_path / "picture.png"

    def picture(terms):
        text = PngImagePlugin.PngInfo()
        facts = {"base": BASE, "column": {"title": "x", "terms": terms}}
        text.add_itxt(PNG_TEXT, json.dumps(facts))
        Image.new("RGB", (4, 4)).save(path, pnginfo=text)
        return studio.open_recipe(str(path)).result()

    found = picture([[made["adapter_id"], 1.0]])
    assert found["recipe_id"] == made["recipe_id"]
    assert [s["id"] for s in found["recipe"]["sources"]] == ids
    assert "was composed here" in found["notes"][0]
    halved = picture([[made["adapter_id"], 0.5]])
    assert [s["id"] for s in halved["recipe"]["sources"]] == [made["adapter_id"]]
    plain = picture([[ids[0], 1.0]])
    assert [s["id"] for s in plain["recipe"]["sources"]] == [ids[0]]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("recipe.yaml", "recipe.yaml"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\a.zip", "a.zip"),
        ("..", "file"),
        ("", "file"),
        ("a\0b\n<x>.png", "a_b__x_.png"),
        ("y" * 300 + ".png", "y" * 96 + ".png"),
    ],
)
def test_a_sent_file_keeps_only_a_plain_name(given, name):
    assert _name(given) == name
