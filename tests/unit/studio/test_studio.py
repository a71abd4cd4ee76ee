"""Every action of the product, on real workers and a tiny random base model."""

import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lora_studio.adapter import AdapterCard
from lora_studio.composition.shares import unpacked
from lora_studio.errors import InvalidAdapter, InvalidRequest, NotFound
from lora_studio.formats import load_adapter, save_adapter
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.worker.local import LocalWorker
from tests.tiny_models import random_adapter, save_model

TASKS = {
    "Past tense": ["Put this in the past: he eats.", "past tense: she sings", "yesterday: we go"],
    "French": ["Translate into French: the red house", "How do you say dog in French?"],
    "Polite": ["Say it politely: open the door", "Rephrase this in a courteous way: go away"],
}


def write_adapter(folder, title, seed, base, tests=()):
    card = AdapterCard(title=title, base_model=base, samples=tuple(TASKS.get(title, ())))
    adapter = replace(random_adapter(seed, rank=4), card=card)
    lines = "".join(json.dumps(t) + "\n" for t in tests)
    return save_adapter(adapter, folder, {"test.jsonl": lines} if lines else None)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(save_model("llama", tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="module")
def studio(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("studio")
    settings = Settings(data_dir=folder / "data", base_model=base, device="cpu", max_rows=8)
    worker = LocalWorker(settings)
    studio = Studio(settings, Gallery.open(settings), worker)
    studio.librarian.start()
    with studio:
        for seed, title in enumerate((*TASKS, "Noise")):
            tests = [{"prompt": f"{title} {i}", "target": "x"} for i in range(4)]
            path = write_adapter(folder / title, title, seed, base, tests)
            studio.add_adapter(str(path)).result()
        deadline = time.monotonic() + 60
        while studio.gallery.pending_vectors(settings.embedder) and time.monotonic() < deadline:
            time.sleep(0.1)
        yield studio


@pytest.fixture
def ids(studio):
    hits = studio.search_adapters(kinds=["uploaded"], sort="title")["hits"]
    return [hit["id"] for hit in hits if hit["title"] in TASKS]


def recipe(ids, method="lego", **params):
    sources = [{"id": i, "weight": 1.0} for i in ids]
    return {"sources": sources, "compose": {"method": method, "params": params}}


def test_an_upload_is_checked_reported_and_not_added_twice(studio, tmp_path, base):
    path = write_adapter(tmp_path / "again", "Past tense", 0, base)
    entry = studio.add_adapter(str(path)).result()
    assert entry["existed"]
    assert any("Every module fits" in line for line in entry["report"])


def test_an_adapter_of_another_size_is_refused_with_the_module(studio, tmp_path, base):
    wide = random_adapter(9, dims={"model.layers.0.self_attn.q_proj": (64, 32)})
    adapter = replace(wide, card=AdapterCard(base_model=base))
    path = save_adapter(adapter, tmp_path / "wide")
    from lora_studio.errors import InvalidAdapter

    with pytest.raises(InvalidAdapter, match="q_proj"):
        studio.add_adapter(str(path)).result()


def test_a_bad_file_is_refused_and_nothing_is_kept(studio, tmp_path):
    before = studio.get_status()["adapters"]
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x02 not an adapter")
    with pytest.raises(InvalidAdapter, match="pickle"):
        studio.add_adapter(str(tmp_path / "x.safetensors")).result()
    assert studio.get_status()["adapters"] == before


def test_search_finds_by_meaning_and_says_why(studio):
    found = studio.search_adapters("turn the sentence into past tense", patience=30)
    assert found["mode"] == "semantic"
    first = found["hits"][0]
    assert first["title"] == "Past tense"
    assert first["reason"] in TASKS["Past tense"]
    assert first["reason_kind"] == "sample"


def test_a_task_sentence_retrieves_adapters_with_similarities(studio):
    found = studio.retrieve_adapters("say this with better manners", k=2).result()
    hits = found["hits"]
    assert [len(hits), hits[0]["title"]] == [2, "Polite"]
    assert hits[0]["similarity"] > hits[1]["similarity"]
    assert not studio.retrieve_adapters("hello", k=2).result()["fits"]
    sample = "Put this in the past: he eats."
    assert studio.retrieve_adapters(sample, k=2).result()["fits"]


def test_an_adapter_has_a_table_of_modules_and_neighbours(studio, ids):
    entry = studio.get_adapter(ids[0][:10])
    assert len(entry["module_table"]) == entry["modules"] == 6
    assert entry["tests"] == 4
    assert entry["similar"][0]["id"] != entry["id"]


def test_deleting_is_undone_by_restoring(studio, ids):
    studio.delete_adapter(ids[0])
    with pytest.raises(NotFound, match="deleted"):
        studio.export_adapter(ids[0])
    studio.restore_adapter(ids[0])
    assert studio.get_adapter(ids[0])["id"] == ids[0]


def test_the_map_holds_every_unit_once(studio, ids):
    result = studio.cluster_units([{"id": i, "weight": 1.0} for i in ids], k=3).result()
    raw = Path(result["path"]).read_bytes()
    n = result["n"]
    assert n == 3 * 4 * 6
    assert len(raw) == n * (3 * 4 + 4 * 2)
    places = np.frombuffer(raw, "<f4", 2 * n)
    assert places.min() >= 0
    assert places.max() <= 1
    sizes = sum(row["size"] for row in result["clusters"])
    assert sizes == n
    assert result["shared_seed"]["warning"] is None


def read_map(result, sources):
    raw, n = Path(result["path"]).read_bytes(), result["n"]
    places = np.frombuffer(raw, "<f4", 2 * n)
    adapter = np.frombuffer(raw, "<u2", n, 12 * n + 2 * n)
    return places, adapter, np.frombuffer(raw, "u1", offset=20 * n).reshape(-1, sources) / 255


@pytest.mark.parametrize(("method", "basis"), [("lego", "raw"), ("lego", "svd"), ("svd", "raw")])
def test_the_units_of_a_composition_lie_on_the_map_with_whose_they_are(studio, ids, method, basis):
    made = studio.compose_adapter(recipe(ids, method, rank=5)).result()
    assert "shares" not in made
    assert "shares" not in studio.get_recipe(made["recipe_id"])["result"]
    sources = [{"id": i} for i in ids[::-1]]
    plain = studio.cluster_units(sources, k=3, basis=basis).result()
    result = studio.cluster_units(sources, k=3, basis=basis, result=made["adapter_id"]).result()
    assert plain["result"] is None
    assert result["result"] == {
        "id": made["adapter_id"], "n": 5 * 6, "title": made["entry"]["title"]
    }  # fmt: skip
    assert result["n"] == plain["n"] + 5 * 6
    assert result["clusters"] == plain["clusters"]
    places, adapter, shares = read_map(result, len(ids))
    assert places.min() >= 0
    assert places.max() <= 1
    assert (adapter == len(ids)).sum() == len(shares) == 5 * 6
    np.testing.assert_allclose(shares.sum(1), 1, atol=0.02)
    mean = shares.mean(0)
    assert (mean > 0.1).all()


def test_shares_of_a_unit_are_those_its_method_gave(studio, ids):
    made = studio.compose_adapter(recipe(ids[:2], "lego", rank=4, apart=True)).result()
    sources = [{"id": i} for i in ids]
    told = studio.cluster_units(sources, result=made["adapter_id"]).result()
    _, _, shares = read_map(told, len(ids))
    assert (shares[:, 2] == 0).all()  # the third took no part
    wanted = studio.gallery.get_recipe(made["recipe_id"])["result"]["shares"]
    ranks = studio.gallery.adapter(made["adapter_id"]).ranks
    known = unpacked(wanted, ranks, 2)
    first = sorted(known)[0]
    assert any(np.allclose(shares[i : i + 4, :2], known[first].T) for i in range(0, 24, 4))


def test_one_module_can_be_clustered_alone(studio, ids):
    name = "model.layers.1.mlp.down_proj"
    result = studio.cluster_units([{"id": i} for i in ids], module=name, k=0).result()
    assert (result["n"], result["k"], result["max_k"]) == (12, 4, 12)
    assert sum(row["energy"] for row in result["clusters"]) == pytest.approx(1)


def test_a_dry_run_says_rank_size_and_cosines_without_keeping_anything(studio, ids):
    before = studio.get_status()["adapters"]
    figures = studio.plan_composition(recipe(ids, "svd", rank=6)).result()
    assert figures["rank"] == {"min": 6, "max": 6}
    assert figures["bytes"] == 4 * figures["parameters"]
    assert all(0 < row["cosine"] < 1 and row["title"] for row in figures["cosines"])
    assert 0 < figures["sign_conflict"] < 1
    assert studio.get_status()["adapters"] == before


def test_a_dry_run_is_the_composition_it_announces(studio, ids):
    wanted = recipe(ids, "lego", rank=5, gauge="balanced")
    figures = studio.plan_composition(wanted).result()
    made = studio.compose_adapter(wanted, title="Mine").result()
    assert made["cosines"] == {row["id"]: row["cosine"] for row in figures["cosines"]}
    assert made["entry"]["title"] == "Mine"
    assert made["entry"]["parents"] == ids
    assert made["entry"]["kind"] == "composed"
    again = studio.compose_adapter(wanted).result()
    assert again["existed"]
    assert again["adapter_id"] == made["adapter_id"]
    stored = studio.get_recipe(made["recipe_id"])
    assert stored["recipe"]["compose"]["params"]["gauge"] == "balanced"
    assert stored["recipe"]["id"] == made["recipe_id"]
    assert stored["recipe"]["result"]["id"] == made["adapter_id"]
    assert stored["recipe"]["sources"][0]["title"] == "French"
    assert stored["recipe"]["tool"]["name"] == "lora-studio"
    assert stored["adapter_id"] == made["adapter_id"]


def test_the_preset_tunes_on_the_model_and_says_so(studio, ids):
    made = studio.compose_adapter(recipe(ids[:2], "preset")).result()
    assert any("sample prompts of the sources (not test prompts)" in n for n in made["notes"])


def test_a_download_loads_in_peft_with_card_recipe_and_tests(studio, ids, tmp_path, base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    made = studio.compose_adapter(recipe(ids, "svd", rank=4)).result()
    path = studio.export_adapter(made["adapter_id"])
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    names = {p.name for p in folder.iterdir()}
    assert names >= {"adapter_config.json", "README.md", "recipe.yaml"}
    assert load_adapter(folder).id == made["adapter_id"]
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))
    assert model.active_adapters == ["default"]


def test_columns_answer_under_one_seed_and_the_base_comes_first(studio, ids):
    columns = [
        {"kind": "adapter", "id": ids[0]},
        {"kind": "random"},
        {"kind": "recipe", "recipe": recipe(ids, "cat")},
        {"kind": "recipe", "recipe": recipe(ids, "mixture", top_k=2)},
        {"kind": "recipe", "recipe": recipe(ids, "selection")},
    ]
    flow = studio.compare_outputs(["past tense: he goes", "hello"], columns, {"max_new_tokens": 9})
    events = list(flow)
    result = events[-1]["result"]
    assert [c["title"] for c in result["columns"]][:2] == ["Base model", "French"]
    assert result["columns"][2]["title"] == "Random: Noise"
    assert len(result["cells"]) == 2 * 6
    assert result["tokens_per_second"] > 0
    streamed = [e for e in events if e["type"] == "data"]
    assert streamed
    assert all(cell["tokens"] <= 9 for cell in result["cells"])
    single = studio.compare_outputs(["hello"], [columns[0]], {"max_new_tokens": 9}).result()
    text = {(c["prompt"], c["column"]): c["text"] for c in result["cells"]}
    assert single["cells"][1]["text"] == text[1, 1]


def test_test_prompts_give_rates_with_intervals(studio, ids):
    rows = studio.run_tests([{"kind": "adapter", "id": ids[0]}], ids[:2], n=3).result()["rows"]
    assert [(r["column"], r["n"]) for r in rows] == [(0, 3), (0, 3), (1, 3), (1, 3)]
    assert all(r["low"] <= r["rate"] <= r["high"] for r in rows)
    with pytest.raises(InvalidRequest, match="prompts of each"):
        studio.run_tests([], ids[:1], n=0).result()


def test_cancelling_ends_a_flow_and_the_next_one_runs(studio, ids):
    flow = studio.compare_outputs(["a", "b"], [{"kind": "random"}], {"max_new_tokens": 90})
    seen = []
    for event in flow:
        seen.append(event["type"])
        if event["type"] == "data":
            flow.cancel()
    assert seen[-1] == "cancelled"
    assert studio.compare_outputs(["a"], [], {"max_new_tokens": 2}).result()["cells"]


def test_a_wrong_request_says_what_is_wrong(studio, ids):
    with pytest.raises(InvalidRequest, match="rank"):
        studio.plan_composition(recipe(ids, "svd", rank=-1)).result()
    with pytest.raises(NotFound, match="Did you mean"):
        studio.compose_adapter(recipe(ids, "leggo")).result()
    with pytest.raises(InvalidRequest, match="at least one prompt"):
        studio.compare_outputs([" "], []).result()


ROUTED = [
    ("mixture", {"top_k": 2}),
    ("mixture", {"top_k": 3, "temperature": 0.1, "margin": 0.05}),
    ("mixture", {"top_k": 3, "gap": 0.01}),
    ("fusion", {"top_k": 2}),
    ("selection", {}),
    ("selection", {"margin": 1.0}),
    ("merge_rest", {"rank": 8, "enough": 1.0}),
]


@pytest.mark.parametrize(("method", "params"), ROUTED, ids=str)
def test_a_routed_download_runs_by_itself_and_answers_as_the_page_does(
    studio, ids, tmp_path, base, method, params
):
    wanted = recipe(ids, method, **params)
    for source, weight in zip(wanted["sources"], (0.6, -0.8, 0.5), strict=True):
        source["weight"] = weight
    studio.compose_adapter(wanted).result()
    with zipfile.ZipFile(studio.export_routed(wanted)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    prompt = "Put this in the past: he eats."
    done = subprocess.run(
        [sys.executable, "run.py", "--base", base, "--max-new-tokens", "8", prompt],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    columns = [{"kind": "recipe", "recipe": wanted}]
    cells = studio.compare_outputs([prompt], columns, {"max_new_tokens": 8}).result()["cells"]
    assert done.stdout.rstrip().endswith(cells[1]["text"])
    if params.get("margin") == 1.0:
        assert "none fits" in done.stdout
        assert cells[1]["by"] == []
        assert cells[1]["text"] == cells[0]["text"]
        with pytest.raises(InvalidRequest, match="near enough"):
            studio.explain_answer(prompt, cells[1]["text"], columns[0]).result()


def test_a_merge_that_routes_the_rest_says_who_is_merged_on_the_page_and_in_the_download(
    studio, ids, tmp_path
):
    wanted = recipe(ids, "merge_rest", rank=8, enough=1.0)
    with pytest.raises(InvalidRequest, match="do that first"):
        studio.export_routed(wanted)
    made = studio.compose_adapter(wanted).result()
    together = made["merged"]["sources"]
    assert set(together) < set(ids)
    part = studio.get_adapter(made["merged"]["id"])
    assert set(part["parents"]) == set(together)
    titles = {i: studio.get_adapter(i)["title"] for i in ids}
    alone = [titles[i] for i in ids if i not in together]
    assert made["notes"][-1].endswith(f"Routed to as they are: {', '.join(alone)}.")
    assert "held back" in made["notes"][0]
    again = studio.compose_adapter(wanted).result()
    assert again["existed"]
    assert again["merged"] == made["merged"]
    assert studio.plan_composition(wanted).result()["tries"]

    with zipfile.ZipFile(studio.export_routed(wanted)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    routing = json.loads((folder / "routing.json").read_text())
    folders = {a["task"]: a["folder"] for a in routing["adapters"]}
    assert len({folders[titles[i]] for i in together}) == 1
    assert len(set(folders.values())) == len(list((folder / "adapters").iterdir()))
    assert f"merged: {titles[together[0]]}" in (folder / "README.md").read_text()

    studio.delete_adapter(made["merged"]["id"])
    once_more = studio.compose_adapter(wanted).result()
    assert not once_more["existed"]
    assert studio.get_adapter(once_more["merged"]["id"])


def test_a_mixture_in_which_all_answer_is_also_one_adapter(studio, ids, tmp_path, base):
    wanted = recipe(ids, "mixture", top_k=3)
    with zipfile.ZipFile(studio.export_routed(wanted)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    one = studio.add_adapter(str(folder / "merged"), {"base_model": base}).result()
    columns = [{"kind": "recipe", "recipe": wanted}, {"kind": "adapter", "id": one["id"]}]
    result = studio.compare_outputs(["say it in French"], columns, {"max_new_tokens": 12}).result()
    assert result["cells"][1]["text"] == result["cells"][2]["text"]
    studio.delete_adapter(one["id"])


def test_titles_of_compositions_stay_short():
    from lora_studio.studio.composing import short_title

    assert short_title(["Past tense", "French", "French"]) == "Past tense + French"
    long = short_title(["Past tense + French + Polite tone", "Positive or negative", "Capitals"])
    assert long == "Past tense + French + Polite tone + 2 more"
    assert len(short_title(["word " * 40])) < 70


def test_a_merge_goes_on_without_its_base_model_and_is_tuned_once_it_is_there(studio, tmp_path):
    nowhere = str(tmp_path / "no-such-model")
    ids = []
    for seed in (21, 22):
        path = write_adapter(tmp_path / str(seed), "Past tense", seed, nowhere)
        ids.append(studio.add_adapter(str(path)).result()["id"])
    made = studio.compose_adapter(recipe(ids, "preset")).result()
    assert "LEGO at scale 1 was used" in made["notes"][0]
    assert "no-such-model" in made["notes"][-1]
    again = studio.compose_adapter(recipe(ids, "preset")).result()  # tried anew, not remembered
    assert "in the gallery already" in again["notes"][-1]
    for name in (*ids, made["adapter_id"]):
        studio.delete_adapter(name)


def test_a_flow_that_is_left_cancels_its_job(studio):
    flow = studio.compare_outputs(["a"], [], {"max_new_tokens": 110})
    events = iter(flow)
    while next(events)["type"] != "data":
        pass
    events.close()
    deadline = time.monotonic() + 20
    while studio.get_status()["lanes"]["model"]["state"] == "busy":
        assert time.monotonic() < deadline, "the job went on without anyone to read it"
        time.sleep(0.05)
    handles = studio.worker._lanes["model"]._waiting
    assert not handles


def test_a_deleted_composition_can_be_composed_again(studio, ids):
    wanted = recipe(ids, "svd", rank=3)
    made = studio.compose_adapter(wanted).result()
    studio.delete_adapter(made["adapter_id"])
    again = studio.compose_adapter(wanted).result()
    assert not again["existed"]
    assert not again["entry"]["deleted"]


def test_a_recipe_for_another_base_is_refused(studio, ids):
    from lora_studio.errors import IncompatibleAdapters

    with pytest.raises(IncompatibleAdapters, match="not on gpt2"):
        studio.compose_adapter({**recipe(ids, "cat"), "base": {"repo": "gpt2"}}).result()


def test_a_result_that_is_there_already_says_so(studio, ids):
    made = studio.compose_adapter(recipe(ids[:1], "cat"), title="Mine").result()
    assert made["existed"]
    assert "in the gallery already" in made["notes"][-1]


def test_routed_columns_take_short_ids(studio, ids):
    whole, short = recipe(ids, "selection"), recipe([i[:10] for i in ids], "selection")
    columns = [{"kind": "recipe", "recipe": whole}, {"kind": "recipe", "recipe": short}]
    prompt = TASKS["Polite"][0]
    result = studio.compare_outputs([prompt], columns, {"max_new_tokens": 8}).result()
    assert result["cells"][1]["text"] == result["cells"][2]["text"]


def test_sources_of_one_title_are_all_tested(studio, ids, tmp_path, base):
    tests = [{"prompt": "again", "target": "x"}]
    twin = write_adapter(tmp_path / "twin", "French", 77, base, tests)
    twin_id = studio.add_adapter(str(twin)).result()["id"]
    rows = studio.run_tests([], [ids[0], twin_id], n=2).result()["rows"]
    assert [(r["suite"], r["n"]) for r in rows] == [("French", 2), ("French (2)", 1)]
    studio.delete_adapter(twin_id)


def test_random_numbers_of_an_adapter_s_size_are_a_column(studio, ids):
    columns = [{"kind": "adapter", "id": ids[0]}, {"kind": "noise", "id": ids[0]}]
    first, again = (
        studio.compare_outputs(["he eats"], columns, {"max_new_tokens": 4}, seed=7).result()
        for _ in range(2)
    )
    assert first["columns"][2]["title"] == "Random numbers (seed 7)"
    assert "control" in first["columns"][2]["detail"]
    assert [c["text"] for c in first["cells"]] == [c["text"] for c in again["cells"]]
