"""The report keeps its sections, and counts what passes."""

from __future__ import annotations

from pathlib import Path

from lora_studio.demo.report import AdapterRow, adapter_section, percent, put_section
from lora_studio.evaluation.metrics import Rate


def test_a_section_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    page = tmp_path / "REPORT.md"
    put_section(page, "One", "first")
    put_section(page, "Two", "second")
    put_section(page, "One", "changed")
    text = page.read_text()
    assert "first" not in text
    assert text.index("changed") < text.index("## Two") < text.index("second")
    assert text.count("## One") == 1


def test_only_tasks_that_pass_both_bars_are_counted() -> None:
    def row(task: str, own: int, base: int) -> AdapterRow:
        wrong = Rate(0, 100)
        return AdapterRow(
            task, task, "plain", "r 8", Rate(own, 100), Rate(base, 100), wrong, 9.0, 1000
        )

    text = adapter_section([row("good", 97, 5), row("weak", 80, 5), row("known", 99, 60)])
    assert "20 % or less: 1." in text
    assert percent(Rate(97, 100)) in text
