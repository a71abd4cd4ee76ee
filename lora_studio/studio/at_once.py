"""What the studio answers at once: no job, no queue, only the gallery and small files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lora_studio.composition import Merged, Recipe, Scheduled, run_recipe
from lora_studio.demo.vocabulary import example_prompts, unknown_words
from lora_studio.errors import InvalidRequest
from lora_studio.formats import EXPORTS
from lora_studio.gallery import Gallery
from lora_studio.gallery.blocks import block_norms, block_of
from lora_studio.rank_units.measures import measure
from lora_studio.settings import DEMO_BASE, Settings
from lora_studio.studio import exports, facts, picture_exports
from lora_studio.studio.bases import Bases
from lora_studio.studio.comparing import list_suites
from lora_studio.studio.composing import Composer
from lora_studio.studio.librarian import Librarian
from lora_studio.studio.rendering import Renderer
from lora_studio.studio.votes import Votes
from lora_studio.worker.job import Worker


class AtOnce:
    """The part of a studio that needs no job. Methods take `actor`, the name of who asks."""

    def __init__(self, settings: Settings, gallery: Gallery, worker: Worker) -> None:
        self.settings = settings
        self.gallery = gallery
        self.worker = worker
        self.librarian = Librarian(settings, gallery, worker)
        self.scratch = settings.scratch_dir
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._bases = Bases(settings, gallery)
        self._renderer = Renderer(settings)
        self._votes = Votes(gallery)
        self._composer = Composer(settings, gallery, self._bases)

    def get_status(self, *, actor: str = "") -> dict[str, Any]:
        """Device, memory, queue and search mode, as the header shows them."""
        return facts.status(self.settings, self.gallery, self.worker, self.librarian)

    def list_base_models(self, *, actor: str = "") -> list[dict[str, Any]]:
        """Base models of the gallery's adapters, the configured one first."""
        return self._bases.list()

    def get_base_model(self, id: str = "", *, actor: str = "") -> dict[str, Any]:
        """{id, title, kind, modality, family} of a base model, also of one only named."""
        return self._bases.describe(id)

    def search_adapters(
        self, query: str = "", *, patience: float | None = None, actor: str = "", **filters: Any
    ) -> dict[str, Any]:
        """Searches the gallery by meaning, or by keywords until the embedder is ready.

        Args:
            filters: base, modality, tags, contributors, licences, ranks, kinds, sort, offset,
                limit.
        """
        waits = {} if patience is None else {"patience": patience}
        vector = self.librarian.query_vector(query, **waits) if query.strip() else None
        return self.gallery.search(query, vector, **filters).to_dict()

    def get_adapter(self, id: str, *, actor: str = "") -> dict[str, Any]:
        """One adapter with its modules, blocks, report card, twins, similar adapters and number of
        test prompts."""
        entry = self.gallery.get(id)
        adapter = self.gallery.adapter(entry.id)
        table = [
            {"module": n, "rank": m.rank, "d_in": m.d_in, "d_out": m.d_out, "norm": m.norm()}
            for n, m in adapter.factors.items()
        ]
        return {
            **entry.to_dict(),
            "module_table": table,
            "blocks": _blocks(entry.modality, table),
            "tests": len(self.gallery.tests(entry.id)),
            "measures": dict(entry.measures or measure(adapter)),
            "twins": [twin.to_dict() for twin in self.gallery.twins(entry.id)],
            "similar": [hit.to_dict() for hit in self.gallery.similar(entry.id)],
        }

    def thumbnail_path(self, id: str, *, actor: str = "") -> Path:
        """The PNG that shows an adapter; raises NotFound where it has none."""
        return self.gallery.thumbnail_path(id)

    def image_path(self, name: str, *, actor: str = "") -> Path:
        """The PNG of a comparison's cell by the name it gave; it is kept for about an hour."""
        return self._renderer.path(name)

    def delete_adapter(self, id: str, *, actor: str = "") -> None:
        """Takes an adapter out of the gallery; `restore_adapter` brings it back."""
        self.gallery.delete(id)

    def restore_adapter(self, id: str, *, actor: str = "") -> None:
        """Undoes `delete_adapter`."""
        self.gallery.restore(id)

    def list_methods(self, *, actor: str = "") -> list[dict[str, Any]]:
        """All methods with their parameters, in the order of the menu."""
        return facts.methods()

    def get_recipe(self, id: str, *, actor: str = "") -> dict[str, Any]:
        """A stored recipe as {id, yaml, recipe, result, adapter_id, created}."""
        found = self.gallery.get_recipe(id)
        return {**found, "recipe": Recipe.from_yaml(found["yaml"]).to_dict()}

    def record_votes(self, ballot: Mapping[str, Any], *, actor: str = "") -> dict[str, Any]:
        """Stores blind votes on a comparison and tells their tally; see `Votes.record`."""
        return self._votes.record(ballot, actor)

    def list_votes(self, base: str = "", *, actor: str = "") -> list[dict[str, Any]]:
        """The latest blind votes on a base model, each with its tally."""
        return self._votes.list(base or self.settings.base_model)

    def hint_for(self, prompt: str, base: str = "", *, actor: str = "") -> dict[str, Any] | None:
        """Words the demo model has never seen, with prompts to try instead; None if all is well."""
        if (base or self.settings.base_model) != DEMO_BASE:
            return None
        unknown = unknown_words(prompt)
        return {"unknown": unknown, "examples": example_prompts(4, seed=0)} if unknown else None

    def list_suites(self, *, actor: str = "") -> list[dict[str, str]]:
        """Test files that belong to no adapter, as {name, title}: tasks that need several."""
        return list_suites()

    def export_adapter(self, id: str, format: str = "peft", *, actor: str = "") -> str:
        """Path of a file for other programs, read back and compared before it is handed out.

        Args:
            format: "peft" (a zip that `PeftModel.from_pretrained` loads once unpacked); of an image
                adapter also "diffusers" or "kohya" (ComfyUI, A1111), one .safetensors each.
        """
        folder = self.scratch / "exports"
        folder.mkdir(parents=True, exist_ok=True)
        if format == "peft":
            return str(exports.export_peft(self.gallery, id, folder))
        EXPORTS.get(format)  # an unknown one is told apart from one that does not fit
        family = self._bases.family(self.gallery.get(id).base_model)
        return str(picture_exports.export_file(self.gallery, id, format, family, folder))

    def export_routed(self, recipe: Mapping[str, Any], *, actor: str = "") -> str:
        """Path of a zip of a plan that is carried out at run time: its sources and its recipe, and
        for text a script that runs it.

        Raises:
            InvalidRequest: the recipe is a merge.
        """
        checked = self._composer.full_ids(Recipe.from_dict(recipe))
        folder = self.scratch / "exports"
        plan = run_recipe(checked, self.gallery.adapter)
        if isinstance(plan, Merged):
            raise InvalidRequest("This recipe makes one adapter; compose it and download that.")
        if isinstance(plan, Scheduled):
            return str(picture_exports.export_scheduled(self.gallery, checked, plan, folder))
        embedder = self.settings.embedder
        return str(exports.export_routed(self.gallery, checked, plan, embedder, folder))


def _blocks(modality: str, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """[{block, modules, norm}] of an image adapter, in the order a picture passes them."""
    if modality != "image":
        return []
    norms = block_norms((row["module"], row["norm"]) for row in table)
    names = [block_of(row["module"]) for row in table]
    return [{"block": b, "modules": names.count(b), "norm": norm} for b, norm in norms.items()]
