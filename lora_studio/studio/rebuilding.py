"""A composition made again from its recipe, without a running studio, and compared with what the
recipe says came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Recipe, Source
from lora_studio.composition.replay import TOLERANCE, Replayed, compare
from lora_studio.errors import InvalidRequest, NotFound, ResultDiffers, SourceChanged
from lora_studio.formats import canonical, load_adapter
from lora_studio.gallery import Gallery
from lora_studio.gallery.tables import DATABASE, FOLDER
from lora_studio.settings import Settings
from lora_studio.studio.composing import composed_card
from lora_studio.studio.peft_folder import slug
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import handler

Report = Callable[[float | None, str], None]


@dataclass(frozen=True)
class Rebuilt:
    """A composition that was made again.

    Args:
        recipe: with whole ids and all parameters.
        sources: id -> adapter of each that took part.
        replayed: how it compares with the recipe's `result`.
    """

    adapter: Adapter
    recipe: Recipe
    sources: Mapping[str, Adapter]
    replayed: Replayed
    notes: tuple[str, ...]


@contextmanager
def rebuild(
    recipe: Recipe,
    settings: Settings,
    files: Sequence[Path] = (),
    title: str = "",
    report: Report = lambda fraction, message: None,
) -> Iterator[Rebuilt]:
    """Carries out a merge's recipe; the adapter's numbers lie in a file that is gone afterwards.

    Methods that only copy and scale give the same bytes everywhere; those that decompose agree to
    `replay.TOLERANCE`. What tunes itself on samples needs the base model, which is then loaded.

    Args:
        files: adapters in any format that stand in for the gallery, known by their contents.
        report: told how far it is.

    Raises:
        NotFound: a source is neither in the gallery nor among the files.
        SourceChanged: a file of a source's title has other contents than the recipe names.
        ResultDiffers: what came out is not what the recipe tells of.
        InvalidRequest: a recipe of a plan that is carried out at run time.
    """
    method = METHODS.get(recipe.method)
    if method.kind != "merging":
        raise InvalidRequest(
            f"{method.title} is carried out while the model runs and makes no adapter. Open the "
            "recipe in the studio and download it as a zip."
        )
    params = method.checked(recipe.params)
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        found = Sources(recipe, settings, files).found()
        recipe = replace(recipe, sources=tuple(f.source for f in found), params=params)
        given = {f.source.id: f for f in found if f.adapter is not None}
        blobs = {
            name: f.blob or home / f"{place}.blob" for place, (name, f) in enumerate(given.items())
        }
        for name, one in given.items():
            if one.blob is None and one.adapter is not None:
                canonical.write(one.adapter, blobs[name])
        out = home / "made.safetensors"
        adapters = {name: one.adapter for name, one in given.items() if one.adapter}
        args = _args(recipe, settings, adapters) | {
            "blobs": {k: str(v) for k, v in blobs.items()},
            "out": str(out),
        }
        context = JobContext(lambda fields: None, report, lambda: False, home)
        made = handler("compose_adapter")(args, context)
        ids = [source.id for source in recipe.active]
        cards = [adapters[name].card for name in ids]
        adapter = canonical.read(out, composed_card(recipe, ids, cards, title, made["notes"]))
        replayed = compare(adapter, recipe.about.get("result"))
        if not replayed.good:
            excuse = made["notes"][-1] if made["untuned"] else ""
            raise ResultDiffers(_difference(recipe, replayed, excuse))
        yield Rebuilt(adapter, recipe, adapters, replayed, tuple(made["notes"]))


def _args(recipe: Recipe, settings: Settings, given: Mapping[str, Adapter]) -> dict[str, Any]:
    args: dict[str, Any] = {"recipe": recipe.to_dict(), "family": ""}
    if METHODS.get(recipe.method).tunes(recipe.params):
        args |= {
            "base": recipe.base.get("repo", ""),
            "device": settings.device,
            "max_rows": settings.max_rows,
            "samples": {name: list(adapter.card.samples) for name, adapter in given.items()},
        }
    return args


def _difference(recipe: Recipe, replayed: Replayed, excuse: str) -> str:
    by = "" if replayed.difference is None else f" by {replayed.difference:.1e} of its size"
    if excuse:
        return f"The recipe tunes itself on its base model, which could not be loaded: {excuse}"
    return (
        f"The result differs{by} from the one the recipe tells of (allowed: {TOLERANCE:g}), though "
        "every source is the same. It was made with another version or base model: "
        f"{_maker(recipe)}."
    )


def _maker(recipe: Recipe) -> str:
    tool = recipe.about.get("tool")
    tool = tool if isinstance(tool, Mapping) else {}
    version = str(tool.get("version", "of an unknown version"))[:40]
    return f"LoRA Studio {version}, {recipe.base.get('repo', '')[:200]}"


@dataclass(frozen=True)
class Found:
    """A source; its adapter, and the gallery's file of it where that is where it comes from."""

    source: Source
    adapter: Adapter | None = None
    blob: Path | None = None


