"""What was answered already, on disk after every batch, so that a run that was stopped goes on.

A line is found by a hash of all that was asked: base model, prompt, reference, contents of the
adapters, their weights. Whatever is changed is asked again; the same question of two methods once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lora_studio.errors import InvalidRequest
from lora_studio.evaluation.metrics import Answer

VERSION = 1
"""Raised when the same question would be answered otherwise, so that nothing old is taken."""


def key_of(base: str, how: str, prompt: str, reference: str, plan: Any, contents: Any) -> str:
    """Hash of a question.

    Args:
        how: how it is asked: "score", or "text" with the settings of decoding.
        plan: the row's plan, a frozen dataclass.
        contents: name in the plan -> id of the adapter's contents, of those the plan names.
    """
    asked = [VERSION, base, how, prompt, reference, _plain(plan), _plain(contents)]
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _plain(value: Any) -> Any:
    """As JSON takes it; of arrays their digest. What cannot be told apart is an error."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "__array__"):
        array = np.ascontiguousarray(np.asarray(value))
        return [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
    raise TypeError(f"a question with a {type(value).__name__} in it cannot be told from another")


class Ledger:
    """Answers by key.

    Args:
        path: a JSONL file that is added to; None keeps them in memory only.

    Raises:
        InvalidRequest: the file is not such a file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: dict[str, Answer] = {}
        if path is not None and path.exists():
            self._read(path)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Answer | None:
        return self._known.get(key)

    def add(self, answers: Sequence[tuple[str, Answer]]) -> None:
        """Keeps answers, in one write."""
        self._known.update(answers)
        if self.path is None or not answers:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"key": key, **_told(one)}) + "\n" for key, one in answers)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))

    def _read(self, path: Path) -> None:
        """A last line that has no end was being written when the run was stopped; it is cut off."""
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                told = json.loads(line)
                key = told.pop("key")
                self._known[key] = Answer(**told)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise InvalidRequest(
                    f"{path}, line {number} is no kept answer. Remove the file to begin anew."
                ) from error
        if len(whole) < len(content):
            path.write_bytes(whole)


def _told(answer: Answer) -> dict[str, Any]:
    return {name: value for name, value in asdict(answer).items() if value is not None}
