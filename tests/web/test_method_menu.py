"""The menu of methods and the controls of the one that is chosen."""

from __future__ import annotations

from playwright.sync_api import Page

from lora_studio.composition import METHODS
from tests.web.conftest import open_tab

LABELS = "[...document.querySelectorAll('.ls-field > label')].filter(n => n.offsetParent)"


def labels(page: Page) -> list[str]:
    return page.evaluate(f"{LABELS}.map(n => n.textContent)")


def test_every_merge_stands_once_in_the_menu_under_its_group(page: Page):
    open_tab(page, "Compose")
    page.wait_for_selector("#ls-method-name")
    groups = dict(
        page.evaluate(
            "[...document.querySelectorAll('#ls-method-name optgroup')]"
            ".map(g => [g.label, [...g.children].map(o => o.value)])"
        )
    )
    merges = [m for m in METHODS if m.kind == "merging"]
    shown = [
        name for label, names in groups.items() if label != "Route at run time" for name in names
    ]
    assert sorted(shown) == sorted(m.name for m in merges)
    assert groups["Merge as PEFT does"] == [m.name for m in merges if m.group == "peft"]
    assert max(map(len, groups.values())) <= 10


def test_a_control_is_shown_while_it_matters(page: Page):
    open_tab(page, "Compose")
    page.wait_for_selector("#ls-method-name")
    page.locator("#ls-method-name").select_option("pico")
    page.locator("#ls-param-budget").wait_for()
    assert not {"Keep", "Density"} & set(labels(page))
    page.locator("#ls-param-budget").select_option("energy")
    assert "Keep" in labels(page)
    page.get_by_role("radiogroup", name="Rule").get_by_text("ties").click()
    assert {"Keep", "Density"} <= set(labels(page))
    page.locator("#ls-param-budget").select_option("shared")
    assert "Keep" not in labels(page)


def test_a_slider_over_many_powers_of_ten_counts_in_powers(page: Page):
    open_tab(page, "Compose")
    page.wait_for_selector("#ls-method-name")
    page.locator("#ls-method-name").select_option("refit")
    box, slider = page.locator("#ls-param-ridge"), page.get_by_role("slider", name="Ridge")
    assert box.input_value() == "0.01"
    place = float(slider.input_value())
    assert 0.25 < place < 0.35  # not at the very end, where a linear one has it
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert 0.0105 < float(box.input_value()) < 0.013
    assert slider.get_attribute("aria-valuetext") == box.input_value()
    page.keyboard.press("End")
    assert box.input_value() == "10"
    page.keyboard.press("Home")
    assert box.input_value() == "0.0005"
    box.fill("0.1")
    assert abs(float(slider.input_value()) - 0.535) < 0.006
    assert box.evaluate("node => node.validity.valid")


def test_what_runs_the_test_prompts_says_so_in_one_line(page: Page):
    open_tab(page, "Compare")
    button = page.locator("#ls-test")
    button.wait_for()
    heights = page.evaluate(
        "['ls-test', 'ls-run'].map(id => document.getElementById(id).offsetHeight)"
    )
    assert heights[0] == heights[1]
    assert button.evaluate("node => node.scrollWidth <= node.clientWidth")
