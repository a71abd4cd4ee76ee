"""Takes the figures of adapters that were added before report cards were: without a sketch nobody
finds their twins."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import select

from lora_studio.adapter import Adapter
from lora_studio.errors import LoraStudioError
from lora_studio.gallery import tables as t
from lora_studio.gallery.store import Store
from lora_studio.rank_units.measures import measure

log = logging.getLogger(__name__)

MOST_BYTES = 256 * 1024 * 1024
"""Size of the files that are read each time, but for the last."""


def measure_old(store: Store, load: Callable[[str], Adapter], most: int = MOST_BYTES) -> int:
    """Adds what is missing to the report cards of old rows, oldest first; returns of how many.

    Args:
        load: reads an adapter by id; one that cannot be read is passed over.
        most: bytes of files after which the rest has to wait.
    """
    done = 0
    for adapter_id, size in _without(store):
        if most <= 0:
            break
        most -= size
        try:
            figures = measure(load(adapter_id))
            with store.write() as connection:
                known = store.find(connection, adapter_id)
                if known is None:
                    continue
                entry = replace(known.entry, measures={**figures, **known.entry.measures})
                store.touch(connection, adapter_id, entry=json.dumps(entry.to_dict()))
            done += 1
        except LoraStudioError as error:
            log.warning("the report card of %s has to wait: %s", adapter_id, error)
    return done


def _without(store: Store) -> list[tuple[str, int]]:
    """(id, bytes) of the rows, whole and not deleted, whose figures hold no sketch."""
    columns = t.adapters.c
    query = select(columns.id, columns.bytes).where(
        columns.deleted.is_(None), columns.damaged.is_(None), columns.entry.not_like('%"sketch":%')
    )
    with store.read() as connection:
        rows = connection.execute(query.order_by(columns.created)).all()
    return [(name, size) for name, size in rows]
