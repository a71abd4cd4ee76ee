"""RELIABILITY.md says what was measured, and what was not."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("reliability", ROOT / "scripts" / "reliability.py")
assert SPEC
assert SPEC.loader
page: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(page)


def figure(test: str, count: int = 10, full: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "test": test, "count": count, "failures": 0, "seconds": 1.0, "seed": 7, "measured": {},
        "control": "broken on purpose: 3 found", "full": full, "command": "tests/x.py::test_y",
        "commit": "abc", "when": "2026-01-02T03:04:05+00:00", **more,
    }  # fmt: skip


def written(folder: Path, *figures: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "figures.jsonl").write_text("\n".join(map(json.dumps, figures)))
    return page.document([folder])


def test_every_figure_that_a_test_writes_is_planned_and_every_planned_one_is_written():
    texts = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "tests").rglob("*.py")
        if path != Path(__file__)
    )
    names = {name.split("{")[0] for name in re.findall(r'f?"(T\d+ [^"]+)"', texts)}
    strange = [n for n in names if not any(p.startswith(n) or n.startswith(p) for p in page.PLAN)]
    assert strange == []
    assert [
        p for p in page.PLAN if not any(p.startswith(n) or n.startswith(p) for n in names)
    ] == []


def test_what_was_not_run_is_named(tmp_path: Path):
    text = written(tmp_path / "a", figure("T6 kill -9"), figure("T16 soak for 0.5 h", 99, False))
    assert "- T3 fuzzing header: not run (100,000,000 runs guided by coverage)." in text
    assert "- T16 soak for 0.5 h: run on 99 cases only; in full it is 8 hours." in text
    assert "T6 kill -9: not run" not in text
    row = "| T6 kill -9 | 10 | 0 | 7 | 1.0 s | `abc` | broken on purpose: 3 found |"
    assert row in text
    assert "`LORA_STUDIO_FULL=1 python -m pytest tests/x.py::test_y`, 2026-01-02." in text


def test_nothing_is_missing_once_all_was_run(tmp_path: Path):
    text = written(tmp_path / "a", *map(figure, page.PLAN))
    assert "Nothing: every test was run with its full count." in text
    assert "not run" not in text


@pytest.mark.parametrize(("later", "counted"), [(False, 500), (True, 9)])
def test_a_full_figure_is_replaced_by_a_full_one_only(tmp_path: Path, later: bool, counted: int):
    first = figure("T15 load, 10,000 adapters", 500)
    second = figure("T15 load, 300 adapters", 9, later)
    assert f"| {counted} " in written(tmp_path / "a", first, second)
    folders = [tmp_path / "b", tmp_path / "c", tmp_path / "none"]
    for folder, one in zip(folders, (first, second), strict=False):
        written(folder, one)
    assert f"| {counted} " in page.document(folders)
