"""The result of a composition on the map: its units, and whose they are."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.web.conftest import open_tab, search

READY = ".ls-map[data-ready]:not([data-ready=''])"
SHOWN = ".ls-map[data-result]:not([data-result=''])"


def compose(page: Page, method: str, count: int = 2) -> list[str]:
    """Composes the first adapters; their titles."""
    search(page, "turn the sentence into past tense")
    for place in range(count):
        page.locator(".ls-pick").nth(place).click()
    titles = page.locator(".ls-basket-title").all_inner_texts()
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option(method)
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card .ls-compare-it")
    return titles


def show_result(page: Page) -> None:
    open_tab(page, "Map")
    page.wait_for_selector(READY)
    page.get_by_role("switch", name="Show the result").check()
    page.wait_for_selector(SHOWN)


def test_nothing_is_to_be_shown_before_something_is_composed(page: Page):
    page.locator(".ls-pick").first.click()
    open_tab(page, "Map")
    page.wait_for_selector(READY)
    switch = page.get_by_role("switch", name="Show the result")
    assert switch.is_disabled()
    assert not switch.is_checked()


@pytest.mark.parametrize("method", ["lego", "svd"])
def test_the_units_of_the_result_say_whose_they_are(page: Page, method: str):
    titles = compose(page, method)
    show_result(page)
    ready = page.locator(".ls-map")
    made = int(ready.get_attribute("data-result") or 0)
    assert 0 < made < int(ready.get_attribute("data-ready") or 0)
    assert page.get_by_role("radio", name="Adapter").is_checked()
    owned = page.locator(".ls-owned li")
    assert owned.count() == 2
    shares = [int(text.split()[-2]) for text in owned.all_inner_texts()]
    assert 90 <= sum(shares) <= 101  # percent
    assert min(shares) > 5

    first = page.evaluate("window.studioMap.result[0]")
    x, y = page.evaluate(f"window.studioMap.point({first})")
    page.locator(".ls-canvas").hover(position={"x": x, "y": y})
    page.wait_for_function("document.querySelector('.ls-hover').innerText.includes('owned by')")
    said = page.locator(".ls-hover").inner_text()
    assert "Result:" in said
    assert any(title in said for title in titles)
    assert "%" in said.rpartition("owned by")[2]

    page.get_by_role("button", name="Table").click()
    row = page.locator(".ls-unit-table tbody tr").first
    assert row.inner_text().startswith("Result:")
    assert "%" in row.locator("td").nth(1).inner_text()


def test_the_switch_and_the_shares_are_reached_by_keyboard(page: Page):
    compose(page, "svd")
    open_tab(page, "Map")
    page.wait_for_selector(READY)
    page.get_by_role("switch", name="Show the result").focus()
    page.keyboard.press("Space")
    page.wait_for_selector(SHOWN)
    page.get_by_role("button", name="Units of the result").click()
    canvas = page.locator(".ls-canvas")
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):  # among what is lit only
        page.keyboard.press(key)
        page.wait_for_function(
            "document.querySelector('.ls-said').textContent.includes('owned by')"
        )

    page.get_by_role("switch", name="Show the result").uncheck()
    page.wait_for_selector(".ls-map[data-result='']")
    assert page.locator(".ls-owned").count() == 0


def test_another_choice_of_adapters_takes_the_result_off_the_map(page: Page):
    compose(page, "svd")
    show_result(page)
    open_tab(page, "Gallery")
    page.locator(".ls-pick").nth(2).click()
    open_tab(page, "Map")
    page.wait_for_selector(".ls-map[data-result='']")
    assert page.get_by_role("switch", name="Show the result").is_disabled()


def test_the_result_fits_a_phone(url: str, new_page):
    page = new_page(url, width=390, height=844)
    compose(page, "svd")
    show_result(page)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    box = page.get_by_role("switch", name="Show the result").bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= 390 - box["width"]
