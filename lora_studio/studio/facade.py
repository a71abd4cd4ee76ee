"""The one object that pages, API, CLI and notebooks are given: every action of the product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from lora_studio.compare import MAX_PROMPTS
from lora_studio.composition import Recipe
from lora_studio.errors import InvalidRequest, WorkerFailed
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio.adding import add_adapter
from lora_studio.studio.at_once import AtOnce
from lora_studio.studio.columns import Columns
from lora_studio.studio.comparing import PATIENCE, Comparer
from lora_studio.studio.demos import add_demo
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.grids import Grids
from lora_studio.studio.janitor import Janitor
from lora_studio.worker.job import Job, Worker
from lora_studio.worker.local import LocalWorker


class Studio(AtOnce):
    """Gallery, workers and everything that can be done with them.

    Methods that take long return a Flow: iterate its events, or call `.result()`. All take `actor`,
    the name of who asks; values in and out are plain JSON.
    """

    def __init__(self, settings: Settings, gallery: Gallery, worker: Worker) -> None:
        super().__init__(settings, gallery, worker)
        columns = Columns(gallery, self._composer)
        self._grids = Grids(self._composer, columns, self._renderer)
        self._janitor = Janitor(settings, gallery)
        self._comparer = Comparer(settings, gallery, self.librarian, columns, self._renderer)

    @classmethod
    def open(cls, settings: Settings | None = None) -> Studio:
        """Opens the gallery, adds the demo once, starts both workers and the embedding."""
        settings = settings or Settings.from_env()
        worker = LocalWorker(settings)
        worker.start()
        studio = cls(settings, Gallery.open(settings), worker)
        add_demo(settings, studio.gallery)
        studio.librarian.start()
        studio._janitor.start()
        worker.submit(studio._describe(settings.base_model))  # so that the first run is quick
        return studio

    def close(self) -> None:
        """Stops the workers and closes the gallery."""
        self._janitor.close()
        self.librarian.close()
        self.worker.close()
        self.gallery.close()

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check_base(self, base: str, *, actor: str = "") -> Flow:
        """Loads a base model; result {device, parameters, dtype, ...}."""

        def steps(flow: Flow) -> Steps:
            self._bases.fetch(base)
            return (yield from flow.run(self._describe(base)))

        return Flow(self.worker, steps)

    def _describe(self, base: str) -> Job:
        args = {
            "base": base,
            "device": self.settings.device,
            "modality": self._bases.modality(base),
        }
        return Job("describe_base", args, "model")

    def add_adapter(
        self,
        path: str,
        card: Mapping[str, Any] | None = None,
        *,
        fallback_base: str = "",
        actor: str = "",
    ) -> Flow:
        """Checks a file and adds it; result is its entry with {report, existed}.

        Args:
            fallback_base: base model to take where nothing else tells it.
        """

        def steps(flow: Flow) -> Steps:
            given = dict(card or {})
            result = yield from add_adapter(
                flow, self.settings, self.gallery, path, given, actor, fallback_base
            )
            self.librarian.changed()
            return result

        return Flow(self.worker, steps)

    def retrieve_adapters(self, task: str, base: str = "", k: int = 3, *, actor: str = "") -> Flow:
        """The k adapters whose samples a task sentence resembles most; result {hits}."""
        if not task.strip():
            raise InvalidRequest("Describe the task in a few words.")

        def steps(flow: Flow) -> Steps:
            while not self.librarian.settled(0.5):
                flow.check()
                yield {"type": "progress", "fraction": None, "message": "placing the adapters"}
            vector = self.librarian.query_vector(task, PATIENCE)
            if vector is None:
                raise WorkerFailed("The task could not be embedded in time. Try again.")
            name = base or self.settings.base_model
            hits = self.gallery.retrieve(vector, base=name, k=k, kinds=("uploaded", "demo"))
            return {"hits": [hit.to_dict() for hit in hits], "query": task}

        return Flow(self.worker, steps)

    def cluster_units(
        self,
        sources: Sequence[Mapping[str, Any]],
        module: str = "",
        k: int = 0,
        basis: str = "raw",
        gauge: str = "raw",
        seed: int = 0,
        *,
        actor: str = "",
    ) -> Flow:
        """Clusters rank units and lays them out; result as `tasks.cluster_units`, plus path."""
        entries = [self.gallery.get(str(s["id"])) for s in sources]
        out = self.scratch / "maps" / f"{uuid4().hex}.bin"
        out.parent.mkdir(parents=True, exist_ok=True)
        args = {
            "sources": [
                {"id": e.id, "weight": s.get("weight", 1.0)}
                for e, s in zip(entries, sources, strict=True)
            ],
            "blobs": {e.id: str(self.gallery.blob_path(e.id)) for e in entries},
            "module": module,
            "k": k,
            "basis": basis,
            "gauge": gauge,
            "seed": seed,
            "out": str(out),
        }

        def steps(flow: Flow) -> Steps:
            result = yield from flow.run(Job("cluster_units", args, "light"))
            named = [{"id": e.id, "title": e.title} for e in entries]
            return {**result, "adapters": named, "path": str(out)}

        return Flow(self.worker, steps)

    def plan_composition(self, recipe: Mapping[str, Any], *, actor: str = "") -> Flow:
        """The dry run: rank, size, cosine to each source, cancellation, warnings."""

        def steps(flow: Flow) -> Steps:
            checked = self._composer.full_ids(Recipe.from_dict(recipe))
            result = yield from flow.run(self._composer.dry_run(checked))
            for row in result.get("cosines", []):
                row["title"] = self.gallery.get(row["id"]).title
            return result

        return Flow(self.worker, steps)

    def compose_adapter(
        self, recipe: Mapping[str, Any], title: str = "", *, actor: str = ""
    ) -> Flow:
        """Composes and keeps the result; {recipe_id, adapter_id, entry, notes, existed}."""

        def steps(flow: Flow) -> Steps:
            result = yield from self._composer.compose(flow, Recipe.from_dict(recipe), title, actor)
            self.librarian.changed()
            return result

        return Flow(self.worker, steps)

    def compare_outputs(
        self,
        prompts: Sequence[str],
        columns: Sequence[Mapping[str, Any]],
        sampling: Mapping[str, Any] | None = None,
        seed: int = 0,
        base: str = "",
        *,
        actor: str = "",
    ) -> Flow:
        """Answers every prompt in every column, as rows of one batch; the base comes first.

        Yields {"type": "data", "cells"}; result {cells, columns, tokens_per_second, seconds}. With
        an image base every prompt has one seed (`seed` + its place), cells carry "image", a name
        for `image_path`, and the result {cells, columns, seeds, seconds, steps, guidance, width,
        height}.

        Args:
            sampling: of a text base {max_new_tokens, temperature, ...}; of an image base {steps,
                guidance, width, height, negative, scheduler}, each the model's own if missing.
        """

        if len(prompts) > MAX_PROMPTS:
            raise InvalidRequest(f"Compare at most {MAX_PROMPTS} prompts at once.")
        given = dict(sampling or {})
        name = base or self.settings.base_model
        images = self._bases.modality(name) == "image"
        compare = self._comparer.compare_pictures if images else self._comparer.compare
        return Flow(
            self.worker,
            lambda flow: compare(flow, prompts, columns, name, given, seed, actor),
        )

    def compare_grid(
        self,
        axes: Mapping[str, Any],
        recipe: Mapping[str, Any],
        prompt: str,
        sampling: Mapping[str, Any] | None = None,
        seed: int = 0,
        base: str = "",
        *,
        actor: str = "",
    ) -> Flow:
        """Pictures of one prompt with two settings varied; yields and returns as `compare_outputs`.

        Args:
            axes: {"x": axis, "y": axis}; an axis is {"kind": "weight" | "method" | "seed" | "steps"
                | "guidance" | "prompt", "values": "0-1.2 (+0.2)", a comma list or a list,
                "source": adapter id for "weight"}.
        """
        name, given = base or self.settings.base_model, dict(sampling or {})
        if self._bases.modality(name) != "image":
            raise InvalidRequest("A grid is made of pictures. Choose an image model.")
        return Flow(
            self.worker,
            lambda flow: self._grids.compare(flow, axes, recipe, prompt, name, given, seed),
        )

    def run_tests(
        self,
        columns: Sequence[Mapping[str, Any]],
        sources: Sequence[str],
        n: int = 50,
        seed: int = 0,
        base: str = "",
        *,
        actor: str = "",
    ) -> Flow:
        """Exact match of each column on test prompts of adapters (by id) or suites (by name).

        Result {rows: [{column, title, suite, n, correct, rate, low, high}]}, intervals of 95 %.
        """
        name = base or self.settings.base_model
        return Flow(
            self.worker,
            lambda flow: self._comparer.run_tests(flow, columns, sources, n, name, seed, actor),
        )
