"""Image adapters through the real app: found, composed, compared, judged, taken away."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page

from lora_studio.formats import load_adapter
from lora_studio.settings import DEMO_IMAGE_BASE, Settings
from tests.web.conftest import NewPage, open_tab, search

pytestmark = pytest.mark.skipif(
    not any(Settings().demo_image_adapters_dir.glob("*/*.safetensors")),
    reason="the image demo is not built; run `make demo`",
)

STEPS = "4"
DONE = ".ls-compare[data-state=done]"


def pick(page: Page, kind: str, place: int = 0) -> str:
    """Picks an image adapter tagged content or style that every merge can take; its title."""
    query = {"modality": "image", "tags": kind, "sort": "title"}
    address = page.url.split("?")[0] + "studio/api/search"
    hits = httpx.get(address, params=query).json()["hits"]
    plain = [h for h in hits if h["kind"] == "demo" and not any("DoRA" in w for w in h["warnings"])]
    card = page.locator(f".ls-card[data-id='{plain[place]['id']}']")
    card.locator(".ls-pick").click()
    return plain[place]["title"]


def pick_both(page: Page) -> tuple[str, str]:
    """One adapter of content and one of style, as the two first rows of the basket."""
    page.get_by_label("Images", exact=False).first.check()
    page.wait_for_function("document.querySelectorAll('.ls-card[data-id]').length < 30")
    titles = pick(page, "content"), pick(page, "style")
    page.wait_for_function("document.querySelector('.ls-basket-count')?.innerText === '2 picked'")
    page.wait_for_function("document.body.classList.contains('ls-images')")
    return titles


def placed_in_the_search(url: str) -> None:
    """Waits until the embedder has placed every image adapter."""
    address, query = f"{url}studio/api/search", {"modality": "image", "limit": 100}
    for _ in range(120):
        hits = httpx.get(address, params=query).json()["hits"]
        if all(hit["described_by"] for hit in hits):
            return
        time.sleep(0.5)
    pytest.fail("some image adapters never found their place in the search")


def test_the_modality_that_was_chosen_looks_chosen(page: Page):
    box = page.get_by_label("Images", exact=False).first
    before = box.evaluate("node => getComputedStyle(node).backgroundColor")
    box.check()
    page.wait_for_function("document.querySelectorAll('.ls-card[data-id]').length < 30")
    box = page.get_by_label("Images", exact=False).first
    assert box.is_checked()
    assert box.evaluate("node => getComputedStyle(node).backgroundColor") != before


def test_fields_left_to_the_model_are_empty(page: Page):
    pick_both(page)
    open_tab(page, "Compare")
    steps = page.locator("#ls-steps input")
    assert (steps.input_value(), steps.get_attribute("placeholder")) == ("", "auto")


def run(page: Page, prompt: str, *columns: str) -> None:
    page.locator("#ls-image-prompts textarea").fill(prompt)
    page.locator("#ls-steps input").fill(STEPS)
    for label in columns:
        page.locator("#ls-columns select").select_option(label=label)
    page.locator("#ls-run").click()
    page.wait_for_selector(".ls-compare[data-state=running]")
    page.wait_for_selector(DONE, timeout=180_000)


def test_from_a_search_to_pictures_side_by_side_and_a_file_for_other_programs(
    page: Page, tmp_path: Path
):
    placed_in_the_search(page.url)
    search(page, "a shape with a neon outline")
    first = page.locator(".ls-card").first
    assert "neon" in first.inner_text().lower()
    assert first.locator("img.ls-face").evaluate("node => node.complete && node.naturalWidth > 0")
    page.locator(".ls-search-input").fill("")
    content, style = pick_both(page)

    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option("lego")
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-plan-body .ls-cosine")
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card .ls-compare-it")
    with page.expect_download() as download:
        page.locator(".ls-save-kohya").click()
    file = tmp_path / "kohya.safetensors"
    download.value.save_as(file)
    page.get_by_text("read back and verified").wait_for()
    assert load_adapter(file).modality == "image"

    page.locator(".ls-compare-it").click()
    assert page.locator("#ls-prompts").is_hidden()
    run(page, "a red ball", style, "LoRA Composite", "LoRA Switch", "Cached composite")
    cells = page.locator(".ls-shot-cell.is-done")
    assert cells.count() == 7  # base, each alone, merge, three schedules
    assert "Base model" in cells.nth(0).inner_text()
    sources = page.locator(".ls-shot img").evaluate_all("nodes => nodes.map((node) => node.src)")
    pictures = [httpx.get(source) for source in sources]
    assert all("immutable" in answer.headers["cache-control"] for answer in pictures)
    assert len({answer.content for answer in pictures}) >= 5
    assert content in page.locator("#ls-columns").inner_text()


def test_two_pictures_of_a_row_meet_under_a_divider(page: Page):
    _, style = pick_both(page)
    open_tab(page, "Compare")
    run(page, "a red ball", style)
    page.locator(".ls-shot").nth(1).click()
    page.wait_for_selector(".ls-slide")
    described = page.locator(".ls-slide img").evaluate_all("nodes => nodes.map((n) => n.alt)")
    assert described == ["a red ball, Base model", f"a red ball, {style}"]
    top = page.locator(".ls-slide-top")
    before = top.evaluate("node => node.style.clipPath")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "was => document.querySelector('.ls-slide-top').style.clipPath !== was", arg=before
    )
    page.get_by_text("Show pixels").click()
    rendering = page.locator(".ls-slide img").first.evaluate(
        "node => getComputedStyle(node).imageRendering"
    )
    assert rendering == "pixelated"
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.classList.contains('ls-shot')")


def test_a_blind_vote_hides_titles_and_is_still_there_after_a_reload(page: Page):
    _, style = pick_both(page)
    open_tab(page, "Compare")
    run(page, "a red ball\na blue ball", style)
    page.locator(".ls-vote-open").click()
    page.wait_for_selector(".ls-candidate")
    assert style not in page.locator(".ls-compare").inner_text()
    page.keyboard.press("1")
    page.get_by_text("2 of 2").wait_for()
    page.keyboard.press("u")
    page.get_by_text("1 of 2").wait_for()
    page.keyboard.press("2")
    page.keyboard.press("t")
    page.wait_for_selector(".ls-verdict")
    assert style in page.locator(".ls-compare").inner_text()
    assert page.locator(".ls-shot-badge:visible").count() == 3  # one choice, one tie of two
    rates = page.locator(".ls-ballots-panel tbody tr:not(.ls-table-group)").all_inner_texts()
    assert len(rates) >= 2
    page.wait_for_timeout(500)
    page.reload()
    page.wait_for_selector(".ls-gallery[data-ready] .ls-card[data-id]")
    open_tab(page, "Compare")
    page.wait_for_selector(".ls-ballots-panel")
    shown = page.locator(".ls-ballots-panel tbody tr:not(.ls-table-group)").all_inner_texts()
    assert shown[: len(rates)] == rates


def test_a_grid_says_exact_values_in_every_cell(page: Page):
    content, _ = pick_both(page)
    open_tab(page, "Compare")
    page.locator("#ls-image-prompts textarea").fill("a red ball")
    page.locator("#ls-steps input").fill(STEPS)
    page.locator(".ls-axes-form summary").click()
    page.get_by_label("Values of the X axis").fill("0-1 (+1)")
    page.get_by_label("Y axis", exact=True).select_option("seed")
    page.get_by_label("Values of the Y axis").fill("5, 6")
    page.locator(".ls-grid-go").click()
    page.wait_for_selector(".ls-compare[data-state=running]")
    page.wait_for_selector(DONE, timeout=180_000)
    captions = page.locator(".ls-shot-caption").all_inner_texts()
    assert captions == [f"{content} {w} · seed {s}" for s in (5, 6) for w in (0, 1)]
    assert page.locator(".ls-shot-cell.is-done").count() == 4


def test_regions_are_drawn_moved_by_keys_and_cleared(page: Page):
    content, style = pick_both(page)
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option("regional")
    page.get_by_role("radio", name=content).click()
    box = page.locator(".ls-region")
    before = box.evaluate("node => [node.style.left, node.style.width]")
    box.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowRight")
    after = page.locator(".ls-region").evaluate("node => [node.style.left, node.style.width]")
    assert before == ["25%", "50%"]
    assert after == ["23%", "52%"]
    page.get_by_role("radio", name=style).click()
    stage = page.locator(".ls-region-stage").bounding_box()
    assert stage is not None
    page.mouse.move(stage["x"] + 5, stage["y"] + 5)
    page.mouse.down()
    page.mouse.move(stage["x"] + 60, stage["y"] + 200, steps=4)
    page.mouse.up()
    assert page.locator(".ls-region").count() == 2
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-plan-body")
    page.locator(".ls-region-clear").click()
    assert page.locator(".ls-region").count() == 0


def test_each_base_model_keeps_what_was_picked_for_it(page: Page):
    card = page.locator(".ls-card", has_text="Capital of a country").first
    card.locator(".ls-pick").click()
    text = page.locator(".ls-basket-title").inner_text()
    content, style = pick_both(page)
    assert page.locator(".ls-basket-title").all_inner_texts() == [content, style]
    assert "images" in page.locator("#ls-base input").input_value()
    page.locator("#ls-base input").click()
    page.get_by_role("option", name="· text").first.click()
    page.wait_for_function(
        "text => document.querySelector('.ls-basket-title')?.innerText === text", arg=text
    )
    open_tab(page, "Compare")
    assert page.locator("#ls-prompts").is_visible()
    assert page.locator("#ls-image-prompts").is_hidden()


def test_what_was_made_for_another_base_model_is_out_of_sight(page: Page):
    pick_both(page)
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option("cat")
    page.locator("#ls-draft-title").fill("Both at once")
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-plan-body .ls-cosine")
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card")
    page.locator("#ls-base input").click()
    page.get_by_role("option", name="· text").first.click()
    page.wait_for_function("!document.body.classList.contains('ls-images')")
    page.locator(".ls-result-card").wait_for(state="hidden")
    assert "No dry run yet" in page.locator("#ls-plan").inner_text()
    assert page.locator("#ls-draft-title").input_value() == ""
    page.locator("#ls-base input").click()
    page.get_by_role("option", name="· images").first.click()
    page.locator(".ls-result-card").wait_for()
    assert page.locator(".ls-plan-body .ls-cosine").count() == 2


def fit_pictures(page: Page, method: str) -> None:
    """Composes both with a method that is fitted to their pictures, up to its first module."""
    pick_both(page)
    open_tab(page, "Compose")
    page.locator("#ls-method-name").select_option(method)
    page.locator("#ls-go").click()
    page.locator("#ls-compose-job", has_text="fitting modules: ").wait_for(timeout=180_000)


def test_a_merge_fitted_to_pictures_can_be_stopped(page: Page):
    fit_pictures(page, "refit")
    page.locator("#ls-compose-job .ls-job-stop").click()
    page.wait_for_selector("#ls-compose-job [data-state=stopped]")


def test_a_merge_fitted_to_pictures_is_made(page: Page):
    fit_pictures(page, "regmean")
    page.wait_for_selector(".ls-result-card .ls-compare-it")


def test_a_schedule_is_offered_as_what_it_is(page: Page):
    pick_both(page)
    open_tab(page, "Compose")
    other = page.locator("#ls-method-name option", has_text="only for sdxl")
    other.wait_for(state="attached")
    assert other.is_disabled()
    assert "Selection" not in page.locator("#ls-method-name option").all_text_contents()
    page.locator("#ls-method-name").select_option("switch")
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-curves .ls-curve")
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card")
    assert "runs at generation time" in page.locator(".ls-result-card").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Sources zip").click()
    assert Path(download.value.path()).stat().st_size > 1000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways_with_pictures(url: str, new_page: NewPage, theme: str):
    page = new_page(f"{url}/?theme={theme}", 390, 844)
    page.locator(".ls-side summary").click()
    pick_both(page)
    page.locator(".ls-card").first.click()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.keyboard.press("Escape")
    for tab in ("Compose", "Compare"):
        open_tab(page, tab)
        page.wait_for_timeout(400)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, tab


def test_a_thumbnail_is_a_small_png_that_may_be_kept_for_ever(url: str):
    query = {"base": DEMO_IMAGE_BASE, "limit": 100}
    hits = httpx.get(f"{url}/studio/api/search", params=query).json()["hits"]
    hit = next(hit for hit in hits if hit["kind"] == "demo")
    answer = httpx.get(f"{url}/ls/thumbnail/{hit['id']}")
    assert answer.headers["content-type"] == "image/png"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content.startswith(b"\x89PNG")
    assert httpx.get(f"{url}/ls/thumbnail/00000000").status_code == 404
    assert httpx.get(f"{url}/ls/image/..%2f..%2fgallery.sqlite").status_code == 404