class Sources:
    """The adapters of a recipe, by their contents, from the gallery and from files."""

    def __init__(self, recipe: Recipe, settings: Settings, files: Sequence[Path]) -> None:
        self._recipe = recipe
        self._settings = settings
        self._base = recipe.base.get("repo", "")
        self._files = [(path, self._read(path)) for path in files]

    def found(self) -> list[Found]:
        """Each source by its whole id; with an adapter those that take part."""
        with existing_gallery(self._settings) as gallery:
            return [
                self._one(source, gallery) if source in self._recipe.active else Found(source)
                for source in self._recipe.sources
            ]

    def _one(self, source: Source, gallery: Gallery | None) -> Found:
        for path, adapter in self._files:
            names = {adapter.id, *self._other_ids(adapter)}
            whole = next((n for n in names if len(source.id) >= 8 and n.startswith(source.id)), "")
            if whole or str(path) == source.about.get("file") == source.id:
                return Found(replace(source, id=whole or adapter.id), adapter)
        if gallery is not None:
            try:
                entry = gallery.get(source.id)
                found, blob = gallery.adapter(entry.id), gallery.blob_path(entry.id)
                return Found(replace(source, id=entry.id), found, blob)
            except NotFound:
                pass
        title = str(source.about.get("title") or source.id[:12])[:120]
        for path, adapter in self._files:
            if slug(title, "") in (slug(adapter.card.title, ""), slug(path.stem, "")):
                raise SourceChanged(
                    f"'{title}' has changed: the recipe was made with {source.id[:12]}, and "
                    f"{path.name} is {adapter.id[:12]}. Find the version the recipe names."
                )
        raise NotFound(
            f"'{title}' ({source.id[:12]}) is not in the gallery at {self._settings.data_dir}. "
            "Give its file with --from."
        )

    def _read(self, path: Path) -> Adapter:
        return self._for_base(load_adapter(path))

    def _for_base(self, adapter: Adapter) -> Adapter:
        """The base model is part of an adapter's id; the recipe says which it was taken for."""
        own = adapter.card.base_model
        if own and self._base and own != self._base:
            return adapter
        return replace(adapter, card=replace(adapter.card, base_model=self._base))

    def _other_ids(self, adapter: Adapter) -> Iterator[str]:
        """Its ids under the base the recipe names and under none."""
        for base in (self._base, ""):
            yield replace(adapter, card=replace(adapter.card, base_model=base)).id


@contextmanager
def existing_gallery(settings: Settings) -> Iterator[Gallery | None]:
    """The gallery, if there is one; none is made."""
    if not (settings.data_dir / FOLDER / DATABASE).is_file():
        yield None
        return
    gallery = Gallery.open(settings)
    try:
        yield gallery
    finally:
        gallery.close()
