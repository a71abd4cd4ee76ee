"""Takes the README's pictures from a running studio: `python scripts/screenshots.py http://...`.

Goes the newcomer's path, three good neighbours, map, composition, comparison; then the path of
images: an object and a style in regions of one picture, and a comparison of pictures. A second
argument names another folder to put them in.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).resolve().parent.parent / "assets" / "screenshots"
WANTED = ("past tense", "English to French", "sentence to JSON")
PROMPTS = (
    "Turn the sentence into past tense: The girl brings a cake on Sunday.",
    "How do you say the beautiful church in French?",
    "Elena lives in Oslo. (json)",
)


DRAWN = ("a red star on the left", "a blue house, neon style")
SCHEDULES = ("LoRA-LEGO", "LoRA Composite", "LoRA Switch", "Cached composite")


def folder() -> Path:
    """Where the pictures go."""
    return Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER


def shoot(page: Page, name: str, height: int = 850) -> None:
    """Saves the top of the page once it has come to rest."""
    page.wait_for_timeout(1500)
    page.set_viewport_size({"width": 1360, "height": height})
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    page.screenshot(path=folder() / f"{name}.png")


def tour(page: Page) -> None:
    """All tabs, filled."""
    page.wait_for_selector(".ls-card")
    search = page.locator("input[type=search]").first
    for wanted in WANTED:
        search.fill(f"{wanted} good neighbour")
        page.wait_for_timeout(2000)
        card = page.locator(".ls-card", has_text="(good neighbour)").first
        card.locator(".ls-pick").click()
    search.fill("turn the sentence into past tense")
    shoot(page, "gallery")
    page.get_by_role("tab", name="Map").click()
    shoot(page, "map", 1080)
    page.get_by_role("tab", name="Compose").click()
    page.locator("#ls-method input[type=text]").first.fill("Past, French, JSON")
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-plan-body .ls-cosine")
    page.locator("#ls-go").click()
    page.wait_for_selector(".ls-result-card .ls-compare-it", timeout=120_000)
    shoot(page, "compose", 1140)
    page.locator("#ls-verdict").scroll_into_view_if_needed()
    page.wait_for_selector(".ls-verdict[data-state=ready]")
    page.locator("#ls-verdict").screenshot(path=folder() / "verdict.png")
    page.evaluate("window.scrollTo(0, 0)")
    page.locator(".ls-compare-it").click()
    page.locator("#ls-prompts textarea").fill("\n".join(PROMPTS))
    page.locator("#ls-columns select").select_option(label="Random adapter")
    page.locator("#ls-run").click()
    page.wait_for_selector(".ls-compare[data-state=done]")
    shoot(page, "compare", 1140)
    page.get_by_role("tab", name="Leaderboard").click()
    page.wait_for_selector(".ls-leaderboard[data-ready=text]")
    shoot(page, "leaderboard", 900)


def tour_of_images(page: Page) -> None:
    """Regions with words of their own, and pictures side by side."""
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".ls-search-input").fill("")
    page.get_by_label("Images", exact=False).first.check()
    for title in ("Star (good neighbour)", "Neon style (good neighbour)"):
        heading = page.get_by_role("heading", name=title, exact=True)
        page.locator(".ls-card", has=heading).first.locator(".ls-pick").click()
    page.wait_for_function("document.body.classList.contains('ls-images')")
    page.get_by_role("tab", name="Compose").click()
    page.locator("#ls-method-name").select_option("regional_attention")
    names = page.locator("#ls-regions [data-name]")
    for place, moves in enumerate(("ArrowLeft", "ArrowRight")):
        names.nth(place).click()
        page.locator(".ls-region").nth(place).focus()
        for _ in range(12):
            page.keyboard.press(moves)
        page.locator("#ls-region-words").fill(DRAWN[place])
    page.locator("#ls-dry").click()
    page.wait_for_selector(".ls-plan-body .ls-figures")
    shoot(page, "regions", 1240)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Use the basket").click()
    for label in SCHEDULES:
        page.locator("#ls-columns select").select_option(label=label)
    page.locator("#ls-image-prompts textarea").fill("\n".join(DRAWN))
    page.locator("#ls-run").click()
    page.wait_for_selector(".ls-compare[data-state=running]")
    page.wait_for_selector(".ls-compare[data-state=done]", timeout=300_000)
    page.evaluate("window.scrollTo(0, 0)")
    shoot(page, "pictures", 1320)


def main() -> None:
    folder().mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1360, "height": 850})
        page.goto(sys.argv[1])
        tour(page)
        tour_of_images(page)
        browser.close()


if __name__ == "__main__":
    main()
