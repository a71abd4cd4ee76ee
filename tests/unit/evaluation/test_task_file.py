"""A task file is read whole or refused with the line and the field that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.evaluation.task_file import TaskRow, read_task_file

GOOD = '{"prompt": "p", "reference": "r"}\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_read_with_their_metric(tmp_path: Path):
    text = GOOD + '\n{"prompt": "Où ?", "reference": "là", "metric": "bleu"}\r\n'
    task = read_task_file(written(tmp_path, text))
    assert task.name == "tasks"
    assert task.rows == (TaskRow("p", "r"), TaskRow("Où ?", "là", "bleu"))
    assert {row.metric for row in read_task_file(tmp_path / "tasks.jsonl", "loss").rows} == {"loss"}


def test_the_test_file_of_an_adapter_is_a_task_file(tmp_path: Path):
    path = written(tmp_path, '{"prompt": "p", "target": "r"}')
    assert read_task_file(path).rows == (TaskRow("p", "r"),)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('["p", "r"]', "line 2 is not an object"),
        ('{"reference": "r"}', "line 2: field 'prompt' is missing"),
        ('{"prompt": "p"}', "line 2: field 'reference' is missing"),
        ('{"prompt": "p", "reference": 7}', "line 2: field 'reference' is '7'"),
        ('{"prompt": "  ", "reference": "r"}', "line 2: field 'prompt' is empty"),
        ('{"prompt": "p", "reference": "r", "metric": "rogue"}', "line 2: field 'metric' is 'rog"),
        ('{"prompt": "p", "reference": "r", "metric": 3}', "line 2: field 'metric' is '3'"),
        ('{"prompt": "p", "reference": "r", "anwser": "x"}', "line 2: field 'anwser' is not known"),
        ('{"prompt": "p", "reference": "r", "target": "r"}', "line 2: field 'target' is the old"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: str, said: str):
    with pytest.raises(InvalidRequest, match=said.replace("(", r"\(")):
        read_task_file(written(tmp_path, GOOD + line))


def test_no_rows_no_file_and_no_text_are_refused(tmp_path: Path):
    with pytest.raises(InvalidRequest, match="0 rows"):
        read_task_file(written(tmp_path, "\n\n"))
    with pytest.raises(NotFound, match="no task file"):
        read_task_file(tmp_path / "elsewhere.jsonl")
    (tmp_path / "tasks.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequest, match="UTF-8"):
        read_task_file(tmp_path / "tasks.jsonl")
