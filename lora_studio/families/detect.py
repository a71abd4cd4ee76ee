"""Guessing which base model an adapter was trained on, from its modules, their widths and the
header of its file. The weights win over what the header says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lora_studio.adapter import Adapter
from lora_studio.formats.widths import FAMILY_OF_CONTEXT, context_width

HOMES = {
    "sd1": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2": "stabilityai/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
    "sd3": "stabilityai/stable-diffusion-3-medium-diffusers",
    "flux": "black-forest-labs/FLUX.1-dev",
    "qwen-image": "Qwen/Qwen-Image",
    "z-image": "Tongyi-MAI/Z-Image-Turbo",
}
"""Family -> Hub id of the model most of its adapters were trained on."""

TITLES = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sd3": "Stable Diffusion 3",
    "flux": "Flux.1",
    "qwen-image": "Qwen-Image",
    "z-image": "Z-Image",
    "causal-lm": "a language model",
}
_ARCHITECTURES = {
    "stable-diffusion-v1": "sd1",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-xl-v1-base": "sdxl",
    "stable-diffusion-3": "sd3",
    "flux-1": "flux",
    "qwen-image": "qwen-image",
    "z-image": "z-image",
}
_VERSIONS = {"sd_v1": "sd1", "sd_v2": "sd2", "sdxl_base": "sdxl", "sd3": "sd3", "flux1": "flux"}
_TRANSFORMERS = {1536: "sd3", 2432: "sd3", 3840: "z-image"}
"""Width of a transformer's attention where it tells the family by itself."""

_FLUX_BLOCKS = 19
"""Double blocks of Flux.1; Qwen-Image, of the same width, has 60."""


@dataclass(frozen=True)
class Guess:
    """A family ("sd1", ..., "causal-lm"; "" if it cannot be told) and why, as sentences."""

    family: str = ""
    evidence: tuple[str, ...] = ()


def detect(adapter: Adapter, metadata: Mapping[str, str] | None = None) -> Guess:
    """The family of the base model `adapter` was trained on.

    Args:
        metadata: the header's text fields of the file it came from.
    """
    if adapter.modality == "text":
        return Guess("causal-lm", ("Its modules are those of a language model.",))
    by_weights = _by_weights(adapter)
    said = _by_header(metadata or {})
    if by_weights is None:
        return said
    if said.family and by_weights.family and said.family != by_weights.family:
        doubt = f"The header speaks of {TITLES[said.family]} all the same."
        return Guess(by_weights.family, (*by_weights.evidence, doubt))
    return by_weights


def home_of(family: str) -> str:
    """The Hub id adapters of a family are usually trained on; "" if there is no such model."""
    return HOMES.get(family, "")


def _by_weights(adapter: Adapter) -> Guess | None:
    """None where the weights do not say; an empty guess where they say that it is no known one."""
    components = adapter.components
    if "transformer" in components:
        return _transformer(adapter)
    width = context_width(adapter.factors)
    if width is not None:
        family = FAMILY_OF_CONTEXT.get(width, "")
        which = f"which is {TITLES[family]}'s" if family else "like no known model's"
        return Guess(family, (f"Cross-attention reads {width} numbers per token, {which}.",))
    if "text_encoder_2" in components:
        return Guess("sdxl", ("It changes two text encoders.",))
    blocks = (name.partition("transformer_blocks.")[2].split(".")[0] for name in adapter.factors)
    if any(block.isdecimal() and int(block) > 1 for block in blocks):
        return Guess("sdxl", ("Its UNet has attentions of more than two blocks.",))
    encoder = {m.d_in for n, m in adapter.factors.items() if n.endswith("self_attn.q_proj")}
    if encoder == {1024}:
        return Guess("sd2", ("Its text encoder is 1024 wide.",))
    return None if encoder <= {768} else Guess()


def _transformer(adapter: Adapter) -> Guess | None:
    names = list(adapter.factors)
    wide = {m.d_in for n, m in adapter.factors.items() if n.endswith((".to_q", ".to_k"))}
    width = next(iter(wide)) if len(wide) == 1 else 0
    if width in _TRANSFORMERS:
        family = _TRANSFORMERS[width]
        return Guess(family, (f"Its attention is {width} wide, as {TITLES[family]}'s.",))
    if width not in (0, 3072):
        return Guess("", (f"Its attention is {width} wide, like no known model's.",))
    if any(".single_transformer_blocks." in name for name in names):
        return Guess("flux", ("It has single and double transformer blocks.",))
    if any(part in name for name in names for part in (".img_mlp.", ".txt_mlp.", "_mod.")):
        return Guess("qwen-image", ("Its blocks have an MLP each for image and text.",))
    indices = (name.partition(".transformer_blocks.")[2].split(".")[0] for name in names)
    if any(index.isdecimal() and int(index) >= _FLUX_BLOCKS for index in indices):
        return Guess("qwen-image", (f"It has more than {_FLUX_BLOCKS} blocks of width 3072.",))
    return None


def _by_header(metadata: Mapping[str, str]) -> Guess:
    fields = (
        ("modelspec.architecture", _ARCHITECTURES),
        ("ss_base_model_version", _VERSIONS),
    )
    for name, families in fields:
        value = metadata.get(name, "")
        family = next((f for start, f in families.items() if value.startswith(start)), "")
        if family:
            return Guess(family, (f"The header's {name} is '{value[:60]}'.",))
    if metadata.get("ss_v2") == "True":
        return Guess("sd2", ("The header's ss_v2 is True.",))
    return Guess()
