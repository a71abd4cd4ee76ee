"""What the page owes to everyone: keyboard, phones, themes, hostile names, states."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.formats import load_adapter, save_adapter
from lora_studio.settings import DEMO_BASE, Settings
from tests.web.conftest import NewPage, open_tab, search

FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
TABS = ("Gallery", "Map", "Compose", "Compare", "Leaderboard")
HOSTILE = "<img src=x onerror=window.__hit=1>${Object.assign(window,{__hit:1})}{{constructor}}"


def a_demo_adapter() -> Adapter:
    folder = sorted(Settings().demo_adapters_dir.glob("*/adapter_config.json"))[0].parent
    return load_adapter(folder)


def upload(page: Page, *files: Path) -> None:
    if not page.locator("#ls-upload-go").is_visible():
        page.get_by_role("button", name="Add adapter").click()
    page.locator("#ls-upload-files input[type=file]").set_input_files(list(files))
    page.locator("#ls-upload-files tr.file").nth(len(files) - 1).wait_for()
    page.locator("#ls-upload-go").click()


def test_hostile_names_are_only_ever_text(page: Page, tmp_path: Path):
    demo = a_demo_adapter()
    rng = np.random.default_rng(3)

    def other(module: LoraFactors) -> LoraFactors:
        return replace(module, A=rng.normal(0, 0.02, module.A.shape).astype(np.float32))

    card = AdapterCard(
        title=HOSTILE,
        description=HOSTILE,
        tags=(HOSTILE,),
        contributor=HOSTILE,
        licence=HOSTILE,
        samples=(HOSTILE,),
        base_model=DEMO_BASE,
    )
    factors = {name: other(module) for name, module in demo.factors.items()}
    folder = save_adapter(Adapter(factors, card), tmp_path / "evil")
    upload(page, *(folder / name for name in FILES))
    page.wait_for_selector("#ls-upload-report .ls-result-card")
    assert HOSTILE in page.locator("#ls-upload-report").inner_text()
    page.locator("#ls-upload-report").get_by_role("button", name="Look at it").click()
    page.wait_for_selector(".ls-dialog")
    card = page.locator(".ls-dialog .ls-section", has_text="Report card")
    assert "Directions used" in card.inner_text()
    assert "a language model" in card.inner_text()
    page.keyboard.press("Escape")
    page.locator("#ls-upload-report").get_by_role("button", name="Add to basket").click()
    for tab in ("Map", "Compose", "Compare"):
        open_tab(page, tab)
        page.wait_for_timeout(500)
    assert page.evaluate("window.__hit") is None
    assert page.locator("img[src='x']").count() == 0


def test_a_broken_upload_is_refused_with_a_reason_and_no_traceback(page: Page, tmp_path: Path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 not really a zip")
    upload(page, broken)
    page.wait_for_selector("#ls-upload-job .is-error")
    text = page.locator("#ls-upload-job").inner_text()
    assert len(text) > 20
    assert "Traceback" not in page.content()
    assert page.locator("#ls-toasts .ls-toast-error").is_visible()


def test_delete_can_be_undone(page: Page):
    before = page.locator(".ls-count").inner_text()
    page.locator(".ls-card").last.click()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_function(
        "text => document.querySelector('.ls-count').textContent !== text", arg=before
    )
    page.get_by_role("button", name="Undo").click()
    page.wait_for_function(
        "text => document.querySelector('.ls-count').textContent === text", arg=before
    )


def test_the_keyboard_reaches_search_tabs_help_and_cards(page: Page):
    for number, name in enumerate(TABS[1:], start=2):
        page.keyboard.press(str(number))
        page.get_by_role("tab", name=name, exact=True, selected=True).first.wait_for()
    page.keyboard.press("/")
    page.wait_for_function("document.activeElement.classList.contains('ls-search-input')")
    page.keyboard.type("2?")
    assert page.locator(".ls-search-input").input_value() == "2?"
    assert page.get_by_role("dialog").count() == 0
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    page.wait_for_function("!document.querySelector('.ls-count').textContent.includes('“')")
    page.wait_for_selector(".ls-grid[aria-busy=false] .ls-card[data-id]")
    page.locator(".ls-card").first.focus()
    page.keyboard.press("Space")
    page.wait_for_function("document.querySelector('.ls-basket-count')?.innerText === '1 picked'")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.classList.contains('ls-card')")


def test_control_enter_runs_and_escape_stops(page: Page):
    page.locator(".ls-pick").first.click()
    open_tab(page, "Compose")
    page.wait_for_selector("#ls-method-name")
    page.locator("#ls-method-name").select_option("preset")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#ls-compose-job .ls-job-stop")
    page.keyboard.press("Escape")
    page.wait_for_selector("#ls-compose-job [data-state=stopped]")
    status = page.request.get(page.url.split("?")[0] + "studio/api/status").json()
    assert status["queue"] == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(url: str, new_page: NewPage, theme: str):
    page = new_page(f"{url}/?theme={theme}", 390, 844)
    dark = "document.body.classList.contains('dark')"
    page.wait_for_function(f"{dark} === {'true' if theme == 'dark' else 'false'}")
    for place in range(3):
        page.locator(".ls-pick").nth(place).click()
    page.locator(".ls-card").first.click()
    panel = page.get_by_role("dialog").bounding_box()
    assert panel is not None
    assert round(panel["width"]) == 390
    page.keyboard.press("Escape")
    for tab in TABS:
        open_tab(page, tab)
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, tab


def test_the_basket_survives_a_reload(page: Page):
    page.locator(".ls-pick").nth(1).click()
    title = page.locator(".ls-basket-title").inner_text()
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(".ls-basket-title")
    assert page.locator(".ls-basket-title").inner_text() == title


def test_empty_states_say_what_to_do(page: Page):
    open_tab(page, "Map")
    page.get_by_text("Pick adapters to see what they are made of").wait_for()
    open_tab(page, "Compose")
    page.get_by_text("Pick adapters in the gallery, or describe a task").first.wait_for()
    page.locator("#ls-go").click()
    page.wait_for_selector("#ls-compose-job .is-error")
    open_tab(page, "Compare")
    page.get_by_text("Nothing compared yet").wait_for()


def test_facets_narrow_and_the_search_says_how_it_found(page: Page):
    search(page, "past tense")
    total = page.locator(".ls-count").inner_text()
    page.locator(".ls-facet").first.click()
    page.wait_for_function(
        "text => document.querySelector('.ls-count').textContent !== text", arg=total
    )
