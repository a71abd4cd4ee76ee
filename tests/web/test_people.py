"""One studio, several people behind a proxy: upload, report, review, each in their own browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.formats import save_adapter
from tests.web.conftest import NewPage, search, serving
from tests.web.test_page import a_demo_adapter, upload

HEADER = "X-Forwarded-User"
SHARED = {"LORA_STUDIO_AUTH": f"header:{HEADER}", "LORA_STUDIO_MODERATORS": "mia"}
TITLE = "Sea shanties"


def a_new_adapter(folder: Path) -> list[Path]:
    demo, rng = a_demo_adapter(), np.random.default_rng(11)

    def other(module: LoraFactors) -> LoraFactors:
        return replace(module, A=rng.normal(0, 0.02, module.A.shape).astype(np.float32))

    card = AdapterCard(
        title=TITLE, base_model=demo.card.base_model, samples=("sing a sea shanty about ropes",)
    )
    adapter = Adapter({name: other(m) for name, m in demo.factors.items()}, card)
    return sorted(p for p in save_adapter(adapter, folder / "shanty").iterdir() if p.is_file())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("shared") / "data", **SHARED) as address:
        yield address


def test_an_upload_is_new_until_a_moderator_has_looked_at_it(
    shared: str, new_page: NewPage, tmp_path: Path
):

    def as_(who: str) -> Page:
        return new_page(shared, extra_http_headers={HEADER: who} if who else {})

    visitor = as_("")
    expect(visitor.locator("#ls-person")).to_have_text("visitor")
    visitor.get_by_role("button", name="Add adapter").click()
    expect(visitor.locator(".ls-toast")).to_contain_text("Sign in")
    expect(visitor.locator("#ls-upload-go")).to_be_hidden()

    alice = as_("alice")
    expect(alice.locator(".ls-person-name")).to_have_text("alice")
    upload(alice, *a_new_adapter(tmp_path))
    alice.get_by_role("button", name="Look at it").click()
    for name in ("Edit", "Make private", "Delete"):
        expect(alice.get_by_role("dialog").get_by_role("button", name=name)).to_be_visible()

    bob = as_("bob")
    search(bob, TITLE)
    expect(bob.locator(".ls-card", has_text=TITLE).locator(".ls-tag-new")).to_be_visible()
    bob.locator(".ls-card", has_text=TITLE).first.click()
    drawer = bob.get_by_role("dialog")
    for name in ("Edit", "Make private", "Delete", "Approve", "Hold back"):
        expect(drawer.get_by_role("button", name=name)).to_have_count(0)
    drawer.get_by_role("button", name="Report").click()
    bob.locator(".ls-form textarea").fill("<b>It only hums</b>")
    bob.get_by_role("button", name="Send").click()
    expect(bob.locator(".ls-toast").last).to_contain_text("moderators will look")

    mia = as_("mia")
    expect(mia.locator(".ls-badge")).to_have_text("2")
    mia.locator(".ls-review-open").click()
    waiting = mia.locator(".ls-review-row", has_text=TITLE)
    expect(waiting.first).to_contain_text("<b>It only hums</b>")
    waiting.first.get_by_role("button", name="Hold back").click()
    expect(mia.get_by_role("button", name="Let it back")).to_be_visible()
    gone = as_("bob")
    gone.locator(".ls-search-input").fill(TITLE)
    expect(gone.locator(".ls-count")).to_contain_text(TITLE)
    expect(gone.locator(".ls-card", has_text=TITLE)).to_have_count(0)
    mia.get_by_role("button", name="Let it back").click()
    expect(mia.get_by_text("Nothing waits for you")).to_be_visible()
    expect(mia.get_by_text("Every row is as it was written.")).to_be_visible()
    search(gone, TITLE)
    found = gone.locator(".ls-card", has_text=TITLE)
    expect(found.first).to_be_visible()
    expect(found.locator(".ls-tag-new")).to_have_count(0)
