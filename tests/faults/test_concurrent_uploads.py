"""Many uploads at once, some of them twice and some hostile: one file and one row per adapter, a
clear refusal for the hostile ones, and nothing left behind."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import save_adapter
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.worker.local import LocalWorker
from tests.conftest import build_adapter
from tests.figures import cases, record

SEED = 9
AT_ONCE = cases(8, 32)


def write_uploads(folder: Path, count: int) -> list[tuple[Path, str | None]]:
    """(file, id of the adapter in it, or None if it is hostile): a quarter twice, a tenth bad."""
    chance = random.Random(SEED)
    found: list[tuple[Path, str | None]] = []
    good: list[tuple[Path, str | None]] = []
    for number in range(count):
        path = folder / str(number) / "adapter_model.safetensors"
        draw = chance.random()
        if draw < 0.1:
            path.parent.mkdir(parents=True)
            path.write_bytes(b"\xff" * 8 + b"{" + bytes(chance.randrange(2000)))
            found.append((path, None))
        elif draw < 0.35 and good:
            found.append(chance.choice(good))
        else:
            one = build_adapter(number, rank=2, layers=1)
            save_adapter(one, path.parent)
            good.append((path.parent, one.id))
            found.append(good[-1])
    return found


def test_concurrent_uploads_are_each_kept_once(tmp_path: Path) -> None:
    start = time.perf_counter()
    uploads = write_uploads(tmp_path / "files", cases(12, 640))
    settings = Settings(data_dir=tmp_path / "data")
    problems: Counter[str] = Counter()
    times: list[float] = []
    with Studio(settings, Gallery.open(settings), LocalWorker(settings)) as studio:

        def upload(one: tuple[Path, str | None]) -> str | None:
            began = time.perf_counter()
            try:
                return studio.add_adapter(str(one[0]), {"base_model": "tiny"}).result()["id"]
            except InvalidAdapter:
                return None
            finally:
                times.append(time.perf_counter() - began)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(upload, uploads))
        problems["wrong answer"] = sum(
            answer != expected for answer, (_, expected) in zip(answers, uploads, strict=True)
        )
        distinct = {expected for _, expected in uploads if expected}
        with studio.gallery._store.read() as connection:
            rows = connection.exec_driver_sql("SELECT id, blob FROM adapters").all()
        shas = {sha for _, sha in rows}
        problems["rows"] = abs(len(rows) - len(distinct))
        problems["files"] = len(list(studio.gallery._blobs.root.glob("??/*"))) - len(shas)
        problems["strays"] = len(list(studio.gallery._blobs.strays(shas)))
        problems["scratch"] = len(list(settings.scratch_dir.glob("*.safetensors")))
        extra = studio.gallery._blobs.put(b"a file that no row knows")
        noticed = len(list(studio.gallery._blobs.strays(shas)))
    record(
        "T9 uploads at once",
        count=len(uploads),
        failures=sum(problems.values()),
        seconds=time.perf_counter() - start,
        seed=SEED,
        control=f"one file put in by hand: {noticed} found",
        at_once=AT_ONCE,
        adapters=len(distinct),
        p95_s=round(sorted(times)[int(0.95 * len(times))], 2),
    )
    assert +problems == {}
    assert (noticed, bool(extra)) == (1, True)
