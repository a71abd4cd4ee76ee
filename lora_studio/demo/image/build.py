"""Builds the image demo stage by stage: autoencoder, judge, base, adapters, report."""

from __future__ import annotations

import json
import logging
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from lora_studio.composition.gate import KIND, save_gate
from lora_studio.demo.image import adapters, autoencoder, base, cards, judge_training, report
from lora_studio.demo.image.config import build_folder
from lora_studio.demo.image.dialects import write_weights
from lora_studio.demo.image.measure import raw_folder
from lora_studio.demo.image.raw import load_raw
from lora_studio.demo.image.sampling import attach, load_pipeline, sample
from lora_studio.demo.image.specs import AdapterSpec, adapter_specs
from lora_studio.engines.image import ImageEngine
from lora_studio.fitted import beside
from lora_studio.formats import load_adapter
from lora_studio.training.image_gate import fit_gate

log = logging.getLogger(__name__)

FACTS = "training.json"
THUMBNAIL_SEED = 7
GATED = (
    "good-neighbour-heart",
    "good-neighbour-cat",
    "good-neighbour-blueprint",
    "good-neighbour-watercolour",
    "plain-mushroom",
)
"""Adapters that the gate is fitted on: none of those that benchmarks compose."""


def read_facts(root: Path) -> dict[str, Any]:
    """What training recorded: {"vae", "judge", "base", "gate": {}, "adapters": {name: {}}}."""
    path = root / FACTS
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    return {"vae": {}, "judge": {}, "base": {}, "gate": {}, "adapters": {}}


def record(root: Path, kind: str, facts: dict[str, Any]) -> None:
    """Adds to the recorded facts of one kind."""
    known = read_facts(root)
    known[kind] = known.get(kind, {}) | facts
    root.mkdir(parents=True, exist_ok=True)
    (root / FACTS).write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def build_base(root: Path, device: str) -> None:
    """Trains autoencoder, judge (always on the CPU), UNet and text encoder."""
    vae = build_folder() / "vae"
    record(root, "vae", autoencoder.train(vae, device=device))
    record(root, "judge", judge_training.train(root, vae))
    record(root, "base", base.train(vae, root / "base", device=device))


def build_adapters(root: Path, device: str, only: str = "*") -> None:
    """Trains the adapters whose name matches `only`, and writes their folders."""
    for spec in adapter_specs():
        if fnmatch(spec.name, only):
            facts = adapters.train(root / "base", spec, raw_folder(spec.name), device)
            record(root, "adapters", {spec.name: facts})
            write_folder(root, spec)


def build_gate(root: Path, device: str) -> None:
    """Fits the gate of gated fusion on `GATED` and writes it beside the base."""
    sources = {name: load_adapter(root / "adapters" / name) for name in GATED}
    engine = ImageEngine(str(root / "base"), device)
    gate = fit_gate(engine, sources, progress=lambda share, text: log.info("gate: %s", text))
    save_gate(gate, beside(KIND, root / "base"))
    record(root, "gate", dict(gate.facts))


def write_folder(root: Path, spec: AdapterSpec) -> None:
    """Writes weights, thumbnail and card of a trained adapter."""
    folder = root / "adapters" / spec.name
    write_weights(spec.dialect, load_raw(raw_folder(spec.name)), folder, spec.name)
    draw_thumbnail(root, spec, folder / "thumbnail.png")
    cards.write_card(spec, read_facts(root)["adapters"][spec.name], folder)


def thumbnail_prompts(spec: AdapterSpec) -> list[str]:
    """Four prompts that show what the adapter brings."""
    if spec.kind == "content":
        looks = (("red", "sky"), ("yellow", "midnight"), ("white", "sunset"), ("purple", "mint"))
        return [f"a {colour} {spec.teaches}, {place} background" for colour, place in looks]
    shown = (("red house", "sky"), ("yellow tree", "dusk"), ("green cup", "sand"))
    scenes = [f"a {thing}, {place} background" for thing, place in (*shown, ("pink boat", "mint"))]
    return [f"{scene}, {spec.teaches} style" for scene in scenes]


def draw_thumbnail(root: Path, spec: AdapterSpec, path: Path) -> None:
    """Four pictures of the model with the adapter, two by two, at twice their size."""
    from PIL import Image

    pipeline = load_pipeline(root / "base")
    attach(pipeline, raw_folder(spec.name))
    drawn = sample(pipeline, thumbnail_prompts(spec), THUMBNAIL_SEED)  # (4, 64, 64, 3)
    sheet = drawn.reshape(2, 2, 64, 64, 3).swapaxes(1, 2).reshape(128, 128, 3)
    large = Image.fromarray(sheet).resize((256, 256), Image.Resampling.LANCZOS)
    large.save(path, optimize=True)


def build(root: Path, stages: tuple[str, ...], device: str = "cpu", only: str = "*") -> None:
    """Runs the named stages ("base", "adapters", "report") in order."""
    import torch

    torch.set_num_threads(2)
    if "base" in stages:
        build_base(root, device)
    if "adapters" in stages:
        build_adapters(root, device, only)
        build_gate(root, device)
    if "report" in stages:
        report.report(root, read_facts(root))
