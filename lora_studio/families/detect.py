"""Guessing which base model an adapter was trained on, from its modules, their widths and the
header of its file. The weights win over what the header says."""

from __future__ import annotations

from collections.abc import Mapping

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.families.family import FAMILIES
from lora_studio.families.guess import Guess
from lora_studio.families.known import KNOWN
from lora_studio.families.transformers import guess_transformer
from lora_studio.formats.widths import FAMILY_OF_CONTEXT, context_width


def detect(adapter: Adapter, metadata: Mapping[str, str] | None = None) -> Guess:
    """The family of the base model `adapter` was trained on.

    Args:
        metadata: the header's text fields of the file it came from.
    """
    if adapter.modality == "text":
        return Guess("causal-lm", ("Its modules are those of a language model.",))
    said = _by_header(metadata or {})
    denoiser = {n: m for n, m in adapter.factors.items() if m.component.startswith("transformer")}
    if denoiser:
        by_weights = guess_transformer(denoiser, said.family)
    else:
        by_weights = _by_encoder(adapter.factors) or _by_unet(adapter)
    if by_weights is None:
        return said if said.family else Guess("", (_SILENT,))
    if said.family and by_weights.family and said.family != by_weights.family:
        doubt = f"The header speaks of {KNOWN.get(said.family).title} all the same."
        return Guess(by_weights.family, (*by_weights.evidence, doubt))
    return by_weights


def home_of(family: str) -> str:
    """The Hub id adapters of a family are usually trained on; "" if there is no such model."""
    return KNOWN.get(family).home if family else ""


def cannot_run(family: str) -> str:
    """A sentence for people where this studio has no engine for a family; "" where it has."""
    if not family or family == "causal-lm" or family in FAMILIES:
        return ""
    return (
        f"This studio cannot run {KNOWN.get(family).title}: the adapter can be kept, inspected, "
        "merged and downloaded, but not tried here."
    )


_SILENT = "Neither its modules nor the header of its file tell which model it is for."


def _by_encoder(factors: Mapping[str, LoraFactors]) -> Guess | None:
    """Where only text encoders are changed: the place of T5 tells Flux.1 from SD3."""
    places = {module.component for name, module in factors.items() if ".SelfAttention." in name}
    for place, which, family in (
        ("text_encoder_3", "third", "sd3"),
        ("text_encoder_2", "second", "flux"),
    ):
        if place in places:
            title = KNOWN.get(family).title
            return Guess(family, (f"Its {which} text encoder is a T5, as in {title}.",))
    return None


def _by_unet(adapter: Adapter) -> Guess | None:
    """None where the weights do not say; an empty guess where they say that it is no known one."""
    components = adapter.components
    width = context_width(adapter.factors)
    if width is not None:
        family = FAMILY_OF_CONTEXT.get(width, "")
        which = f"which is {KNOWN.get(family).title}'s" if family else "like no known model's"
        return Guess(family, (f"Cross-attention reads {width} numbers per token, {which}.",))
    if "text_encoder_2" in components:
        return Guess("sdxl", ("It changes two text encoders.",))
    blocks = (name.partition("transformer_blocks.")[2].split(".")[0] for name in adapter.factors)
    if any(block.isdecimal() and int(block) > 1 for block in blocks):
        return Guess("sdxl", ("Its UNet has attentions of more than two blocks.",))
    encoder = {m.d_in for n, m in adapter.factors.items() if n.endswith("self_attn.q_proj")}
    if encoder == {1024}:
        return Guess("sd2", ("Its text encoder is 1024 wide.",))
    if encoder <= {768}:
        return None
    return Guess("", (f"Its text encoder is {max(encoder)} wide, like no known model's.",))


def _by_header(metadata: Mapping[str, str]) -> Guess:
    for name, starts in (
        ("modelspec.architecture", lambda known: known.specs),
        ("ss_base_model_version", lambda known: known.versions),
    ):
        value = metadata.get(name, "")
        family = next((k.name for k in KNOWN if value.startswith(starts(k))), "")
        if family:
            return Guess(family, (f"The header's {name} is '{value[:60]}'.",))
    if metadata.get("ss_v2") == "True":
        return Guess("sd2", ("The header's ss_v2 is True.",))
    return Guess()
