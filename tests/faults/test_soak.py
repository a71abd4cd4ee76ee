"""A studio in use for hours holds no more at the end than after it warmed up.

LORA_STUDIO_SOAK_HOURS says for how long; `make soak` takes eight hours unless told otherwise.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.formats import save_adapter
from lora_studio.settings import DEMO_BASE
from lora_studio.studio.janitor import EVERY as JANITOR
from lora_studio.web.server import SESSIONS
from tests.faults.gauges import Sample, growth, sample
from tests.faults.visiting import Visitor, process_of
from tests.figures import FULL, record
from tests.web.conftest import serving
from tests.web.test_serving import abandon_upload

SEED = 16
FULL_HOURS = 8.0
HOURS = float(os.environ.get("LORA_STUDIO_SOAK_HOURS", FULL_HOURS if FULL else 0))
EVERY = 10.0  # seconds between two samples
LOAD = 0.3  # share of the time in which something is asked for
WARM_UP = 1800.0  # seconds, or a third of a shorter run
WIDTH = 160  # of the demo model
POOL = 60  # adapters that come and go, so that the gallery itself does not grow
MB = 1 << 20
WAL_LIMIT, TEMP_LIMIT, RSS_PER_HOUR = 64 * MB, 1024 * MB, 2.0
WORDS = ("past tense", "reverse", "colour", "count", "French", "plural", "moon", "a red circle")


def files_for(folder: Path) -> list[Path]:
    """Adapters for the demo base model, each a file that people would upload."""
    found: list[Path] = []
    for number in range(POOL):
        rng = np.random.default_rng([SEED, number])
        a, b = (rng.normal(size=s).astype(np.float32) / 50 for s in ((2, WIDTH), (WIDTH, 2)))
        card = AdapterCard(base_model=DEMO_BASE, title=f"Soaked {number}")
        one = Adapter({"model.layers.0.self_attn.q_proj": LoraFactors(a, b)}, card)
        place = save_adapter(one, folder / f"soaked-{number}")
        found.append(next(Path(place).glob("*.safetensors")))
    return found


def fill_up(url: str, use: Use) -> None:
    """Makes the app hold all that it holds at most: every adapter that will come and go, as many
    pages as it keeps the state of, and as many connections to its database as it keeps open, for
    which several ask at once."""
    for number in range(POOL):
        if not use.upload(number):
            use.wrong.append("upload")
    for _ in range(SESSIONS):
        use.open()
        if not use.search_of_the_page():
            use.wrong.append("search_of_the_page")
    with ThreadPoolExecutor(16) as several:
        list(several.map(lambda _: httpx.get(f"{url}/studio/api/search", timeout=60), range(200)))


class Use:
    """What visitors do, drawn at random; counts what was done and what went wrong."""

    def __init__(self, url: str, files: list[Path], chance: random.Random) -> None:
        self.url, self._files, self._chance = url, files, chance
        self._visitor = Visitor(url)
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.dying = 0.0  # until when failures are owed to a death of ours
        self._kinds: list[tuple[Callable[[], bool], int]] = [
            (self.search, 40), (self.look, 15), (self.upload, 15), (self.delete, 12),
            (self.generate, 9), (self.abort, 3), (self.open, 4), (self.kill, 2),
        ]  # fmt: skip

    def step(self) -> None:
        kind = self._chance.choices(*zip(*self._kinds, strict=True))[0]
        try:
            well = kind()
        except httpx.HTTPError as error:
            well = False
            self.wrong.append(f"{kind.__name__}: {error}"[:200])
        self.done[kind.__name__] += 1
        if not well and time.monotonic() > self.dying:
            self.wrong.append(kind.__name__)

    def hits(self, query: str = "", limit: int = 48) -> list[dict]:
        return self._visitor.get("/studio/api/search", query=query, limit=limit)["hits"]

    def search(self) -> bool:
        words = f"{self._chance.choice(WORDS)} {self._chance.randrange(1000)}"
        return isinstance(self.hits(words), list)

    def look(self) -> bool:
        one = self._chance.choice(self.hits())
        return self._visitor.get(f"/studio/api/adapter/{one['id']}")["id"] == one["id"]

    def open(self) -> bool:
        self._visitor.visit()
        return True

    def search_of_the_page(self) -> bool:
        """The same through Gradio's queue."""
        ended, output = self._visitor.event(
            "search_adapters", [self._chance.choice(WORDS), "", "relevance", 48, ""]
        )
        return ended and len(output["data"][0]["hits"]) > 0

    def upload(self, number: int | None = None) -> bool:
        number = self._chance.randrange(POOL) if number is None else number
        return self._visitor.upload(self._files[number], f"Soaked {number}", DEMO_BASE)

    def delete(self) -> bool:
        ours = [h["id"] for h in self.hits("Soaked", 200) if h["title"].startswith("Soaked")]
        if ours:
            self._visitor.post(f"/studio/api/adapter/{self._chance.choice(ours)}/delete")
        return True

    def generate(self) -> bool:
        one = self._chance.choice([h for h in self.hits() if h["base_model"] == DEMO_BASE])
        columns = [{"kind": "base"}, {"kind": "adapter", "id": one["id"]}]
        data = [["Turn the sentence into past tense: The girl opens the door."], columns]
        ended, output = self._visitor.event("compare_outputs", [*data, 12, 0.0, 0, "", None])
        return ended and [c["done"] and c["tokens"] > 0 for c in output["data"][0]["cells"]] == [
            True, True
        ]  # fmt: skip

    def abort(self) -> bool:
        abandon_upload(self.url, self._chance.randrange(100_000, 2_000_000))
        return True

    def kill(self) -> bool:
        """A worker dies; whoever asks for it in the next minute may be told so."""
        workers = process_of(self.url).children()
        if workers:
            self._chance.choice(workers).kill()
            self.dying = time.monotonic() + 60
        return True

    def close(self) -> None:
        self._visitor.close()


