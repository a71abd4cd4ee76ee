"""The tasks run in real children: texts become vectors, prompts become text."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from lora_studio.errors import Cancelled, IncompatibleAdapters, LoraStudioError
from lora_studio.formats import canonical
from lora_studio.settings import Settings
from lora_studio.worker.job import Job
from lora_studio.worker.local import LocalWorker
from tests.tiny_models import GPT2, random_adapter, save_model

LIMIT = 120.0


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = LocalWorker(Settings(data_dir=tmp_path_factory.mktemp("data")))
    worker.start()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_model("llama", tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def blobs(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("blobs")
    found = {}
    for name, adapter in {"a": random_adapter(1), "b": random_adapter(2, rank=7)}.items():
        found[name] = str(folder / name)
        (folder / name).write_bytes(canonical.dump(adapter))
    return found


def rows(count: int, **more) -> list[dict]:
    terms = [[], [["a", 1.0]], [["a", 0.5], ["b", 0.5]]]
    return [
        {
            "id": str(i),
            "prompt": "hello",
            "terms": terms[i % 3],
            "fuse": i % 2 == 1,
            "sampling": {"max_new_tokens": 12, "temperature": 0.8},
            "seed": i,
            **more,
        }
        for i in range(count)
    ]


def generate(base, blobs, rows, **more) -> Job:
    args = {"base": base, "device": "cpu", "adapters": blobs, "rows": rows, "max_rows": 4, **more}
    return Job("generate", args, "model")


def test_texts_become_unit_vectors_in_a_file(worker):
    texts = ["turn this into past tense"] * 70 + ["translate it"]
    result = worker.submit(Job("embed", {"texts": texts, "embedder": "minilm"}, "light")).result(
        LIMIT
    )
    vectors = np.load(result["path"])
    assert vectors.shape == (71, result["dim"])
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-4)
    assert np.allclose(vectors[0], vectors[69], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[70], atol=0.1)


def test_generated_rows_stream_and_repeat(worker, base, blobs):
    handle = worker.submit(generate(base, blobs, rows(6)))
    last: dict[str, dict] = {}
    for event in handle:
        for row in event.get("rows", []):
            last[row["id"]] = row
    result = handle.result()
    assert [row["id"] for row in result["rows"]] == [str(i) for i in range(6)]
    for row in result["rows"]:
        assert last[row["id"]]["done"]
        assert last[row["id"]]["text"] == row["text"]
        assert row["stop"] in ("eos", "length")
    assert result["tokens"] == sum(row["tokens"] for row in result["rows"])
    again = worker.submit(generate(base, blobs, rows(6)[::-1])).result(LIMIT)
    assert again["rows"][::-1] == result["rows"]
    status = worker.status()["model"]
    assert status["base"] == base
    assert status["device"] == "CPU"
    assert status["adapters_resident"] == 2


def test_answers_are_scored(worker, base, blobs):
    asked = [{**row, "target": "there"} for row in rows(3)]
    job = Job("score", {"base": base, "device": "cpu", "adapters": blobs, "rows": asked}, "model")
    result = worker.submit(job).result(LIMIT)["rows"]
    assert [row["tokens"] for row in result] == [6, 6, 6]
    assert all(row["logprob"] < 0 and not row["exact"] for row in result)


def test_a_base_model_is_described(worker, base):
    job = Job("describe_base", {"base": base, "device": "cpu"}, "model")
    result = worker.submit(job).result(LIMIT)
    assert result["architecture"] == "LlamaForCausalLM"
    assert result["dtype"] == "float32"
    assert result["modules"]["model.layers.0.self_attn.v_proj"] == [32, 16]
    assert result["parameters"] > 10_000
    assert not result["chat"]


def test_another_base_takes_the_place_of_the_first(worker, base, blobs, tmp_path):
    other = str(save_model("gpt2", tmp_path / "gpt2"))
    fit = tmp_path / "fit"
    fit.write_bytes(canonical.dump(random_adapter(5, dims=GPT2)))
    result = worker.submit(generate(other, {"a": str(fit)}, rows(2))).result(LIMIT)
    assert len(result["rows"]) == 2
    assert worker.status()["model"]["base"] == other
    with pytest.raises(IncompatibleAdapters, match="lacks"):
        worker.submit(generate(other, blobs | {"a": str(fit)}, rows(2))).result(LIMIT)
    assert worker.submit(generate(base, blobs, rows(1))).result(LIMIT)["tokens"] > 0


def test_a_model_that_is_not_there_says_what_to_do_and_the_lane_goes_on(worker, base, blobs):
    with pytest.raises(LoraStudioError, match="local folder"):
        worker.submit(generate("/no/such/folder", blobs, rows(1))).result(LIMIT)
    assert worker.submit(generate(base, blobs, rows(1))).result(LIMIT)["tokens"] > 0


def test_a_cancelled_generation_ends_and_the_engine_stays(worker, base, blobs):
    many = rows(400, sampling={"max_new_tokens": 100, "temperature": 1.0})
    handle = worker.submit(generate(base, blobs, many))
    next(event for event in handle if event["type"] == "data")
    pid = worker.status()["model"]["pid"]
    handle.cancel()
    start = time.monotonic()
    with pytest.raises(Cancelled):
        handle.result(LIMIT)
    assert time.monotonic() - start < 5
    assert worker.submit(generate(base, blobs, rows(1))).result(LIMIT)["tokens"] > 0
    assert worker.status()["model"]["pid"] == pid


def test_a_search_does_not_wait_behind_a_generation(worker, base, blobs):
    handle = worker.submit(generate(base, blobs, rows(400, sampling={"max_new_tokens": 100})))
    next(event for event in handle if event["type"] == "data")
    job = Job("embed", {"texts": ["quick"], "embedder": "minilm"}, "light")
    worker.submit(job).result(LIMIT)
    assert not handle.finished
    handle.cancel()


def test_files_of_old_jobs_are_swept_and_new_ones_stay(worker):
    def embed() -> Path:
        job = Job("embed", {"texts": ["a"], "embedder": "minilm"}, "light")
        return Path(worker.submit(job).result(LIMIT)["path"])

    old, new = embed(), embed()
    os.utime(old.parent, (0, 0))
    embed()
    assert not old.exists()
    assert new.exists()
    assert not list(new.parent.parent.glob("*/nothing"))
