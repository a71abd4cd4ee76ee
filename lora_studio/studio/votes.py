"""Blind votes: which column people found best, row by row, kept beside the recipes they judge."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lora_studio.compare import MAX_COLUMNS, MAX_PROMPTS
from lora_studio.composition import Recipe
from lora_studio.errors import InvalidRequest, NotFound
from lora_studio.evaluation.metrics import Rate
from lora_studio.gallery import Gallery

KEPT = 30
SHOWN = 5
LONGEST = 300
NAMES = ("title", "id", "recipe_id")


class Votes:
    """Keeps ballots by base model. A ballot is the votes of one person on one comparison."""

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery

    def record(self, data: Mapping[str, Any], actor: str) -> dict[str, Any]:
        """Stores a ballot in place of an earlier one with its id, and tells its tally.

        Args:
            data: {"id", "base", "columns": [{"title", "id", "recipe_id"}], "rows": [{"prompt",
                "seed"}], "votes": [{"row", "best": [columns]}]}; an empty "best" is a skipped row.

        Raises:
            InvalidRequest: what is wrong with it.
        """
        created = datetime.now(UTC).isoformat(timespec="seconds")
        ballot: dict[str, Any] = {**_checked(data), "created": created, "actor": actor}
        if actor:  # whoever votes on the same comparison does not replace this ballot
            ballot["id"] = hashlib.sha256(f"{actor} {ballot['id']}".encode()).hexdigest()[:32]
        key = _key(ballot["base"])
        others = [b for b in self._gallery.get_note(key, []) if b["id"] != ballot["id"]]
        self._gallery.put_note(key, [ballot, *others][:KEPT])
        for place, row in enumerate(_tally(ballot)):
            for recipe_id in self._recipes(ballot["columns"][place]):
                self._note_in_recipe(recipe_id, ballot, row)
        return _shown(ballot)

    def list(self, base: str) -> list[dict[str, Any]]:
        """The latest ballots on a base model as {id, created, columns, rows, votes, tally}."""
        return [_shown(ballot) for ballot in self._gallery.get_note(_key(base), [])[:SHOWN]]

    def _recipes(self, column: Mapping[str, str]) -> list[str]:
        """Stored recipes a column stands for: its own, or the one that made its adapter."""
        if column["recipe_id"]:
            return [column["recipe_id"]]
        try:
            recipe = self._gallery.get(column["id"]).recipe if column["id"] else ""
        except NotFound:
            recipe = ""
        return [recipe] if recipe else []

    def _note_in_recipe(self, recipe_id: str, ballot: Mapping[str, Any], row: dict) -> None:
        try:
            found = self._gallery.get_recipe(recipe_id)
        except NotFound:
            return
        recipe = Recipe.from_yaml(found["yaml"])
        said = {
            "kind": "blind vote",
            "id": ballot["id"],
            "created": ballot["created"],
            "against": [c["title"] for c in ballot["columns"]],
            **{name: row[name] for name in ("title", "n", "correct", "rate", "low", "high")},
        }
        known = recipe.about.get("evaluation")
        kept = [e for e in known if isinstance(e, dict)] if isinstance(known, list) else []
        kept = [e for e in kept if e.get("id") != ballot["id"]]
        whole = replace(recipe, about={**recipe.about, "evaluation": [*kept, said][-KEPT:]})
        result, adapter_id = found["result"], found["adapter_id"]
        self._gallery.put_recipe(recipe_id, whole.to_yaml(), result, adapter_id)


def _key(base: str) -> str:
    return f"votes:{hashlib.sha256(base.encode()).hexdigest()[:32]}"


def _shown(ballot: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "created", "base", "columns", "rows", "votes")
    return {**{name: ballot[name] for name in names}, "tally": _tally(ballot)}


def _tally(ballot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How often each column was best, alone or with others, of the rows that were not skipped."""
    votes = [set(vote["best"]) for vote in ballot["votes"] if vote["best"]]
    return [
        {"title": column["title"], **Rate(sum(c in v for v in votes), len(votes)).to_dict()}
        for c, column in enumerate(ballot["columns"])
    ]


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    columns, rows, votes = (data.get(name) for name in ("columns", "rows", "votes"))
    if not (isinstance(columns, list) and 2 <= len(columns) <= MAX_COLUMNS):
        raise InvalidRequest(f"A vote is between 2 to {MAX_COLUMNS} columns.")
    if not (isinstance(rows, list) and 1 <= len(rows) <= MAX_PROMPTS):
        raise InvalidRequest(f"A vote is on 1 to {MAX_PROMPTS} rows.")
    if not (isinstance(votes, list) and 1 <= len(votes) <= len(rows)):
        raise InvalidRequest("Vote on at least one row, and on each only once.")
    try:
        checked = [
            {"row": _place(vote["row"], rows), "best": [_place(b, columns) for b in vote["best"]]}
            for vote in votes
        ]
        named = [{name: _text(c.get(name)) for name in NAMES} for c in columns]
        asked = [{"prompt": _text(row["prompt"]), "seed": int(row["seed"])} for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidRequest("This is not a ballot. Vote with the buttons of the page.") from error
    if len({vote["row"] for vote in checked}) < len(checked):
        raise InvalidRequest("Vote on each row only once.")
    return {
        "id": _text(data.get("id")),
        "base": _text(data.get("base")),
        "columns": named,
        "rows": asked,
        "votes": checked,
    }


def _place(value: Any, among: list[Any]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(among):
        raise ValueError(value)
    return value


def _text(value: Any) -> str:
    return str(value or "")[:LONGEST]
