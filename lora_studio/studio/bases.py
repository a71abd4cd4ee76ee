"""What is known of a base model without loading it: title, modality and family."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from lora_studio.adapter import Modality
from lora_studio.composition.gate import KIND
from lora_studio.errors import NotAllowed
from lora_studio.families import modality_of, resolve_base
from lora_studio.families.base_model import PIPELINE
from lora_studio.families.family import family_of_pipeline
from lora_studio.fitted import find
from lora_studio.gallery import Gallery
from lora_studio.settings import DEMO_BASE, DEMO_IMAGE_BASE, Settings

TITLES = {DEMO_BASE: "Demo (tiny Llama)", DEMO_IMAGE_BASE: "Demo (tiny diffusion)"}
UNET = "unet/config.json"
ETAG_SECONDS = 3.0
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


class Bases:
    """The base models of a studio: those configured, embedded, or named by adapters."""

    def __init__(self, settings: Settings, gallery: Gallery) -> None:
        self._settings = settings
        self._gallery = gallery

    def list(self) -> list[dict[str, Any]]:
        """Every one as `describe` tells it, the configured one first."""
        facets = self._gallery.search(limit=1).facets.get("base", [])
        counts = {f["value"]: f["count"] for f in facets if f["value"]}
        embedded = [DEMO_BASE]
        if (self._settings.demo_image_base_dir / PIPELINE).is_file():
            embedded.append(DEMO_IMAGE_BASE)
        names = dict.fromkeys([self._settings.base_model, *embedded, *counts])
        return [{**self.describe(name), "adapters": counts.get(name, 0)} for name in names]

    def describe(self, base: str) -> dict[str, Any]:
        """{id, title, kind, modality, family, gate}; family is "" where it is not known, gate says
        whether one has been fitted for this base."""
        name = base or self._settings.base_model
        if not self._settings.hosting.local and not self._may_look_up(name):
            return {"id": name, "title": name, "kind": "hub", "modality": "text"} | {
                "family": "",
                "gate": False,
            }
        kind = "demo" if name in TITLES else "folder" if Path(name).is_dir() else "hub"
        return {
            "id": name,
            "title": TITLES.get(name, name),
            "kind": kind,
            "modality": self.modality(name),
            "family": self.family(name),
            "gate": find(KIND, name) is not None,
        }

    def allowed(self) -> tuple[str, ...] | None:
        """The base models people may have run; None for any."""
        hosting = self._settings.hosting
        return None if hosting.local else (self._settings.base_model, *TITLES, *hosting.bases)

    def permit(self, base: str) -> None:
        """Raises NotAllowed for a base model that people of a hosted studio may not have run: a
        name is a download from the Hub or a folder of this machine."""
        allowed = self.allowed()
        if allowed is not None and base not in allowed:
            raise NotAllowed(
                f"This studio runs {', '.join(allowed)}; not '{base[:100]}'. Its operator can "
                "allow more with LORA_STUDIO_BASES."
            )

    def _may_look_up(self, name: str) -> bool:
        """Whether a name says nothing about this machine's folders: one that adapters carry."""
        try:
            self.permit(name)
        except NotAllowed:
            return HUB_ID.fullmatch(name) is not None
        return True

    def fetch(self, base: str) -> None:
        """Asks the Hub for the little file that tells an image model; no answer changes nothing."""
        if Path(resolve_base(base)).is_dir():
            return
        with suppress(OSError, ValueError):  # away, unknown, or a model without that file
            hf_hub_download(base, PIPELINE, etag_timeout=ETAG_SECONDS)

    def modality(self, base: str) -> Modality:
        """Whether a base model makes text or images: by its files, else by its adapters."""
        if _file(base, PIPELINE):
            return "image"
        hits = self._gallery.search(base=base, limit=1).hits
        return modality_of(base, hits[0].entry.modality if hits else "text")

    def family(self, base: str) -> str:
        """Name of its image family, "" for language models and what is not on this machine."""
        index = _read(base, PIPELINE)
        context = _read(base, UNET).get("cross_attention_dim")
        width = context if isinstance(context, int) else 768
        found = family_of_pipeline(str(index.get("_class_name")), width)
        return found.name if found else ""


def _read(base: str, name: str) -> dict[str, Any]:
    file = _file(base, name)
    if file is None:
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _file(base: str, name: str) -> Path | None:
    """A file of a base model that is on this machine: in its folder or in the Hub's cache."""
    folder = Path(resolve_base(base))
    if folder.is_dir():
        return folder / name if (folder / name).is_file() else None
    try:
        cached = try_to_load_from_cache(base, name)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None
