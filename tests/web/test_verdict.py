"""The verdict on Compose: it follows the basket, and what it proposes is one click away."""

from __future__ import annotations

import json

from playwright.sync_api import Page, Route

from tests.web.conftest import NewPage, open_tab

SESSION = (
    "import(new URL('studio/assets/state.js', document.baseURI).href)"
    ".then((state) => JSON.parse(JSON.stringify(state.session)))"
)
PICK = """async (titles) => {
  const found = await fetch('studio/api/search?limit=200').then((answer) => answer.json());
  const state = await import(new URL('studio/assets/state.js', document.baseURI).href);
  for (const title of titles)
    state.add(found.hits.find((hit) => hit.title === title));
}"""
READY = ".ls-verdict[data-state='ready']"
THREE = ["Past tense", "English to French", "Sentence to JSON"]
ROWS = ".ls-verdict-table tr[data-method]"


def picked(page: Page, titles: list[str], method: str = "linear") -> None:
    page.evaluate(PICK, titles)
    open_tab(page, "Compose")
    page.wait_for_selector("#ls-method-name")
    page.locator("#ls-method-name").select_option(method)
    page.locator("#ls-verdict").scroll_into_view_if_needed()
    page.wait_for_selector(READY)


def test_a_verdict_stands_there_without_a_click_and_follows_the_weights(page: Page):
    open_tab(page, "Compose")
    page.locator("#ls-verdict").scroll_into_view_if_needed()
    assert "Nothing to judge yet" in page.locator(".ls-verdict").inner_text()
    picked(page, THREE)
    heads = page.locator(".ls-verdict-head-source").all_inner_texts()
    assert heads == THREE
    assert page.locator(f"{ROWS}.is-chosen").get_attribute("data-method") == "linear"
    for name in ("svd", "cat", "lego", "random"):
        assert page.locator(f"{ROWS}[data-method='{name}'] .ls-verdict-cell").count() == 3
    assert page.locator(f"{ROWS}[data-method^='single:']").count() == 1
    assert "Permissive" in page.locator(".ls-verdict-card").first.inner_text()
    assert page.locator(".ls-heat-cell").count() == 28
    svd = f"{ROWS}[data-method='svd'] .ls-verdict-cell .ls-num"
    before = page.locator(svd).all_inner_texts()
    page.get_by_label(f"Weight of {THREE[0]}, exact").fill("0.2")
    page.wait_for_function(
        "([css, old]) => [...document.querySelectorAll(css)].map(n => n.innerText).join() !== old",
        arg=[svd, ",".join(before)],
    )
    page.wait_for_selector(READY)
    assert float(page.locator(svd).first.inner_text()) < float(before[0])


def test_one_click_takes_what_is_proposed(page: Page):
    picked(page, THREE)
    button = page.locator(".ls-verdict-proposal .ls-btn").first
    title = button.inner_text().removeprefix("Use ")
    button.click()
    page.wait_for_function(
        "title => document.querySelector('.ls-verdict-table .is-chosen .ls-verdict-title')"
        "?.innerText.startsWith(title)",
        arg=title,
    )
    session = page.evaluate(SESSION)
    method = page.locator("#ls-method-name")
    assert method.input_value() == session["draft"]["method"] != "linear"
    rank = page.locator(f"{ROWS}.is-chosen td.ls-right").nth(1).inner_text()
    assert str(session["draft"]["params"]["rank"]) == rank
    even = page.get_by_role("button", name="Use these weights")
    even.click()
    page.wait_for_function("document.querySelector('.ls-verdict-weight') === null")
    weights = [row["weight"] for row in page.evaluate(SESSION)["basket"]]
    assert len(set(weights)) > 1
    shown = [float(page.get_by_label(f"Weight of {t}, exact").input_value()) for t in THREE]
    assert shown == weights


def test_all_methods_are_ranked_on_demand_and_controls_go_to_compare(page: Page):
    picked(page, THREE)
    few = page.locator(ROWS).count()
    page.locator("#ls-verdict-all").check()
    page.wait_for_function(
        "([css, few]) => document.querySelectorAll(css).length > few + 10", arg=[ROWS, few]
    )
    page.wait_for_selector(READY)
    page.locator(".ls-verdict-untold summary").click()
    assert "run it to know" in page.locator(".ls-verdict-untold").inner_text()
    page.get_by_role("button", name="Add controls to Compare").click()
    page.get_by_role("button", name="Open Compare").click()
    titles = page.locator(".ls-columns-list .ls-basket-title")
    titles.filter(has_text="Random numbers").wait_for()
    chips = titles.all_inner_texts()
    assert len([title for title in chips if title in THREE]) == 1


def test_heat_tells_other_measures(page: Page):
    picked(page, THREE)
    help_text = page.locator(".ls-verdict-conflict .ls-help")
    before = help_text.inner_text()
    page.get_by_role("radiogroup", name="Measure").get_by_text("Opposite signs").click()
    assert help_text.inner_text() != before
    assert "Opposite signs" in (page.locator(".ls-heat").get_attribute("aria-label") or "")


def test_a_verdict_that_takes_time_says_how_far_it_is_and_an_error_can_be_asked_again(
    page: Page, console_errors: list[str]
):
    answers = [
        {"ready": False, "fraction": 0.4, "message": "comparing 2 adapters, the first time"},
        None,
    ]

    def answer(route: Route) -> None:
        told = answers.pop(0) if answers else None
        if told is None:
            body = json.dumps({"error": "The worker is down. Try again."})
            route.fulfill(status=400, content_type="application/json", body=body)
        else:
            route.fulfill(content_type="application/json", body=json.dumps(told))

    page.route("**/studio/api/verdict", answer)
    page.evaluate(PICK, THREE[:2])
    open_tab(page, "Compose")
    page.locator("#ls-verdict").scroll_into_view_if_needed()
    page.wait_for_selector(".ls-verdict .ls-progress-fill")
    assert "Comparing 2 adapters" in page.locator(".ls-verdict").inner_text()
    page.wait_for_selector(".ls-verdict[data-state='error']")
    assert "The worker is down" in page.locator(".ls-verdict").inner_text()
    page.unroute("**/studio/api/verdict")
    page.get_by_role("button", name="Ask again").click()
    page.wait_for_selector(READY)
    assert "400" in console_errors.pop()


def test_hostile_titles_are_only_text_and_a_phone_shows_it_all(url: str, new_page: NewPage):
    page = new_page(url, width=390)
    evil = "<img src=x onerror=window.hacked=1>"

    def spoil(route: Route) -> None:
        found = route.fetch().json()
        for source in found.get("sources", []):
            source["title"] = evil
        if "licence" in found:
            found["licence"]["sentence"] = evil
            found["triggers"] = {"words": [evil], "collisions": [{"word": evil, "sources": [evil]}]}
        route.fulfill(content_type="application/json", body=json.dumps(found))

    page.route("**/studio/api/verdict", spoil)
    picked(page, THREE)
    assert page.locator(".ls-verdict-head-source").first.inner_text() == evil
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
