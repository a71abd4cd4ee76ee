"""Recipes on the page: files that were handed out open again, and what was composed is a tree."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.web.conftest import NewPage, open_tab
from tests.web.test_verdict import PICK, SESSION

TWO = ["Past tense", "English to French"]
HERE = "#ls-history [role=treeitem][aria-selected=true]"


def picked(page: Page, method: str = "lego") -> None:
    page.evaluate(PICK, TWO)
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option(method)


def composed(page: Page, count: int) -> None:
    """Composes, and waits until so many stand in the history."""
    page.locator("#ls-go").click()
    page.locator("#ls-history [role=treeitem]").nth(count - 1).wait_for()
    page.wait_for_selector("#ls-result .ls-result-card")


def weigh(page: Page, title: str, weight: str) -> None:
    page.get_by_label(f"Weight of {title}, exact").fill(weight)


def downloaded(page: Page, link: str, folder: Path) -> Path:
    with page.expect_download() as found:
        page.locator("#ls-result").get_by_role("link", name=link).click()
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


@pytest.mark.parametrize("link", ["PEFT zip", "recipe.yaml"])
def test_a_download_opens_as_the_composition_it_was_and_undo_brings_back(
    page: Page, tmp_path: Path, link: str
):
    picked(page)
    weigh(page, TWO[0], "0.6")
    composed(page, 1)
    path = downloaded(page, link, tmp_path)
    page.locator("#ls-method-name").select_option("svd")
    weigh(page, TWO[0], "1.1")
    page.locator("#ls-rows").get_by_role("button", name="Remove").first.click()
    before = page.evaluate(SESSION)
    page.locator(".ls-opener-file").set_input_files(path)
    page.locator("#ls-toasts", has_text="is open").wait_for()
    found = page.evaluate(SESSION)
    assert {row["title"]: row["weight"] for row in found["basket"]} == {TWO[0]: 0.6, TWO[1]: 1}
    assert found["draft"]["method"] == page.locator("#ls-method-name").input_value() == "lego"
    page.locator("#ls-toasts").get_by_role("button", name="Undo").last.click()
    page.wait_for_function("document.querySelector('#ls-method-name').value === 'svd'")
    again = page.evaluate(SESSION)
    assert [row["id"] for row in again["basket"]] == [row["id"] for row in before["basket"]]


def test_a_file_without_a_recipe_is_refused_in_words_and_changes_nothing(
    page: Page, tmp_path: Path, console_errors: list[str]
):
    picked(page)
    stranger = tmp_path / "notes.yaml"
    stranger.write_text("- just\n- a list\n", encoding="utf-8")
    page.locator(".ls-opener-file").set_input_files(stranger)
    said = page.locator(".ls-opener-said .is-error")
    said.wait_for()
    assert "recipe" in said.inner_text()
    assert [row["title"] for row in page.evaluate(SESSION)["basket"]] == TWO
    assert "400" in console_errors.pop()


def test_history_is_a_tree_that_the_keyboard_walks_and_a_reload_keeps(url: str, new_page: NewPage):
    page = new_page(url)
    picked(page)
    weigh(page, TWO[0], "0.7")
    composed(page, 1)
    page.locator("#ls-method-name").select_option("svd")
    composed(page, 2)
    history = page.locator("#ls-history")
    history.get_by_text("LoRA-LEGO → SVD of the sum").wait_for()
    page.locator("#ls-history [role=treeitem]").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#ls-method-name').value === 'lego'")
    weigh(page, TWO[1], "0.4")
    composed(page, 3)
    history.get_by_text("English to French 1 → 0.4").wait_for()
    parents = {made["parent"] for made in page.evaluate(SESSION)["made"] if made["parent"]}
    assert len(parents) == 1  # both were made of the first
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(".ls-gallery[data-ready]", state="attached")
    open_tab(page, "Compose")
    page.locator("#ls-history [role=treeitem]").nth(2).wait_for()
    page.get_by_role("button", name="Forget all").click()
    page.locator("#ls-toasts").get_by_role("button", name="Undo").last.click()
    page.locator("#ls-history [role=treeitem]").nth(2).wait_for()


def test_weights_by_layer_and_module_are_asked_of_the_studio_and_wrong_ones_told(page: Page):
    picked(page, "svd")
    row = page.locator("#ls-rows details", has_text="Weights by layer and module").first
    row.locator("summary").click()
    row.get_by_role("button", name="Add").first.click()
    names, values = row.locator("input.ls-text").nth(0), row.locator("input.ls-text").nth(1)
    names.fill("*mlp*")
    values.fill("1, 0.5, 0")
    page.wait_for_function(
        f"{SESSION}.then((s) => s.basket[0].module_weights['*mlp*']?.length === 3)"
    )
    values.fill("much")
    row.get_by_text("expected a number").wait_for()
    names.fill("*nothing*")
    values.fill("1")
    row.get_by_text("no module").wait_for()


def test_a_phone_shows_history_and_opener_without_sideways_scroll(url: str, new_page: NewPage):
    page = new_page(url, width=390)
    picked(page)
    composed(page, 1)
    assert page.locator(".ls-opener-zone").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
