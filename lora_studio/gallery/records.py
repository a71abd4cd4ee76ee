"""Recipes and notes: small documents that live beside the adapters."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.sql import Select

from lora_studio.errors import NotFound
from lora_studio.gallery import tables as t
from lora_studio.gallery.store import Store, iso


class Records:
    """The part of a gallery that keeps recipes and notes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put_recipe(
        self, recipe_id: str, yaml_text: str, result: Mapping[str, Any], adapter_id: str | None
    ) -> None:
        """Stores a recipe, or what came of it the last time it was run."""
        values = {"yaml": yaml_text, "result": json.dumps(result), "adapter_id": adapter_id}
        with self._store.write() as connection:
            query = update(t.recipes).where(t.recipes.c.id == recipe_id).values(**values)
            if not connection.execute(query).rowcount:
                new = {"id": recipe_id, "created": time.time(), **values}
                connection.execute(insert(t.recipes).values(**new))

    def get_recipe(self, recipe_id: str) -> dict[str, Any]:
        """{"id", "yaml", "result", "adapter_id", "created"}; raises NotFound."""
        query = select(t.recipes).where(t.recipes.c.id == recipe_id)
        with self._store.read() as connection:
            found = _recipes(connection, query)
        if not found:
            raise NotFound(f"There is no recipe '{recipe_id[:80]}' in this gallery.")
        return found[0]

    def list_recipes(self, limit: int = 50) -> list[dict[str, Any]]:
        """The latest recipes, newest first."""
        query = select(t.recipes).order_by(t.recipes.c.created.desc()).limit(max(0, limit))
        with self._store.read() as connection:
            return _recipes(connection, query)

    def put_note(self, key: str, value: Any) -> None:
        """Keeps a small JSON value under `key`."""
        text = json.dumps(value)
        with self._store.write() as connection:
            query = update(t.notes).where(t.notes.c.key == key).values(value=text)
            if not connection.execute(query).rowcount:
                connection.execute(insert(t.notes).values(key=key, value=text))

    def get_note(self, key: str, default: Any = None) -> Any:
        """The value under `key`, or `default`."""
        with self._store.read() as connection:
            text = connection.execute(select(t.notes.c.value).where(t.notes.c.key == key)).scalar()
        return default if text is None else json.loads(text)


def _recipes(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": row["id"],
            "yaml": row["yaml"],
            "result": json.loads(row["result"]),
            "adapter_id": row["adapter_id"],
            "created": iso(row["created"]),
        }
        for row in connection.execute(query).mappings()
    ]
