"""Which adapter spoke at each token of an answer."""

from __future__ import annotations

import csv
from pathlib import Path

from playwright.sync_api import Page

from tests.web.conftest import NewPage, open_tab, search

PROMPT = "Turn the sentence into past tense: The girl opens the door."


def compared(page: Page, method: str) -> None:
    """Two adapters composed by a method, and one prompt answered."""
    search(page, "turn the sentence into past tense")
    for place in range(2):
        page.locator(".ls-pick").nth(place).click()
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option(method)
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card .ls-compare-it")
    runs = method in ("selection", "mixture")  # a file can carry out what the embeddings decide
    page.get_by_role("link", name="Runnable zip" if runs else "Sources zip").wait_for()
    page.locator(".ls-compare-it").click()
    page.locator("#ls-prompts textarea").fill(PROMPT)
    page.locator("#ls-run").click()
    page.wait_for_selector(".ls-compare[data-state=done] .ls-explain")


def test_a_token_says_who_spoke_and_why(page: Page):
    compared(page, "self_activated")
    buttons = page.get_by_role("button", name="Who spoke in the answer of Self-activated")
    buttons.last.click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    tokens = dialog.locator(".ls-heat-token")
    assert tokens.count() > 8
    assert dialog.locator(".ls-heat-key li").count() == 2
    chosen = dialog.locator(".ls-heat-token[aria-pressed=true]")
    first = chosen.inner_text()
    chosen.focus()
    page.keyboard.press("ArrowDown")
    assert chosen.count() == 1
    assert dialog.locator(".ls-heat-said").inner_text()
    assert chosen.inner_text() != first or tokens.count() > 1
    assert "unit" in dialog.locator(".ls-heat-why tbody tr").first.inner_text()
    assert "%" in dialog.locator(".ls-heat-why tbody tr").first.inner_text()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0


def test_many_prompts_tell_who_answered_each_and_are_saved_as_a_table(page: Page):
    compared(page, "selection")
    box = page.locator("#ls-prompts textarea")
    box.fill(f"{PROMPT}\nWrite the words backwards: apple table lemon")
    page.locator("#ls-run").click()
    page.wait_for_selector(".ls-compare[data-state=done] .ls-prompt:nth-of-type(2) .ls-cell-by")
    said = page.locator(".ls-cell-by").all_inner_texts()
    assert len(said) == 2
    assert all(text.startswith("By ") and "likeness" in text for text in said)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = page.locator(".ls-prompt").first.locator(".ls-cell").count()
    assert len(rows) == 2 * columns
    assert rows[0]["prompt"] == PROMPT
    assert rows[0]["column"] == "Base model"
    routed = [row for row in rows if row["adapters"]]
    assert len(routed) == 2
    assert routed[0]["weights"] == "1"


def test_who_spoke_fits_a_phone(url: str, new_page: NewPage):
    page = new_page(url, 390, 844)
    compared(page, "mixture")
    page.locator(".ls-explain").last.click()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".ls-heat-token").first.is_visible()
