"""A hosted studio in a temporary folder, its whole site in this process, and people to visit it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from lora_studio.composition import Recipe
from lora_studio.gallery import Gallery
from lora_studio.hosting import Hosting, Quota
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.worker.local import LocalWorker
from tests.conftest import build_adapter

HEADER = "X-Forwarded-User"
PROXY = ("127.0.0.1", 50000)
STRANGER = ("203.0.113.9", 50000)
HOME = "http://testserver"
OURS = {"Origin": HOME, "X-Lora-Studio": "1"}
BASE = "tiny"

PEOPLE = {"visitor": "", "person": "bob", "owner": "alice", "moderator": "mia"}
GENEROUS = Quota(
    uploads_per_day=10_000,
    jobs_per_person=100,
    searches_per_minute=100_000,
    visitor_generations_per_day=100_000,
    reports_per_day=10_000,
)
HOSTED = Hosting(auth=f"header:{HEADER}", moderators=("mia",), bases=(BASE,), quota=GENEROUS)

TARGETS = {
    "her public": {"owner": "alice"},
    "another's": {"owner": "carol"},
    "private": {"owner": "alice", "visibility": "private"},
    "quarantined": {"owner": "alice", "review": "quarantined"},
}
BESIDE = "beside"


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return out.getvalue()


@dataclass
class Site:
    """The studio, its site, and the adapters everybody tries their hands on."""

    studio: Studio
    client: TestClient
    ids: dict[str, str]
    recipes: dict[str, str]

    @property
    def gallery(self) -> Gallery:
        return self.studio.gallery

    def put(self, name: str) -> None:
        """Brings a target back to how every case finds it, whatever was done to it."""
        wanted = dict(TARGETS.get(name, {"owner": "carol"}))
        gallery, seed = self.gallery, [*TARGETS, BESIDE].index(name)
        adapter = build_adapter(seed, rank=2, base=BASE, title=f"The {name} adapter")
        self.ids[name] = adapter.id
        if gallery._finder.find(adapter.id):
            gallery.purge(adapter.id)
        review = wanted.pop("review", "reviewed")
        gallery.add(adapter, thumbnail=picture(), **wanted)
        if review != "unreviewed":
            gallery.set_review(adapter.id, review)

    def state(self, name: str) -> Any:
        """All that a case may have changed of a target."""
        found = self.gallery._finder.find(self.ids[name])
        return found and replace(found, described_by="")

    def rows(self) -> int:
        history = self.gallery.history(1)
        return history[0]["seq"] if history else 0


def headers(who: str, **more: str) -> dict[str, str]:
    """What the proxy sends for somebody, from our own page."""
    return {**OURS, **({HEADER: who} if who else {}), **more}


def recipe_of(*ids: str, method: str = "linear") -> dict[str, Any]:
    return {
        "schema": 1,
        "base": {"repo": BASE},
        "sources": [{"id": i, "weight": 1.0} for i in ids],
        "compose": {"method": method, "params": {}, "seed": 0},
    }


@contextmanager
def site(folder: Path, hosting: Hosting = HOSTED, client: Any = PROXY) -> Iterator[Site]:
    """The site of a studio whose gallery holds the targets."""
    from lora_studio.web.server import create_app

    settings = Settings(data_dir=folder / "data", base_model=BASE, device="cpu", hosting=hosting)
    studio = Studio(settings, Gallery.open(settings), LocalWorker(settings))
    with studio, TestClient(create_app(studio, settings), client=client) as browser:
        built = Site(studio, browser, {}, {})
        for name in (BESIDE, *TARGETS):
            built.put(name)
        for name in TARGETS:
            recipe = Recipe.from_dict(recipe_of(built.ids[name], built.ids[BESIDE]))
            built.recipes[name] = recipe.id
            studio.gallery.put_recipe(recipe.id, recipe.to_yaml(), {}, None)
        yield built
