"""Families of base models whose adapters are told apart, as data: names, homes, widths, depths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lora_studio.formats.originals import TABLES
from lora_studio.registry import Registry


@dataclass(frozen=True)
class Known:
    """One family. What this studio can run is another matter: see `family.FAMILIES`.

    Args:
        name, title: "sd1"; for people.
        home: Hub id of the model most of its adapters were trained on; "" for language models.
        specs: how ModelSpec's name of its architecture begins.
        versions: how kohya's `ss_base_model_version` begins.
        widths: of a transformer's attention, in all its sizes; () for other models.
        blocks: stack of a transformer -> how many blocks its largest model has.
        twin: a family with the same modules, which is meant where nothing tells the two apart.
        names: the table of its modules' names, if not its own.
    """

    name: str
    title: str
    home: str = ""
    specs: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    blocks: Mapping[str, int] = field(default_factory=dict)
    twin: str = ""
    names: str = ""

    @property
    def modules(self) -> frozenset[str]:
        """diffusers' names of a transformer's modules, "{}" for the number of a block."""
        tables = {table.name: table for table in TABLES}
        table = tables.get(self.names or self.name)
        return table.modules() if table else frozenset()


KNOWN: Registry[Known] = Registry("family of base models")

for _known in (
    Known(
        "sd1",
        "Stable Diffusion 1.x",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        specs=("stable-diffusion-v1",),
        versions=("sd_v1",),
    ),
    Known(
        "sd2",
        "Stable Diffusion 2.x",
        "stabilityai/stable-diffusion-2-1",
        specs=("stable-diffusion-v2",),
        versions=("sd_v2",),
    ),
    Known(
        "sdxl",
        "Stable Diffusion XL",
        "stabilityai/stable-diffusion-xl-base-1.0",
        specs=("stable-diffusion-xl-v1-base",),
        versions=("sdxl_base",),
    ),
    Known(
        "sd3",
        "Stable Diffusion 3",
        "stabilityai/stable-diffusion-3-medium-diffusers",
        specs=("stable-diffusion-3",),
        versions=("sd3",),
        widths=(1536, 2432),
        blocks={"transformer_blocks": 38},
    ),
    Known(
        "flux",
        "Flux.1",
        "black-forest-labs/FLUX.1-dev",
        specs=("flux-1", "Flux.1"),
        versions=("flux1",),
        widths=(3072,),
        blocks={"transformer_blocks": 19, "single_transformer_blocks": 38},
    ),
    Known(
        "chroma",
        "Chroma",
        "lodestones/Chroma1-HD",
        specs=("chroma",),
        versions=("chroma",),
        widths=(3072,),
        blocks={"transformer_blocks": 19, "single_transformer_blocks": 38},
        twin="flux",
        names="flux",
    ),
    Known(
        "qwen-image",
        "Qwen-Image",
        "Qwen/Qwen-Image",
        specs=("qwen-image", "Qwen-Image"),
        versions=("qwen_image", "qwen-image"),
        widths=(3072,),
        blocks={"transformer_blocks": 60},
    ),
    Known(
        "z-image",
        "Z-Image",
        "Tongyi-MAI/Z-Image-Turbo",
        specs=("z-image", "Z-Image"),
        versions=("z_image", "zimage"),
        widths=(3840,),
        blocks={"layers": 30},
    ),
    Known(
        "wan",
        "Wan",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        specs=("wan", "Wan"),
        versions=("wan",),
        widths=(1536, 3072, 5120),
        blocks={"blocks": 40},
    ),
    Known(
        "hunyuan-video",
        "HunyuanVideo",
        "hunyuanvideo-community/HunyuanVideo",
        specs=("hunyuan-video", "HunyuanVideo"),
        versions=("hunyuan_video", "hunyuan-video"),
        widths=(3072,),
        blocks={"transformer_blocks": 20, "single_transformer_blocks": 40},
        twin="flux",
    ),
    Known(
        "ltx-video",
        "LTX-Video",
        "Lightricks/LTX-Video",
        specs=("ltx-video", "LTX-Video"),
        versions=("ltxv",),
        widths=(2048, 4096),
        blocks={"transformer_blocks": 48},
    ),
    Known("causal-lm", "a language model"),
):
    KNOWN.register(_known.name, _known)
