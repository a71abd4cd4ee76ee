"""The report keeps its sections, and its intervals are Wilson's."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_studio.demo.evaluate import Score
from lora_studio.demo.report import AdapterRow, adapter_section, percent, put_section


def test_wilson_interval_matches_published_values() -> None:
    low, high = Score(15, 20).interval()  # Newcombe's form: 0.531 to 0.888
    assert (low, high) == (pytest.approx(0.531, abs=1e-3), pytest.approx(0.888, abs=1e-3))
    assert Score(0, 0).interval() == (0.0, 1.0)
    assert Score(10, 10).interval()[1] == pytest.approx(1.0)


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
        wrong = Score(0, 100)
        return AdapterRow(
            task, task, "plain", "r 8", Score(own, 100), Score(base, 100), wrong, 9.0, 1000
        )

    text = adapter_section([row("good", 97, 5), row("weak", 80, 5), row("known", 99, 60)])
    assert "20 % or less: 1." in text
    assert percent(Score(97, 100)) in text
