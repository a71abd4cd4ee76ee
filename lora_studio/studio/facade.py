"""The one object that pages, API, CLI and notebooks are given: every action of the product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_studio.compare import MAX_PROMPTS
from lora_studio.composition import Recipe
from lora_studio.composition.choice import FITS
from lora_studio.errors import InvalidRequest, WorkerFailed
from lora_studio.families import modality_of
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio.adding import add_adapter
from lora_studio.studio.columns import Columns, named
from lora_studio.studio.comparing import PATIENCE, Comparer, list_suites
from lora_studio.studio.demos import add_demo
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.grids import Grids
from lora_studio.studio.janitor import Janitor
from lora_studio.studio.permissions import Actor
from lora_studio.studio.recipe_desk import RecipeDesk
from lora_studio.studio.unit_map import cluster_units
from lora_studio.worker.job import Job, Worker
from lora_studio.worker.local import LocalWorker


class Studio(RecipeDesk):
    """Gallery, workers and everything that can be done with them.

    Methods that take long return a Flow: iterate its events, or call `.result()`. All take `actor`,
    who asks, and do for each what `permissions.TABLE` says; values in and out are plain JSON.
    """

    def __init__(self, settings: Settings, gallery: Gallery, worker: Worker) -> None:
        super().__init__(settings, gallery, worker)
        columns = Columns(gallery, self._composer, self._access, self.scratch)
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
        worker.submit(Job("verdict", {}, "figures"))
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

    def check_base(self, base: str, *, actor: Actor | None = None) -> Flow:
        """Loads a base model; result {device, parameters, dtype, ...}."""

        who = self._generating(actor, counted=False)
        self._bases.permit(base)

        def steps(flow: Flow) -> Steps:
            self._bases.fetch(base)
            return (yield from flow.run(self._describe(base)))

        return self._flow(who, steps)

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
        private: bool = False,
        actor: Actor | None = None,
    ) -> Flow:
        """Checks a file and adds it; result is its entry with {report, existed}.

        Args:
            fallback_base: base model to take where nothing else tells it.
            private: whether only its owner sees it.
        """
        who = self._access.actor(actor)
        self._access.check(who, "upload")

        def steps(flow: Flow) -> Steps:
            result = yield from add_adapter(
                flow,
                self.settings,
                self.gallery,
                path,
                dict(card or {}),
                who,
                self._access,
                self._bases.allowed(),
                fallback_base,
                private,
            )
            self.librarian.changed()
            return result

        return self._flow(who, steps)

    def retrieve_adapters(
        self, task: str, base: str = "", k: int = 3, *, actor: Actor | None = None
    ) -> Flow:
        """The k adapters whose samples a task sentence resembles most; result {hits, query,
        embedder: what their similarities are measured with, fits: whether the nearest is
        nearer than a blank text, or nearly so; always for image models, whose prompts name much
        besides what an adapter is for}."""
        if not task.strip():
            raise InvalidRequest("Describe the task in a few words.")
        who, name = self._access.actor(actor), base or self.settings.base_model
        self._quotas.search(who)
        viewer = self._access.viewer(who, chosen_for_them=True)

        def steps(flow: Flow) -> Steps:
            yield from self.librarian.placing(flow.check)
            vector = self.librarian.query_vector(task, PATIENCE)
            if vector is None:
                raise WorkerFailed("The task could not be embedded in time. Try again.")
            kinds = ("uploaded", "demo")
            hits = self.gallery.retrieve(vector, base=name, k=k, kinds=kinds, viewer=viewer)
            told = [self._access.told(hit.to_dict(), who) for hit in hits]
            blank = self.gallery.cosine(vector, self.librarian.blank())
            near = any((hit.similarity or 0.0) - blank >= FITS for hit in hits[:1])
            fits = near or modality_of(name) == "image"
            embedder = self.gallery.retriever_id
            return {"hits": told, "query": task, "embedder": embedder, "fits": fits}

        return self._flow(who, steps)

    def cluster_units(
        self,
        sources: Sequence[Mapping[str, Any]],
        module: str = "",
        k: int = 0,
        basis: str = "raw",
        gauge: str = "raw",
        seed: int = 0,
        *,
        result: str = "",
        actor: Actor | None = None,
    ) -> Flow:
        """Clusters rank units and lays them out; result as `tasks.cluster_units`, plus path.

        Args:
            result: id of a composition whose units are shown among them, with whose they are.
        """
        who = self._access.actor(actor)
        entries = [self._access.entry(str(s["id"]), who) for s in sources]
        weights = [s.get("weight", 1.0) for s in sources]
        weighted = list(zip(entries, weights, strict=True))
        made = self._access.entry(result, who) if result else None
        wish = {"module": module, "k": k, "basis": basis, "gauge": gauge, "seed": seed}
        folder = self.scratch / "maps"
        return self._flow(
            who, lambda flow: cluster_units(flow, self.gallery, weighted, made, wish, folder)
        )

    def plan_composition(self, recipe: Mapping[str, Any], *, actor: Actor | None = None) -> Flow:
        """The dry run: rank, size, cosine to each source, cancellation, warnings."""
        who = self._access.actor(actor)

        def steps(flow: Flow) -> Steps:
            wanted = self._access.recipe(Recipe.from_dict(recipe), who)
            checked = self._composer.full_ids(wanted)
            result = yield from flow.run(self._composer.dry_run(checked))
            for row in result.get("cosines", []):
                row["title"] = self.gallery.get(row["id"]).title
            return result

        return self._flow(who, steps)

    def compose_adapter(
        self, recipe: Mapping[str, Any], title: str = "", *, actor: Actor | None = None
    ) -> Flow:
        """Composes and keeps the result; {recipe_id, adapter_id, entry, notes, existed}."""
        who = self._generating(actor)

        def steps(flow: Flow) -> Steps:
            wanted = self._access.recipe(Recipe.from_dict(recipe), who)
            result = yield from self._composer.compose(flow, wanted, title, who)
            self.librarian.changed()
            return result

        return self._flow(who, steps)

    def compare_outputs(
        self,
        prompts: Sequence[str],
        columns: Sequence[Mapping[str, Any]],
        sampling: Mapping[str, Any] | None = None,
        seed: int = 0,
        base: str = "",
        *,
        actor: Actor | None = None,
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
        who = self._generating(actor, name)
        self._access.visible(named(columns), who)
        images = self._bases.modality(name) == "image"
        compare = self._comparer.compare_pictures if images else self._comparer.compare
        return self._flow(who, lambda flow: compare(flow, prompts, columns, name, given, seed, who))

    def compare_grid(
        self,
        axes: Mapping[str, Any],
        recipe: Mapping[str, Any],
        prompt: str,
        sampling: Mapping[str, Any] | None = None,
        seed: int = 0,
        base: str = "",
        *,
        actor: Actor | None = None,
    ) -> Flow:
        """Pictures of one prompt with two settings varied; yields and returns as `compare_outputs`.

        Args:
            axes: {"x": axis, "y": axis}; an axis is {"kind": "weight" | "method" | "seed" | "steps"
                | "guidance" | "prompt", "values": "0-1.2 (+0.2)", a comma list or a list,
                "source": adapter id for "weight"}.
        """
        name, given = base or self.settings.base_model, dict(sampling or {})
        who = self._generating(actor, name)
        if self._bases.modality(name) != "image":
            raise InvalidRequest("A grid is made of pictures. Choose an image model.")
        self._access.recipe(Recipe.from_dict(recipe), who)
        return self._flow(
            who,
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
        actor: Actor | None = None,
    ) -> Flow:
        """Exact match of each column on test prompts of adapters (by id) or suites (by name).

        Result {rows: [{column, title, suite, n, correct, rate, low, high}]}, intervals of 95 %.
        """
        name = base or self.settings.base_model
        who = self._generating(actor, name)
        suites = {suite["name"] for suite in list_suites()}
        self._access.visible(named(columns) | (set(sources) - suites), who)
        return self._flow(
            who,
            lambda flow: self._comparer.run_tests(flow, columns, sources, n, name, seed, who),
        )