def soak(url: str, data: Path, files: list[Path], seconds: float) -> tuple[list[Sample], Use]:
    """Uses the app for so long; what its web process held every ten seconds."""
    process, use, samples = process_of(url), Use(url, files, random.Random(SEED)), []
    try:
        fill_up(url, use)
        start = time.monotonic()
        while (now := time.monotonic() - start) < seconds:
            if now >= len(samples) * EVERY:
                samples.append(sample(process, now, data))
            began = time.monotonic()
            use.step()
            took = time.monotonic() - began
            time.sleep(min(took * (1 - LOAD) / LOAD, EVERY / 2))
    finally:
        use.close()
    return samples, use


def leaking() -> float:
    """The control: what the same samples and line say of a process that keeps 1 MB every 50 ms."""
    code = "import time; kept = []\nwhile True: kept.append(b'x' * 1048576); time.sleep(0.05)"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        watched, start, samples = psutil.Process(process.pid), time.monotonic(), []
        while len(samples) < 20:
            time.sleep(0.1)
            samples.append(sample(watched, time.monotonic() - start))
        return growth(samples[5:], "rss")[0] / MB
    finally:
        process.kill()
        process.wait()


def troughs(samples: list[Sample]) -> list[Sample]:
    """The sample with the least memory of every five minutes (a sixth of a short run): what was
    freed goes back to the system that often, and what leaks is in the least too."""
    first, last = samples[0].at, samples[-1].at
    part = min(JANITOR, (last - first) / 6)
    kept: dict[int, Sample] = {}
    for one in samples:
        number = int((one.at - first) / part)
        kept[number] = min(one, kept.get(number, one), key=lambda s: s.rss)
    return list(kept.values())


def problems(samples: list[Sample]) -> dict[str, str]:
    """What grows or is too large, beyond what the scatter of the samples explains."""
    found: dict[str, str] = {}
    for field, unit, allowed in (("rss", MB, RSS_PER_HOUR), ("fds", 1, 1.0), ("threads", 1, 1.0)):
        slope, error = growth(troughs(samples) if field == "rss" else samples, field)
        if (slope - 3 * error) / unit > allowed:
            found[field] = f"{slope / unit:.2f} ± {error / unit:.2f} per hour"
    for field, limit in (("wal", WAL_LIMIT), ("temp", TEMP_LIMIT)):
        largest = max(getattr(s, field) for s in samples)
        if largest > limit:
            found[field] = f"{largest} bytes"
    return found


def test_a_leak_is_noticed():
    """The control, on made-up samples of a studio that loses 4 MB and one file an hour."""
    rng = np.random.default_rng(SEED)
    flat = [Sample(10.0 * i, 300 * MB + int(rng.normal() * MB), 60, 40) for i in range(720)]
    leaks = [
        Sample(s.at, s.rss + int(s.at / 3600 * 4 * MB), 60 + int(s.at / 1200), 40) for s in flat
    ]
    assert problems(flat) == {}
    assert set(problems(leaks)) == {"rss", "fds"}
    assert leaking() > 1000 * RSS_PER_HOUR


@pytest.mark.skipif(not HOURS, reason="LORA_STUDIO_SOAK_HOURS says for how long")
def test_nothing_grows_while_the_studio_is_used(tmp_path: Path):
    data, started = tmp_path / "data", time.time()
    with serving(data) as url:
        samples, use = soak(url, data, files_for(tmp_path / "files"), HOURS * 3600)
    settled = [s for s in samples if s.at >= min(WARM_UP, HOURS * 1200)]
    (tmp_path / "samples.txt").write_text("\n".join(str(asdict(s)) for s in samples))
    found, (slope, error) = problems(settled), growth(troughs(settled), "rss")
    record(
        f"T16 soak for {HOURS:g} h", count=sum(use.done.values()),
        failures=len(found) + len(use.wrong), seconds=time.time() - started, seed=SEED,
        control=f"a process that keeps 1 MB every 50 ms is seen to grow by {leaking():,.0f} MB/h",
        full=HOURS >= FULL_HOURS, **dict(use.done),
        rss_mb_per_hour=f"{slope / MB:.2f} ± {error / MB:.2f}",
        rss_mb=f"{settled[0].rss / MB:.0f} to {settled[-1].rss / MB:.0f}",
        fds=f"{settled[0].fds} to {settled[-1].fds}",
        threads=f"{settled[0].threads} to {settled[-1].threads}",
        temp_mb_at_most=max(s.temp for s in samples) / MB,
        wal_mb_at_most=max(s.wal for s in samples) / MB,
    )  # fmt: skip
    assert found == {}
    assert use.wrong == []
