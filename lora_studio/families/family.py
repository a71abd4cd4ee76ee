"""Families of image models as data: which pipeline runs them, where a prompt's embeddings go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lora_studio.registry import Registry

Half = Literal["uncond", "cond"]


@dataclass(frozen=True)
class Embeds:
    """One tensor of a prompt's embedding.

    Args:
        argument: name in the pipeline's call; its counterpart is "negative_<argument>".
        denoiser: where the denoiser is given it: a keyword, or "keyword.key" of a dictionary.
    """

    argument: str
    denoiser: str


@dataclass(frozen=True)
class Family:
    """One kind of diffusers pipeline.

    Args:
        name, title: "sd1"; for people.
        pipelines: class names of diffusers.
        denoiser: attribute of the pipeline that predicts.
        text_encoders: attributes whose modules an adapter may touch.
        halves: order of the batch under guidance; () if guidance is embedded or runs in two calls.
        guidance: name of the guidance argument; the strength a plain run uses is `strength`.
        embeds: what the text encoders give; () where the pipeline is handed the prompt itself, and
            adapters of the text encoder are refused.
        negative: whether a negative prompt is understood.
        size: side of a picture in pixels when nothing is said.
        mixes_rows: whether the denoiser joins the rows of a batch inside, so that rows of
            different adapters must run one after another.
    """

    name: str
    title: str
    pipelines: tuple[str, ...]
    denoiser: Literal["unet", "transformer"]
    text_encoders: tuple[str, ...]
    halves: tuple[Half, ...] = ()
    guidance: str = "guidance_scale"
    strength: float = 7.0
    steps: int = 30
    embeds: tuple[Embeds, ...] = ()
    negative: bool = True
    size: int = 1024
    mixes_rows: bool = False


FAMILIES: Registry[Family] = Registry("image family")

_CROSS = Embeds("prompt_embeds", "encoder_hidden_states")
_POOLED = Embeds("pooled_prompt_embeds", "pooled_projections")
_CFG: tuple[Half, ...] = ("uncond", "cond")
_SD = ("StableDiffusionPipeline",)

for _family in (
    Family(
        "sd1",
        "Stable Diffusion 1.x",
        _SD,
        "unet",
        ("text_encoder",),
        _CFG,
        embeds=(_CROSS,),
        size=512,
    ),
    Family(
        "sd2",
        "Stable Diffusion 2.x",
        _SD,
        "unet",
        ("text_encoder",),
        _CFG,
        embeds=(_CROSS,),
        size=768,
    ),
    Family(
        "sdxl",
        "Stable Diffusion XL",
        ("StableDiffusionXLPipeline",),
        "unet",
        ("text_encoder", "text_encoder_2"),
        _CFG,
        strength=5.0,
        embeds=(_CROSS, Embeds("pooled_prompt_embeds", "added_cond_kwargs.text_embeds")),
    ),
    Family(
        "sd3",
        "Stable Diffusion 3",
        ("StableDiffusion3Pipeline",),
        "transformer",
        ("text_encoder", "text_encoder_2", "text_encoder_3"),
        _CFG,
        strength=5.0,
        embeds=(_CROSS, _POOLED),
    ),
    Family(
        "flux",
        "Flux.1",
        ("FluxPipeline",),
        "transformer",
        ("text_encoder", "text_encoder_2"),
        strength=3.5,
        embeds=(_CROSS, _POOLED),
        negative=False,
    ),
    Family(
        "qwen-image",
        "Qwen-Image",
        ("QwenImagePipeline",),
        "transformer",
        ("text_encoder",),
        guidance="true_cfg_scale",
        strength=4.0,
    ),
    Family(
        "z-image",
        "Z-Image",
        ("ZImagePipeline",),
        "transformer",
        ("text_encoder",),
        ("cond", "uncond"),
        strength=5.0,
        mixes_rows=True,
    ),
):
    FAMILIES.register(_family.name, _family)


def family_of_pipeline(class_name: str, context: int = 768) -> Family | None:
    """The family a pipeline class belongs to, or None.

    Args:
        context: width of the cross-attention's context, which tells SD 2.x (1024) from SD 1.x.
    """
    found = [family for family in FAMILIES if class_name in family.pipelines]
    if len(found) > 1:
        return FAMILIES.get("sd2" if context == 1024 else "sd1")
    return found[0] if found else None
