"""Pictures made in a real child: cells while they grow, files that tell how they were made."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from PIL import Image

from lora_studio.errors import Cancelled, InvalidRequest
from lora_studio.formats import canonical
from lora_studio.settings import Settings
from lora_studio.worker.job import Job
from lora_studio.worker.local import LocalWorker
from tests.tiny_pipelines import random_adapter, save_pipeline

LIMIT = 120.0
MODULES = {
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": (8, 8),
    "unet.up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k": (16, 8),
    "text_encoder.text_model.encoder.layers.0.self_attn.q_proj": (16, 16),
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = LocalWorker(Settings(data_dir=tmp_path_factory.mktemp("data")))
    worker.start()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_pipeline("sd1", tmp_path_factory.mktemp("sd1")))


@pytest.fixture(scope="module")
def blobs(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("blobs")
    found = {}
    for seed, name in enumerate(("a", "b")):
        adapter = random_adapter(MODULES, seed, size=1.0)
        found[name] = str(folder / name)
        (folder / name).write_bytes(canonical.dump(adapter))
    return found


def render(base, blobs, out, columns, **more) -> Job:
    args = {
        "base": base,
        "device": "cpu",
        "adapters": blobs,
        "columns": columns,
        "prompts": ["a cat", "a dog"],
        "seeds": [3, 4],
        "negative": "",
        "steps": 4,
        "guidance": 4.0,
        "width": 32,
        "height": 32,
        "out": str(out),
        **more,
    }
    return Job("render", args, "model")


def recipe(method: str, **params) -> dict:
    sources = [{"id": "a", "weight": 1.0}, {"id": "b", "weight": 0.5}]
    compose = {"method": method, "params": params, "seed": 0}
    return {"schema": 1, "modality": "image", "sources": sources, "compose": compose, "base": {}}


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_columns_of_every_kind_come_back_as_files_that_tell_how_they_were_made(
    worker, base, blobs, tmp_path
):
    columns = [
        {"title": "Base"},
        {"title": "a", "terms": [["a", 1.0]]},
        {"title": "sum", "terms": [["a", 1.0], ["b", 0.5]]},
        {"title": "cat", "recipe": recipe("cat")},
        {"title": "by prompt", "rows": [[["a", 1.0]], []]},
    ]
    handle = worker.submit(render(base, blobs, tmp_path, columns, preview_every=2))
    events = list(handle)
    result = handle.result(LIMIT)
    files = {(c["prompt"], c["column"]): c["path"] for c in result["cells"]}
    assert files.keys() == {(p, c) for p in range(2) for c in range(5)}
    assert np.abs(pixels(files[0, 0]) - pixels(files[0, 1])).max() > 5
    assert np.abs(pixels(files[0, 2]) - pixels(files[0, 3])).max() <= 1
    assert np.abs(pixels(files[0, 4]) - pixels(files[0, 1])).max() <= 1
    assert np.abs(pixels(files[1, 4]) - pixels(files[1, 0])).max() <= 1
    facts = json.loads(Image.open(files[1, 3]).info["lora_studio"])
    assert facts["prompt"] == "a dog"
    assert facts["seed"] == 4
    assert facts["column"]["recipe"]["compose"]["method"] == "cat"
    assert "Steps: 4" in Image.open(files[1, 3]).info["parameters"]
    cells = [c for e in events if e["type"] == "data" for c in e["cells"]]
    shown = [c["preview"] for c in cells if c.get("preview")]
    assert len(shown) == 10
    assert base64.b64decode(shown[0].partition(",")[2]).startswith(b"\x89PNG")
    assert sum(c["done"] for c in cells) == 10
    assert [c["passes"] for c in result["columns"]] == [1.0] * 5


def test_several_branches_and_switching_run_from_recipes(worker, base, blobs, tmp_path):
    columns = [
        {"title": "composite", "recipe": recipe("composite")},
        {"title": "switch", "recipe": recipe("switch", tau=1)},
    ]
    result = worker.submit(render(base, blobs, tmp_path, columns)).result(LIMIT)
    assert [c["passes"] for c in result["columns"]] == [2.0, 1.0]


def test_a_cancelled_run_stops_and_the_next_one_starts_clean(worker, base, blobs, tmp_path):
    job = render(base, blobs, tmp_path, [{"title": "Base"}], steps=200)
    handle = worker.submit(job)
    for event in handle:
        if event["type"] == "data":
            handle.cancel()
    with pytest.raises(Cancelled):
        handle.result(LIMIT)
    again = render(base, blobs, tmp_path, [{"title": "Base"}])
    assert len(worker.submit(again).result(LIMIT)["cells"]) == 2


def test_text_jobs_on_an_image_model_are_refused_with_the_reason(worker, base):
    args = {"base": base, "device": "cpu", "rows": [{"id": "0", "prompt": "hello"}]}
    with pytest.raises(InvalidRequest, match="makes pictures"):
        worker.submit(Job("generate", args, "model")).result(LIMIT)


def test_an_image_model_is_described_with_its_family_and_usual_settings(worker, base):
    found = worker.submit(Job("describe_base", {"base": base, "device": "cpu"}, "model")).result(
        LIMIT
    )
    assert (found["modality"], found["family"]) == ("image", "sd1")
    assert "unet.mid_block.attentions.0.proj_in" in found["modules"]


def test_a_recipe_that_tunes_itself_is_tuned_on_its_sources_samples(worker, base, blobs, tmp_path):
    whole = {"title": "svd", "recipe": recipe("svd", rank=2, auto_scale=True)}
    told = {**whole, "samples": {"a": ["a cat"], "b": ["a dog"]}}
    events = list(worker.submit(render(base, blobs, tmp_path, [told])))
    assert events[-1]["type"] == "done"
    tried = [e["message"] for e in events if "trying strength" in e.get("message", "")]
    assert len(tried) > 5
