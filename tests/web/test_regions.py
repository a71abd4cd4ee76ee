"""Regions of a picture: drawn, painted, with words of their own, and back from a link."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Page, Route

from tests.web.conftest import NewPage, open_tab
from tests.web.test_pictures import pick_both, pytestmark

__all__ = ["pytestmark"]

REGIONS = (
    "import(new URL('studio/assets/state.js', document.baseURI).href)"
    ".then((state) => state.session.basket.map((row) => row.region))"
)
OPAQUE = (
    "node => node.getContext('2d').getImageData(0, 0, node.width, node.height)"
    ".data.filter((value, place) => place % 4 === 3 && value > 200).length"
)
WORDS = "#ls-region-words"


def edit(page: Page, method: str) -> None:
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option(method)
    page.locator(".ls-region-stage").wait_for()


def paint(page: Page, *spots: tuple[float, float]) -> None:
    """Draws through spots, in shares of the picture."""
    stage = page.locator(".ls-region-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box is not None
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in spots]
    page.mouse.move(*at[0])
    page.mouse.down()
    for spot in at[1:]:
        page.mouse.move(*spot, steps=3)
    page.mouse.up()


def test_boxes_masks_and_words_come_back_with_the_link(page: Page):
    content, style = pick_both(page)
    edit(page, "regional_attention")
    page.get_by_role("radio", name=content).click()
    page.locator(WORDS).press_sequentially("a red star")
    page.locator(".ls-segment", has_text="Paint").click()
    page.get_by_role("radio", name=style).click()
    assert page.locator(WORDS).input_value() == ""
    paint(page, (0.1, 0.1), (0.2, 0.8))
    page.locator(WORDS).fill("a blue house, neon style")
    box, mask = page.evaluate(REGIONS)
    assert box == {"box": [0.25, 0.25, 0.75, 0.75], "prompt": "a red star"}
    assert set(mask) == {"mask", "prompt"}
    told = page.locator(".ls-row-region").all_inner_texts()
    assert "“a red star”" in told[0]
    assert told[1] == "Acts where it is painted, asked for “a blue house, neon style”"

    page.locator("#ls-go").click()
    recipe = page.locator(".ls-result-card").get_attribute("data-recipe")
    page.goto(f"{page.url.split('?')[0]}?recipe={recipe}")
    page.locator(".ls-region-paint").wait_for()
    assert page.locator(".ls-row-region").all_inner_texts() == told
    assert page.locator(WORDS).input_value() == "a red star"
    assert page.evaluate(REGIONS) == [box, mask]
    page.wait_for_function(f"({OPAQUE})(document.querySelector('.ls-region-paint')) > 500")


def test_empty_words_and_a_mask_rubbed_out_leave_nothing_behind(page: Page):
    _, style = pick_both(page)
    edit(page, "regional")
    page.locator(".ls-segment", has_text="Paint").click()
    page.get_by_role("radio", name=style).click()
    page.locator(WORDS).fill("a star")
    paint(page, (0.5, 0.4), (0.5, 0.6))
    assert set(page.evaluate(REGIONS)[1]) == {"mask", "prompt"}
    page.locator(WORDS).fill("  ")
    page.locator(".ls-segment", has_text="Erase").click()
    for shift in (-0.05, 0.0, 0.05):
        paint(page, (0.5 + shift, 0.2), (0.5 + shift, 0.8))
    assert page.evaluate(REGIONS) == [{}, {}]
    assert "acts everywhere" in page.locator(".ls-regions").inner_text()


def test_a_box_is_resized_by_its_corner(page: Page):
    content, _ = pick_both(page)
    edit(page, "regional")
    page.get_by_role("radio", name=content).click()
    paint(page, (0.73, 0.73), (0.93, 0.83))
    x0, y0, x1, y1 = page.evaluate(REGIONS)[0]["box"]
    assert (x0, y0) == (0.25, 0.25)
    assert (x1, y1) == pytest.approx((0.95, 0.85), abs=0.01)


def test_the_editor_is_there_for_methods_that_use_regions(url: str, new_page: NewPage):
    """The studio says which; a page that is told otherwise follows."""

    def change(route: Route) -> None:
        answer = route.fetch()
        methods = json.loads(answer.body())
        for method in methods:
            assert method["uses_regions"] == (method["name"] in ("regional", "regional_attention"))
            method["uses_regions"] = method["name"] == "composite"
        route.fulfill(response=answer, json=methods)

    page = new_page(url)
    pick_both(page)
    open_tab(page, "Compose")
    assert editors(page) == [False, True, True]
    page.route("**/studio/api/methods", change)
    page.reload()
    page.wait_for_selector(".ls-gallery[data-ready] .ls-card[data-id]")
    open_tab(page, "Compose")
    assert editors(page) == [True, False, False]


def editors(page: Page) -> list[bool]:
    shown = []
    for method in ("composite", "regional", "regional_attention"):
        page.locator("#ls-method-name").select_option(method)
        page.wait_for_timeout(100)
        shown.append(page.locator(".ls-region-stage").is_visible())
    return shown


def test_gated_fusion_is_offered_where_a_gate_has_been_fitted_only(url: str, new_page: NewPage):
    def without(route: Route) -> None:
        answer = route.fetch()
        said = json.loads(answer.body())
        some = said if isinstance(said, list) else [said]
        bare = [{**base, "gate": False} for base in some]
        route.fulfill(response=answer, json=bare if isinstance(said, list) else bare[0])

    page = new_page(url)
    option = page.locator("#ls-method-name option[value=gated_fusion]")
    pick_both(page)
    open_tab(page, "Compose")
    assert option.is_enabled()
    page.route(re.compile(r"/studio/api/bases?(\?|$)"), without)
    page.reload()
    page.wait_for_selector(".ls-gallery[data-ready] .ls-card[data-id]")
    open_tab(page, "Compose")
    page.wait_for_timeout(300)
    assert option.is_disabled()
    assert "no gate fitted" in option.inner_text()
