"""What the studio answers at once: no job, no queue, only the gallery and small files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lora_studio.composition import Recipe, Routed, Scheduled
from lora_studio.demo.vocabulary import example_prompts, unknown_words
from lora_studio.errors import NotFound
from lora_studio.families.blocks import block_norms, block_of
from lora_studio.formats import EXPORTS
from lora_studio.formats.halves import checked_dtype
from lora_studio.gallery import Gallery
from lora_studio.rank_units.measures import measure
from lora_studio.settings import DEMO_BASE, Settings
from lora_studio.studio import exports, facts, picture_exports
from lora_studio.studio.access import Access, Seen
from lora_studio.studio.bases import Bases
from lora_studio.studio.comparing import list_suites
from lora_studio.studio.composing import Composer
from lora_studio.studio.flow import Flow, Steps
from lora_studio.studio.librarian import Librarian
from lora_studio.studio.mixed import kept_result, routed_plan
from lora_studio.studio.permissions import Actor
from lora_studio.studio.quotas import Quotas
from lora_studio.studio.rendering import Renderer
from lora_studio.studio.votes import Votes
from lora_studio.worker.job import Worker


class AtOnce:
    """The part of a studio that needs no job. Methods take `actor`, who asks."""

    def __init__(self, settings: Settings, gallery: Gallery, worker: Worker) -> None:
        self.settings = settings
        self.gallery = gallery
        self.worker = worker
        self.librarian = Librarian(settings, gallery, worker)
        self.scratch = settings.scratch_dir
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._access = Access(settings.hosting, gallery)
        self._quotas = Quotas(settings.hosting.quota)
        self._bases = Bases(settings, gallery)
        self._renderer = Renderer(settings)
        self._votes = Votes(gallery)
        self._composer = Composer(settings, gallery, self._bases, self._access)

    def _flow(self, who: Actor, steps: Callable[[Flow], Steps]) -> Flow:
        """A flow that holds one of the person's places among the running jobs."""

        def held(flow: Flow) -> Steps:
            with self._quotas.job(who):
                return (yield from steps(flow))

        return Flow(self.worker, held)

    def _generating(
        self, actor: Actor | None, base: str | None = None, *, counted: bool = True
    ) -> Actor:
        """Who asks, if they may run something, on `base`; counted against their quota."""
        who = self._access.actor(actor)
        self._access.check(who, "generate")
        if base is not None:
            self._bases.permit(base)
        if counted:
            self._quotas.generation(who)
        return who

    def get_status(self, *, actor: Actor | None = None) -> dict[str, Any]:
        """Device, memory, queue and search mode, as the header shows them."""
        return facts.status(self.settings, self.gallery, self.worker, self.librarian)

    def list_base_models(self, *, actor: Actor | None = None) -> list[dict[str, Any]]:
        """Base models of the gallery's adapters, the configured one first."""
        return self._bases.list()

    def get_base_model(self, id: str = "", *, actor: Actor | None = None) -> dict[str, Any]:
        """{id, title, kind, modality, family} of a base model, also of one only named."""
        return self._bases.describe(id)

    def search_adapters(
        self,
        query: str = "",
        *,
        patience: float | None = None,
        actor: Actor | None = None,
        **filters: Any,
    ) -> dict[str, Any]:
        """Searches the gallery by meaning, or by keywords until the embedder is ready.

        Args:
            filters: base, modality, tags, contributors, licences, ranks, kinds, sort, offset,
                limit.
        """
        who = self._access.actor(actor)
        self._quotas.search(who)
        waits = {} if patience is None else {"patience": patience}
        vector = self.librarian.query_vector(query, **waits) if query.strip() else None
        viewer = self._access.viewer(who)
        found = self.gallery.search(query, vector, viewer=viewer, **filters).to_dict()
        return {**found, "hits": [self._access.told(hit, who) for hit in found["hits"]]}

    def get_adapter(self, id: str, *, actor: Actor | None = None) -> dict[str, Any]:
        """One adapter with its modules, blocks, report card, twins, similar adapters and number of
        test prompts."""
        who = self._access.actor(actor)
        entry, viewer = self._access.entry(id, who), self._access.viewer(who)
        adapter = self.gallery.adapter(entry.id)
        table = [
            {"module": n, "rank": m.rank, "d_in": m.d_in, "d_out": m.d_out, "norm": m.norm()}
            for n, m in adapter.factors.items()
        ]
        similar = self.gallery.similar(entry.id, viewer=viewer)
        return {
            **self._access.told(entry.to_dict(), who),
            "module_table": table,
            "blocks": _blocks(entry.modality, table),
            "tests": len(self.gallery.tests(entry.id)),
            "measures": dict(entry.measures or measure(adapter)),
            "twins": [twin.to_dict() for twin in self.gallery.twins(entry.id, viewer)],
            "similar": [self._access.told(hit.to_dict(), who) for hit in similar],
        }

    def thumbnail_path(self, id: str, *, actor: Actor | None = None) -> Path:
        """The PNG that shows an adapter; raises NotFound where it has none."""
        entry = self._access.entry(id, self._access.actor(actor))
        return self.gallery.thumbnail_path(entry.id)

    def image_path(self, name: str, *, actor: Actor | None = None) -> Path:
        """The PNG of a comparison's cell by the name it gave; it is kept for about an hour."""
        return self._renderer.path(name)

    def delete_adapter(self, id: str, *, actor: Actor | None = None) -> None:
        """Takes an adapter out of the gallery; `restore_adapter` brings it back."""
        who = self._access.actor(actor)
        self.gallery.delete(self._access.entry(id, who, "delete").id, who.sub)

    def restore_adapter(self, id: str, *, actor: Actor | None = None) -> None:
        """Undoes `delete_adapter`."""
        who = self._access.actor(actor)
        self.gallery.restore(self._access.entry(id, who, "restore").id, who.sub)

    def list_methods(self, *, actor: Actor | None = None) -> list[dict[str, Any]]:
        """All methods with their parameters, in the order of the menu."""
        return facts.methods()

    def get_recipe(self, id: str, *, actor: Actor | None = None) -> dict[str, Any]:
        """A stored recipe as {id, yaml, recipe, result, adapter_id, created}."""
        return self._access.stored_recipe(id, self._access.actor(actor))

    def record_votes(
        self, ballot: Mapping[str, Any], *, actor: Actor | None = None
    ) -> dict[str, Any]:
        """Stores blind votes on a comparison and tells their tally; see `Votes.record`."""
        who = self._access.actor(actor)
        self._access.check(who, "vote")
        self._quotas.search(who)
        if any(self._unseen(column, who) for column in _columns(ballot)):
            raise NotFound("One of these columns is not in this gallery any more.")
        return self._votes.record(ballot, "" if who.local else who.key)

    def list_votes(self, base: str = "", *, actor: Actor | None = None) -> list[dict[str, Any]]:
        """The latest blind votes on a base model, each with its tally."""
        who = self._access.actor(actor)
        ballots = self._votes.list(base or self.settings.base_model)
        return [b for b in ballots if not any(self._unseen(c, who) for c in b["columns"])]

    def _unseen(self, column: Mapping[str, Any], who: Actor) -> bool:
        """Whether a column of a ballot stands for something that is hidden from `who`."""
        recipe_id = str(column.get("recipe_id") or "")
        if recipe_id and self._access.hidden_recipe(recipe_id, who):
            return True
        return self._access.hidden(str(column.get("id") or ""), who)

    def hint_for(
        self, prompt: str, base: str = "", *, actor: Actor | None = None
    ) -> dict[str, Any] | None:
        """Words the demo model has never seen, with prompts to try instead; None if all is well."""
        if (base or self.settings.base_model) != DEMO_BASE:
            return None
        unknown = unknown_words(prompt)
        return {"unknown": unknown, "examples": example_prompts(4, seed=0)} if unknown else None

    def list_suites(self, *, actor: Actor | None = None) -> list[dict[str, str]]:
        """Test files that belong to no adapter, as {name, title}: tasks that need several."""
        return list_suites()

    def export_adapter(
        self, id: str, format: str = "peft", dtype: str = "", *, actor: Actor | None = None
    ) -> str:
        """Path of a file for other programs, read back and compared before it is handed out.

        Args:
            format: "peft" (a zip that `PeftModel.from_pretrained` loads once unpacked); of an image
                adapter also "diffusers" or "kohya" (ComfyUI, A1111), one .safetensors each.
            dtype: of the factors, "float32", "float16" or "bfloat16"; "" is the format's usual one.
        """
        seen = Seen(self.gallery, self._access, self._access.actor(actor))
        entry, folder = seen.get(id), self._exports(seen.actor)
        if dtype:
            checked_dtype(dtype)
        if format == "peft":
            return str(exports.export_peft(seen, entry.id, folder, dtype))
        EXPORTS.get(format)  # an unknown one is told apart from one that does not fit
        family = self._bases.family(entry.base_model)
        return str(picture_exports.export_file(seen, entry.id, format, family, folder, dtype))

    def _exports(self, who: Actor) -> Path:
        """Where this person's downloads are made: what one is given says more than another's."""
        folder = self.scratch / "exports" / sha256(who.sub.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def export_routed(self, recipe: Mapping[str, Any], *, actor: Actor | None = None) -> str:
        """Path of a zip of a plan that is carried out at run time: its sources and its recipe, and
        for text a script that runs it.

        Raises:
            InvalidRequest: the recipe is a merge, or has to be composed first.
        """
        seen = Seen(self.gallery, self._access, self._access.actor(actor))
        wanted = self._access.recipe(Recipe.from_dict(recipe), seen.actor)
        checked, folder = self._composer.full_ids(wanted), self._exports(seen.actor)
        plan = routed_plan(checked, seen.adapter, lambda: kept_result(self.gallery, checked))
        if isinstance(plan, Scheduled):
            return str(picture_exports.export_scheduled(seen, checked, plan, folder))
        assert isinstance(plan, Routed)
        embedder = self.settings.embedder
        return str(exports.export_routed(seen, checked, plan, embedder, folder))


def _columns(ballot: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    columns = ballot.get("columns")
    found = columns if isinstance(columns, list) else []
    return [column for column in found if isinstance(column, Mapping)]


def _blocks(modality: str, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """[{block, modules, norm}] of an image adapter, in the order a picture passes them."""
    if modality != "image":
        return []
    norms = block_norms((row["module"], row["norm"]) for row in table)
    names = [block_of(row["module"]) for row in table]
    return [{"block": b, "modules": names.count(b), "norm": norm} for b, norm in norms.items()]
