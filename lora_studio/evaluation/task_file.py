"""Reads a task file: one JSON object a line, with what is asked, wanted, and how it is judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.evaluation.metrics import METRICS

MAX_ROWS = 100_000
MAX_CHARACTERS = 100_000
FIELDS = ("prompt", "reference", "metric")
WANTED = '{"prompt": "...", "reference": "...", "metric": "exact_match"}'
OLD_NAME = "target"
"""What test.jsonl, the file that comes with an adapter, calls the reference."""


@dataclass(frozen=True)
class TaskRow:
    """One line.

    Args:
        prompt: as typed.
        reference: the right answer.
        metric: a name of `metrics.METRICS`.
    """

    prompt: str
    reference: str
    metric: str = "exact_match"


@dataclass(frozen=True)
class Task:
    """A file of rows under one name."""

    name: str
    rows: tuple[TaskRow, ...]


def read_task_file(path: Path, metric: str = "") -> Task:
    """The rows of a JSONL file. Every line has `prompt` and `reference` (or `target`, as in a
    test.jsonl), `metric` if it is not exact match; empty lines are passed over.

    Args:
        metric: judges every row, whatever the file says; "" leaves it to the file.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: what is wrong, with the line and the field.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFound(f"There is no task file at {path}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path.name} is not UTF-8 text. Save it as UTF-8.") from error
    return task_of(path.stem, _objects(path.name, text), metric, path.name)


def task_of(
    name: str, objects: Iterable[tuple[int, Any]], metric: str = "", file: str = ""
) -> Task:
    """A task of (line, JSON value) pairs, checked as a file is.

    Raises:
        InvalidRequest: as `read_task_file`.
    """
    file = file or name
    rows = tuple(_row(f"{file}, line {line}", value, metric) for line, value in objects)
    if not 1 <= len(rows) <= MAX_ROWS:
        raise InvalidRequest(f"{file} has {len(rows)} rows; it must have 1 to {MAX_ROWS:,}.")
    return Task(name, rows)


def _objects(file: str, text: str) -> Iterator[tuple[int, Any]]:
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            yield line, json.loads(content)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(
                f"{file}, line {line} is not JSON ({error}). One object a line: {WANTED}."
            ) from error


def _row(place: str, value: Any, metric: str) -> TaskRow:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{place} is not an object. One object a line: {WANTED}.")
    given = dict(value)
    if OLD_NAME in given:
        if "reference" in given:
            raise InvalidRequest(f"{place}: field '{OLD_NAME}' is the old name of 'reference'; "
                                 "give one of them.")  # fmt: skip
        given["reference"] = given.pop(OLD_NAME)
    strangers = sorted(str(name) for name in given.keys() - set(FIELDS))
    if strangers:
        raise InvalidRequest(
            f"{place}: field '{strangers[0][:40]}' is not known; there are {', '.join(FIELDS)}."
        )
    chosen = metric or given.get("metric", TaskRow.metric)
    if not isinstance(chosen, str) or chosen not in METRICS:
        raise InvalidRequest(
            f"{place}: field 'metric' is {str(chosen)[:40]!r}; "
            f"choose one of {', '.join(METRICS.names())}."
        )
    return TaskRow(_text(place, given, "prompt"), _text(place, given, "reference"), chosen)


def _text(place: str, given: Mapping[str, Any], field: str) -> str:
    if field not in given:
        raise InvalidRequest(f"{place}: field '{field}' is missing. Write {WANTED}.")
    text = given[field]
    if not isinstance(text, str):
        raise InvalidRequest(f"{place}: field '{field}' is {str(text)[:40]!r}; it must be a text.")
    if not text.strip():
        raise InvalidRequest(f"{place}: field '{field}' is empty.")
    if len(text) > MAX_CHARACTERS:
        raise InvalidRequest(
            f"{place}: field '{field}' has {len(text):,} characters; {MAX_CHARACTERS:,} at most."
        )
    return text
