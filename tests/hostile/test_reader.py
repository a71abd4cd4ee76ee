"""The real thing, end to end: a studio reads uploads in processes that end, and none hurts it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.limits import Limits
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.worker import local
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import validate
from tests.hostile.cases import Case, plain
from tests.hostile.headers import cases as headers


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    limits = Limits(seconds=20)
    settings = Settings(data_dir=tmp_path_factory.mktemp("studio"), device="cpu", limits=limits)
    opened = Studio.open(settings)
    yield opened
    opened.close()


def pid(studio: Studio) -> int | None:
    return studio.worker.status()["reader"]["pid"]


def test_every_upload_is_read_by_a_process_of_its_own(studio, tmp_path):
    seen = []
    for seed in range(3):
        path = tmp_path / f"{seed}.safetensors"
        save_file(plain(np.random.default_rng(seed)), path)
        seen.append(pid(studio))
        added = studio.add_adapter(str(path), {"base_model": "somewhere/else"}).result()
        assert added["base_model"] == "somewhere/else"
        until = time.time() + 20
        while pid(studio) in (None, seen[-1]) and time.time() < until:
            time.sleep(0.02)
    assert len({p for p in [*seen, pid(studio)] if p}) >= 3


def test_a_refusal_comes_through_with_its_code(studio, tmp_path):
    case: Case = next(iter(headers(1, 1)))
    with pytest.raises(InvalidAdapter) as refused:
        studio.add_adapter(str(case.write(tmp_path)), {}).result()
    assert refused.value.refusal in case.refusals


def test_a_reader_that_takes_too_long_or_too_much_is_stopped(tmp_path, monkeypatch):
    """A file whose reading needs more memory than it may have is refused, and the next one is
    read."""
    monkeypatch.setenv("LORA_STUDIO_LIMIT_MEMORY", str(150 << 20))
    settings = Settings(data_dir=tmp_path / "data", device="cpu")
    opened = Studio.open(settings)
    try:
        stem = "lora_unet_mid_block_attentions_0_proj_in"
        rng = np.random.default_rng(0)
        one, two = (rng.normal(size=(n, n)).astype(np.float32) for n in (60, 60))
        save_file({f"{stem}.lokr_w1": one, f"{stem}.lokr_w2": two}, tmp_path / "big.safetensors")
        with pytest.raises(InvalidAdapter) as refused:
            opened.add_adapter(str(tmp_path / "big.safetensors"), {"base_model": "x"}).result()
        assert refused.value.refusal in ("resources", "caps")
    finally:
        opened.close()


def test_the_reader_has_no_secrets_and_no_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "s")
    env = local._environment("reader", tmp_path)
    assert not {"HF_TOKEN", "OAUTH_CLIENT_SECRET"} & env.keys()
    assert "hf_secret" not in env.values()
    assert env["HF_HUB_OFFLINE"] == "1"
    assert Path(env["PYTHONPATH"].split(":")[0]).is_dir()
    assert "hf_secret" in local._environment("model", tmp_path).values()


def test_an_upload_that_names_a_folder_of_the_host_learns_nothing_of_it(tmp_path):
    """On a hosted studio a stranger's base model is compared only if it is one of the studio's."""
    base = tmp_path / "base"
    base.mkdir()
    save_file(
        {"model.layers.0.self_attn.q_proj.weight": np.ones((7, 9), np.float32)},
        base / "m.safetensors",
    )
    weights = tmp_path / "x.safetensors"
    save_file(plain(np.random.default_rng(0)), weights)
    args = {"path": str(weights), "out": str(tmp_path / "out"), "max_bytes": 1 << 20}
    args |= {"card": {"base_model": str(base)}}
    ctx = JobContext(lambda data: None, lambda share, text: None, lambda: False, tmp_path)
    with pytest.raises(InvalidAdapter) as refused:
        validate.run(args, ctx)
    assert refused.value.refusal == "base-model"
    result = validate.run({**args, "bases": ["lora-studio-demo-text"]}, ctx)
    assert not result["fits"]
    assert "not on this machine" in " ".join(result["report"])
