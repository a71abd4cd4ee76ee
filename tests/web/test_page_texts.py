"""Every text of an adapter is only ever text on the page, in a real browser."""

from __future__ import annotations

import time

import numpy as np
import pytest
from playwright.sync_api import Browser

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.gallery import Gallery
from lora_studio.settings import DEMO_BASE, Settings
from lora_studio.studio.demos import add_demo
from tests.figures import cases, record
from tests.hostile.payloads import PAYLOADS
from tests.web.conftest import NewPage, open_tab, serving

TEXTS = PAYLOADS[:: len(PAYLOADS) // cases(10, len(PAYLOADS))]
FIRED = "window.__hit || 0"
LINES = ("title", "description", "licence", "contributor", "trained", "source_format")
LISTS = ("tags", "trigger_words", "samples")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    data = tmp_path_factory.mktemp("texts") / "data"
    fill(Settings(data_dir=data))
    with serving(data) as url:
        yield url


def fill(settings: Settings) -> None:
    """A gallery whose newest adapters say one payload each, in every field."""
    gallery, rng = Gallery.open(settings), np.random.default_rng(17)
    add_demo(settings, gallery)
    for text in TEXTS:
        says = dict.fromkeys(LINES, text) | dict.fromkeys(LISTS, (text,))
        card = AdapterCard.from_dict({**says, "base_model": DEMO_BASE})
        a, b = (rng.normal(size=s).astype(np.float32) for s in ((2, 64), (64, 2)))
        factors = {"model.layers.0.self_attn.q_proj": LoraFactors(a, b)}
        gallery.add(Adapter(factors, card))
    gallery.close()


def test_texts_of_adapters_never_run_and_fetch_nothing(address: str, new_page: NewPage, browser):
    started, page = time.time(), new_page(address)
    page.wait_for_selector(".ls-grid[aria-busy=false] .ls-card[data-id]")
    ids = page.locator(".ls-card[data-id]").evaluate_all("c => c.map(x => x.dataset.id)")
    for adapter_id in ids[: len(TEXTS)]:
        card = page.locator(f".ls-card[data-id='{adapter_id}']")
        shown = card.inner_text()
        assert any(text.split()[0][:6] in shown for text in TEXTS), shown
        card.click()
        page.wait_for_selector(".ls-dialog")
        page.keyboard.press("Escape")
        card.focus()
        page.keyboard.press("Space")
    for tab in ("Map", "Compose", "Compare", "Gallery"):
        open_tab(page, tab)
        page.wait_for_timeout(400)
    fired, fires = page.evaluate(FIRED), as_html(browser)
    record(
        "T17 texts in the page", count=len(TEXTS) * (len(LINES) + len(LISTS)), failures=fired,
        seconds=time.time() - started,
        control=f"put in as HTML, {fires} of {len(PAYLOADS)} run a script",
    )  # fmt: skip
    assert fired == 0
    assert page.locator("img[src='x']").count() == 0
    assert fires > 20, "the payloads are harmless, so that they show nothing"


def as_html(browser: Browser) -> int:
    """How many payloads run where a page takes them for HTML."""
    context, count = browser.new_context(), 0
    page = context.new_page()
    page.route("http://tracker.example/**", lambda route: route.abort())
    for text in PAYLOADS:
        page.set_content(f"<title>x</title><p>{text}</p>", wait_until="domcontentloaded")
        page.wait_for_timeout(60)
        try:
            count += bool(page.evaluate(FIRED))
        except Exception:  # noqa: BLE001 - the payload led the page away
            count += 1
    context.close()
    return count
