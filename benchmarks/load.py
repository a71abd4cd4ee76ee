"""What a studio with very many adapters gives to several visitors at once.

Fills a gallery, starts the app on one processor core, and asks it from the others: the JSON routes
that browse and search, and a search through Gradio's queue. Prints requests a second and the 95th
percentile, with what is aimed at. Run: python benchmarks/load.py [--adapters 10000] [--clients 8]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import psutil
from sqlalchemy import insert

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.formats import canonical
from lora_studio.gallery import Gallery
from lora_studio.gallery import tables as t
from lora_studio.gallery.ingest import describe
from lora_studio.settings import DEMO_BASE, Settings

ROOT = Path(__file__).resolve().parent.parent
WORDS = (
    "past tense of verbs", "translate into French", "write SQL", "fix grammar", "count letters",
    "a watercolour style", "summarise a meeting", "legal contracts", "name the colour", "rhymes",
)  # fmt: skip
TAGS = ("grammar", "style", "code", "translation", "maths", "fun", "legal", "medical")
DIM = 384
WAIT = 60.0
WARM_UP = 3.0  # seconds of each kind that do not count

Ask = Callable[[httpx.Client, int], bool]


@dataclass(frozen=True)
class Goal:
    """At least so many requests a second, 95 of 100 within so many milliseconds."""

    rate: float
    p95_ms: float


@dataclass(frozen=True)
class Load:
    """What was measured: requests, those that failed, per second, 95th percentile."""

    what: str
    goal: Goal
    requests: int
    errors: int
    rate: float
    p95_ms: float

    @property
    def reached(self) -> bool:
        return not self.errors and self.rate >= self.goal.rate and self.p95_ms <= self.goal.p95_ms

    def __str__(self) -> str:
        return (
            f"{self.what:<24} {self.rate:7.1f}/s (goal {self.goal.rate:g})  "
            f"p95 {self.p95_ms:6.0f} ms (goal {self.goal.p95_ms:g})  "
            f"{self.errors} of {self.requests:,} failed"
        )


def fill(settings: Settings, count: int) -> None:
    """A gallery of `count` adapters of different texts and places, all with one small file."""
    gallery, rng = Gallery.open(settings), np.random.default_rng(15)
    factors = {"model.layers.0.self_attn.q_proj": LoraFactors(*_factors(rng))}
    one = Adapter(factors, AdapterCard(base_model=DEMO_BASE, title="One of many"))
    content = canonical.dump(one)
    sha, entry = gallery._blobs.put(content), describe(one, len(content))
    with gallery._store.write() as connection:
        for number in range(count):
            name = sha256(str(number).encode()).hexdigest()
            words = WORDS[number % len(WORDS)]
            made = replace(
                entry, id=name, title=f"{words} {number}", description=f"Learnt to {words}.",
                tags=(TAGS[number % len(TAGS)],), contributor=f"person {number % 50}",
            )  # fmt: skip
            gallery._store.insert(connection, made, sha, ())
            place = rng.normal(size=DIM)
            place = (place / np.linalg.norm(place)).astype("<f4")
            connection.execute(
                insert(t.vectors).values(
                    adapter_id=name, embedder_id=settings.embedder, source="card", dim=DIM,
                    samples=place.astype("<f2").tobytes(), centroid=place.tobytes(),
                )
            )  # fmt: skip
    gallery.close()


def _factors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(2, 64)).astype(np.float32), rng.normal(size=(64, 2)).astype(np.float32)


@contextmanager
def serving(data: Path) -> Iterator[str]:
    """The app on the first core, and this process on the others, until the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"LORA_STUDIO_DATA": str(data), "LORA_STUDIO_PORT": str(port)}
    command = [sys.executable, "app.py"]
    mine = psutil.Process()
    cores = mine.cpu_affinity() if hasattr(mine, "cpu_affinity") else []
    app = psutil.Popen(
        command, cwd=ROOT, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    try:
        if len(cores) > 1:
            app.cpu_affinity(cores[:1])
            mine.cpu_affinity(cores[1:])
        url = f"http://127.0.0.1:{port}"
        _settle(url)
        yield url
    finally:
        if len(cores) > 1:
            mine.cpu_affinity(cores)
        app.terminate()
        app.wait(20)


def _settle(url: str) -> None:
    """Waits for the app, until it searches by meaning and its workers have nothing left to do."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        time.sleep(0.5)
        with contextlib.suppress(httpx.HTTPError):
            told = httpx.get(f"{url}/studio/api/status", timeout=10).json()
            states = {lane["state"] for lane in told["lanes"].values()}
            if told["search"] == "semantic" and states <= {"ready", "stopped"}:
                return
    raise SystemExit("The app did not start, or does not search by meaning. Run `make run` to see.")


def browse(client: httpx.Client, number: int) -> bool:
    """One page of cards."""
    query = {"limit": 48, "offset": 48 * (number % 6), "sort": "newest"}
    return len(client.get("/studio/api/search", params=query).json()["hits"]) > 0


def search(client: httpx.Client, number: int) -> bool:
    """A search by meaning, for words that others look for too."""
    found = client.get("/studio/api/search", params={"query": WORDS[number % len(WORDS)]}).json()
    return len(found["hits"]) > 0


def through_the_queue(client: httpx.Client, number: int) -> bool:
    """The same as an event of the page."""
    session = uuid.uuid4().hex
    data = [WORDS[number % len(WORDS)], "", "relevance", 48, ""]
    body = {"fn_index": _number(client), "data": data, "session_hash": session}
    client.post("/gradio_api/queue/join", json=body).raise_for_status()
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return bool(message["success"])
    return False


def _number(client: httpx.Client) -> int:
    """Of the event, asked for once."""
    if "ls-number" not in client.headers:
        dependencies = client.get("/config").json()["dependencies"]
        number = next(d["id"] for d in dependencies if d["api_name"] == "search_adapters")
        client.headers["ls-number"] = str(number)
    return int(client.headers["ls-number"])


KINDS: dict[str, tuple[Ask, Goal, float]] = {  # what: how, goal, share of the time
    "browse (JSON)": (browse, Goal(20, 300), 0.25),
    "search (JSON)": (search, Goal(20, 300), 0.5),
    "search (Gradio event)": (through_the_queue, Goal(15, 700), 0.25),
}


def ask(url: str, ask_once: Ask, seconds: float, clients: int) -> tuple[list[float], int]:
    """Seconds of each answer to `clients` who each ask again at once, and how many failed."""
    times: list[float] = []
    errors = [0]
    end = time.monotonic() + seconds

    def visitor(first: int) -> None:
        with httpx.Client(base_url=url, timeout=WAIT) as client:
            number = first
            while time.monotonic() < end:
                began = time.monotonic()
                try:
                    well = ask_once(client, number)
                except (httpx.HTTPError, ValueError, KeyError):
                    well = False
                errors[0] += not well
                times.append(time.monotonic() - began)
                number += clients

    threads = [threading.Thread(target=visitor, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors[0]


def measure(url: str, seconds: float, clients: int) -> Iterator[Load]:
    """Each kind of request for its share of the time."""
    for what, (ask_once, goal, share) in KINDS.items():
        ask(url, ask_once, WARM_UP, clients)
        began = time.monotonic()
        times, errors = ask(url, ask_once, seconds * share, clients)
        p95 = 1000 * float(np.percentile(times, 95))
        yield Load(what, goal, len(times), errors, len(times) / (time.monotonic() - began), p95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        fill(Settings(data_dir=data), args.adapters)
        print(f"{args.adapters:,} adapters, {args.clients} visitors at once")
        with serving(data) as url:
            for load in measure(url, args.seconds, args.clients):
                print(f"{load}  {'reached' if load.reached else 'NOT REACHED'}")


if __name__ == "__main__":
    main()
