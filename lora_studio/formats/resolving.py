"""From names in a model's original code, or with underscores for dots, to places in a pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lora_studio.formats.cuts import Cut
from lora_studio.formats.dialect import Place
from lora_studio.formats.kohya_names import dotted
from lora_studio.formats.names import of_transformer, place
from lora_studio.formats.originals import FLUX, T5, TABLES, Table
from lora_studio.formats.originals.table import choose

THIRD = "text_encoder_3"


class Named(NamedTuple):
    """A tensor's name taken apart.

    Args:
        part: the text encoder it is of; "" for the model that makes the pictures.
        rest: the module's name there, with dots or underscores.
        spelled: the module as the file has it.
        role: of the tensor.
    """

    part: str
    rest: str
    spelled: str
    role: str


def resolve(names: Mapping[str, Named | None]) -> dict[str, Place | None]:
    """Tensor -> its place; None where its name is none that is known."""
    denoiser = {n.rest for n in names.values() if n and not n.part}
    table = choose(TABLES, denoiser)
    words = {rest: dotted(rest.replace(".", "_")) for rest in denoiser}
    transformer = of_transformer(path for path in words.values() if path)
    found: dict[str, Place | None] = {}
    for key, name in names.items():
        if name is None:
            found[key] = None
        elif name.part:
            found[key] = _of_encoder(name, table)
        elif table and (cut := table.find(name.rest)):
            found[key] = _of_cut(name, cut)
        else:
            found[key] = _of_words(name, words[name.rest], transformer)
    return found


def _of_cut(name: Named, cut: Cut) -> Place:
    cut = cut.under("transformer")
    whole = len(cut.paths) == 1
    path = cut.paths[0] if whole else f"transformer.{name.rest}"
    simple = whole and not cut.shares and not cut.swapped
    return Place("transformer", path, name.spelled, name.role, None if simple else cut)


def _of_words(name: Named, path: str | None, transformer: bool) -> Place | None:
    if path is None:
        return None
    component, canonical = place(path, transformer)
    if component == "model":
        return None
    return Place(component, canonical, name.spelled, name.role)


def _of_encoder(name: Named, table: Table | None) -> Place | None:
    """CLIP's layers and T5's; the T5 that kohya's scripts call the third is Flux's second."""
    found = T5.find(name.rest)
    if found is not None:
        part = "text_encoder_2" if name.part == THIRD and table is FLUX else name.part
        return Place(part, f"{part}.{found.paths[0]}", name.spelled, name.role)
    path = dotted(name.rest.replace(".", "_"))
    if path is None:
        return None
    component, canonical = place(f"{name.part}.{path}")
    return Place(component, canonical, name.spelled, name.role)
