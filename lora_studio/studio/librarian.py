"""Keeps the gallery searchable: embeds queries, and adapters that have no vectors yet."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lora_studio.composition.choice import BLANK, BLANK_TEXT
from lora_studio.errors import LoraStudioError, NotFound, WorkerFailed
from lora_studio.gallery import Gallery, Viewer
from lora_studio.settings import Settings
from lora_studio.worker.job import Event, Job, Worker

log = logging.getLogger(__name__)

PATIENCE = 1.5
"""Seconds a search waits for the query's vector before it goes by keywords."""

_REMEMBERED = 512


class Librarian:
    """Embeds queries and adapters through the light worker.

    Args:
        settings: names the embedder.
    """

    def __init__(self, settings: Settings, gallery: Gallery, worker: Worker) -> None:
        self._settings = settings
        self._gallery = gallery
        self._worker = worker
        self._queries: OrderedDict[str, np.ndarray] = OrderedDict()
        self._blank: np.ndarray | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._settled = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="embedding", daemon=True)
        self.ready = False
        self.problem = ""

    def start(self) -> None:
        """Begins embedding in the background."""
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def changed(self) -> None:
        """Says that adapters were added."""
        self._settled.clear()
        self._wake.set()

    def settled(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until every adapter has its place in the search.

        Raises:
            LoraStudioError: the embedder does not work, and why.
        """
        if self.problem:
            raise LoraStudioError(self.problem)
        return self._settled.wait(timeout)

    def placing(self, check: Callable[[], None]) -> Iterator[Event]:
        """Progress until every adapter has its place; `check` raises when nobody waits any more.

        Raises:
            LoraStudioError: the embedder does not work, and why.
        """
        while not self.settled(0.5):
            check()
            yield {"type": "progress", "fraction": None, "message": "placing the adapters"}

    def query_vector(self, text: str, patience: float = PATIENCE) -> np.ndarray | None:
        """(dim,) unit vector of a query, or None if it is not to be had within `patience`."""
        text = " ".join(text.split())[:2000]
        with self._lock:
            if text in self._queries:
                self._queries.move_to_end(text)
                return self._queries[text]
        if not self.ready:
            return None
        done = threading.Event()
        found: list[np.ndarray] = []

        def fetch() -> None:
            try:
                found.append(self.embed([text])[0])
                self._remember(text, found[0])
            except LoraStudioError as error:
                log.warning("a query could not be embedded: %s", error)
            finally:
                done.set()

        threading.Thread(target=fetch, name="query", daemon=True).start()
        done.wait(patience)
        return found[0] if found else None

    def embed(self, texts: list[str]) -> np.ndarray:
        """(n, dim) unit rows, from the light worker; waits for it."""
        job = Job("embed", {"texts": texts, "embedder": self._settings.embedder}, "light")
        result = self._worker.submit(job).result()
        path = Path(result["path"])
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise WorkerFailed("The embedder's answer could not be read. Try again.") from error
        finally:
            path.unlink(missing_ok=True)

    def blank(self) -> np.ndarray:
        """(dim,) unit vector of a text that says nothing."""
        known = self._blank
        if known is None:
            known = self._blank = self.embed([BLANK_TEXT])[0]
        return known

    def similarities(
        self, prompts: Sequence[str], among: Sequence[str], base: str
    ) -> list[dict[str, float]]:
        """For each prompt, adapter id -> cosine, of the adapters `among`, and `BLANK` -> to a blank
        text; after `placing`."""
        viewer = Viewer(everything=True)
        blank, found = self.blank(), []
        for vector in self.embed(list(prompts)):
            hits = self._gallery.retrieve(
                vector, base=base, k=len(among), among=among, viewer=viewer
            )
            near = {hit.entry.id: hit.similarity or 0.0 for hit in hits}
            found.append({**near, BLANK: self._gallery.cosine(vector, blank)})
        return found

    def _remember(self, text: str, vector: np.ndarray) -> None:
        with self._lock:
            self._queries[text] = vector
            while len(self._queries) > _REMEMBERED:
                self._queries.popitem(last=False)

    def _loop(self) -> None:
        while not self._closed:
            try:
                self._embed_pending()
                if not self._wake.is_set():
                    self._settled.set()
            except LoraStudioError as error:
                self.problem = str(error)
                log.warning("search goes by keywords for now: %s", error)
            self._wake.wait(30)
            self._wake.clear()

    def _embed_pending(self) -> None:
        embedder = self._settings.embedder
        if not self.ready:
            self.embed(["warm up"])
        self.ready, self.problem = True, ""
        for adapter_id, texts, source in self._gallery.pending_vectors(embedder):
            if self._closed:
                return
            vectors = self.embed(texts)
            with contextlib.suppress(NotFound):  # deleted meanwhile
                self._gallery.set_vectors(adapter_id, embedder, vectors, source)
