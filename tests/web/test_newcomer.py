"""The newcomer's path, through the real app: search, add, dry run, LEGO, compare, download, use."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch
from peft import PeftModel
from playwright.sync_api import Page
from transformers import AutoModelForCausalLM, AutoTokenizer

from lora_studio.settings import Settings
from tests.web.conftest import open_tab, search

PROMPT = "Turn the sentence into past tense: The girl opens the door."
TOKENS = 64


def answer_with_peft(folder: Path, prompt: str) -> str:
    """What the downloaded adapter says in plain transformers and PEFT, greedily."""
    base = Settings().demo_base_dir
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder).eval()
    turns = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    fresh = out[0, inputs["input_ids"].shape[1] :]
    return tokenizer.decode(fresh, skip_special_tokens=True).strip()


def test_from_a_search_to_a_downloaded_adapter_that_says_the_same(page: Page, tmp_path: Path):
    search(page, "turn the sentence into past tense")
    first = page.locator(".ls-card").first
    assert "past" in first.inner_text().lower()
    assert first.locator(".ls-card-reason").is_visible()
    for place in range(3):
        page.locator(".ls-pick").nth(place).click()
    assert page.locator(".ls-basket-count").inner_text() == "3 picked"

    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option("lego")
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-plan-body .ls-cosine")
    assert page.locator(".ls-cosine").count() == 3
    assert page.locator(".ls-figures dd").first.inner_text() not in ("", "–")

    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card .ls-compare-it")
    with page.expect_download() as download:
        page.get_by_role("link", name="PEFT zip").click()
    archive = tmp_path / "adapter.zip"
    download.value.save_as(archive)

    page.locator(".ls-compare-it").click()
    page.locator("#ls-prompts textarea").fill(PROMPT)
    page.locator("#ls-run").click()
    page.wait_for_selector(".ls-compare[data-state=done]")
    cells = page.locator(".ls-cell")
    assert cells.count() == 3  # base, best single, composition
    assert "Base model" in cells.nth(0).inner_text()
    shown = page.locator(".ls-cell[data-column='2'] .ls-cell-text").inner_text()
    assert shown.strip()

    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    (config,) = tmp_path.rglob("adapter_config.json")
    assert (config.parent / "recipe.yaml").is_file()
    assert answer_with_peft(config.parent, PROMPT) == shown.strip()


def test_a_link_reopens_a_composition(page: Page, url: str, new_page):
    for place in range(2):
        page.locator(".ls-pick").nth(place).click()
    titles = page.locator(".ls-basket-title").all_inner_texts()
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option("svd")
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card")
    link = page.get_by_label("Link to this composition").input_value()
    assert link.startswith(f"{url}/?recipe=")

    other = new_page(link)
    other.wait_for_selector(".ls-row")
    assert other.locator(".ls-row-title").all_inner_texts() == titles
    assert other.locator("#ls-method-name").input_value() == "svd"
    assert other.locator(".ls-result-card").is_visible()


def test_a_described_task_fills_the_basket_with_reasons(page: Page):
    search(page, "past")  # by now the embedder is there
    open_tab(page, "Compose")
    page.locator("#ls-task").get_by_role("textbox").fill("say what happened yesterday")
    page.locator("#ls-find").click()
    page.wait_for_selector(".ls-row-reason")
    assert page.locator(".ls-row").count() == 3
    assert page.locator(".ls-row-reason q").first.inner_text().strip()


def test_test_prompts_give_rates_with_intervals(page: Page):
    search(page, "capital of a country")  # no other test composes it
    page.locator(".ls-pick").first.click()
    open_tab(page, "Compare")
    page.get_by_role("button", name="Use the basket").click()
    page.locator("#ls-test").click()
    page.wait_for_selector(".ls-scores[data-ready]")
    rows = page.locator(".ls-scores tbody tr:not(.ls-table-group)")
    assert rows.count() == 2
    assert page.locator(".ls-interval-range").count() == 2
    assert "%" in rows.nth(1).inner_text()


def test_words_the_demo_never_met_raise_a_hint(page: Page):
    open_tab(page, "Compare")
    page.locator("#ls-prompts textarea").fill("Explain quantum chromodynamics, please.")
    page.wait_for_selector(".ls-unknown")
    assert "chromodynamics" in page.locator(".ls-unknown").inner_text()
    page.locator("#ls-hint .ls-btn-chip").first.click()
    page.wait_for_selector(".ls-unknown", state="detached")


def test_the_map_draws_selects_and_has_a_table(page: Page):
    for place in range(2):
        page.locator(".ls-pick").nth(place).click()
    open_tab(page, "Map")
    page.wait_for_selector(".ls-map[data-ready]:not([data-ready=''])")
    assert int(page.locator(".ls-map").get_attribute("data-ready") or 0) > 0
    x, y = page.evaluate("window.studioMap.point(0)")
    page.locator(".ls-canvas").click(position={"x": x, "y": y})
    page.wait_for_function("document.querySelector('.ls-said').textContent.includes('Cluster')")
    page.locator(".ls-canvas").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.ls-said').textContent.includes('unit ')")
    page.get_by_role("button", name="Table").click()
    assert page.locator(".ls-unit-table tbody tr").count() > 0
