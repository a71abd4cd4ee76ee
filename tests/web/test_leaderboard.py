"""The leaderboard: figures to look behind, to open in Compose, and to measure again."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.web.conftest import NewPage, open_tab

READY = ".ls-leaderboard[data-ready='text']"
MADE = ".ls-board-table tbody:last-of-type tr[data-line]"


def opened(page: Page) -> None:
    open_tab(page, "Leaderboard")
    page.wait_for_selector(READY)


def figures(page: Page, column: int) -> list[int]:
    cells = page.locator(f"{MADE} > :nth-child({column})").all_inner_texts()
    return [int(text.strip("‡% \xa0")) for text in cells if "%" in text]


def test_methods_stand_best_first_by_whatever_column_is_asked_for(page: Page):
    opened(page)
    means = figures(page, 2)
    assert len(means) > 30
    assert means == sorted(means, reverse=True)
    page.get_by_role("button", name="Sort by Plain, 3").click()
    chosen = page.locator(".ls-board-head[aria-sort=descending]")
    place = page.locator(".ls-board-table thead th").all_inner_texts().index(chosen.inner_text())
    found = figures(page, place + 1)
    assert found == sorted(found, reverse=True)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Sort by Plain, 3"
    controls = page.locator(".ls-board-table tbody").first.inner_text()
    for name in ("Base model", "Own adapter", "Random other adapter"):
        assert name in controls


def test_rank_tests_and_pictures_are_chosen_by_keyboard_too(page: Page):
    opened(page)
    before = page.locator(MADE).all_inner_texts()
    page.get_by_role("radio", name="Rank of the largest source").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([css, old]) => [...document.querySelectorAll(css)]"
        ".some((row, i) => row.innerText !== old[i])",
        arg=[MADE, before],
    )
    assert page.evaluate("document.activeElement.value") == "2r"
    page.get_by_role("radio", name="Pictures").check(force=True)
    page.wait_for_selector(".ls-leaderboard[data-ready='image']")
    assert "Star beside fish" in page.locator(".ls-board-table thead").inner_text()
    assert "image_composition.py" in page.locator(".ls-leaderboard").inner_text()


def test_a_figure_is_measured_again_beside_the_shipped_one(page: Page):
    opened(page)
    cell = page.get_by_role("button", name="Concatenate, Good neighbours, 3:")
    shown = cell.inner_text().strip("‡ ")
    cell.click()
    dialog = page.locator(".ls-dialog")
    assert "95 % interval" in dialog.inner_text()
    assert "Past tense (good neighbour)" in dialog.inner_text()
    dialog.get_by_role("button", name="Measure it here").click()
    page.wait_for_selector("[data-measured='good-neighbour-3 Concatenate']")
    rows = page.locator("[data-measured] tr").all_inner_texts()
    assert "Here" in rows[1]
    assert shown in rows[2]


def test_a_composition_opens_in_compose_and_what_was_picked_can_be_had_back(page: Page):
    page.locator(".ls-card:has(img) .ls-pick").first.click()  # a picture's adapter
    before = page.locator("#ls-basket .ls-basket-title").all_inner_texts()
    open_tab(page, "Leaderboard")
    page.wait_for_selector(".ls-leaderboard[data-ready='image']")
    page.get_by_role("radio", name="Text").check(force=True)
    page.wait_for_selector(READY)
    page.get_by_role("button", name="LoRA-LEGO, Plain, 3:").click()
    page.locator(".ls-dialog").get_by_role("button", name="Open in Compose").click()
    page.wait_for_selector("#ls-method-name:visible")
    assert page.locator("#ls-method-name").input_value() == "lego"
    titles = page.locator("#ls-basket .ls-basket-title")
    assert titles.count() == 3
    page.locator("#ls-toasts").get_by_role("button", name="Undo").click()
    page.wait_for_function("document.querySelectorAll('#ls-basket .ls-basket-title').length === 1")
    assert titles.all_inner_texts() == before


def test_a_phone_shows_it_without_sideways_scroll(url: str, new_page: NewPage):
    page = new_page(url, width=390)
    opened(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(f"{MADE} .ls-board-button").first.click()
    assert page.locator(".ls-dialog .ls-interval").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".ls-dialog").count() == 0
