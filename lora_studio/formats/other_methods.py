"""PEFT's methods that no set of low-rank factors stands for, each with the reason; and settings of
LoRA itself under which its factors are not the whole update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_studio.errors import InvalidAdapter

_TIMES_BASE = "its update multiplies the base model's own weights, so that it is no LoRA by itself"
_TURNS = "it turns the base model's weights instead of adding to them"
_INPUTS = "it adds to the model's inputs, not to its weights"
_SCALES = "it scales what layers put out, which is no update of low rank"
_ROUTES = "it routes between experts at run time, so that no one update stands for it"
_FROM_BASE = "its projections are made from the base model's weights and not all in the file"

REASONS = {
    **dict.fromkeys(("OFT", "BOFT", "HRA", "ROAD", "PSOFT"), _TURNS),
    **dict.fromkeys(("HIRA", "GLORA", "OSF"), _TIMES_BASE),
    **dict.fromkeys(
        ("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT"), _INPUTS
    ),
    **dict.fromkeys(("ADAPTION_PROMPT", "CARTRIDGE"), _INPUTS),
    "IA3": _SCALES,
    "LN_TUNING": "it replaces the weights of norm layers, which have no factors",
    "TRAINABLE_TOKENS": "it replaces rows of the embedding",
    "BEFT": "it changes biases only, which have no factors",
    **dict.fromkeys(("XLORA", "POLY", "LILY"), _ROUTES),
    **dict.fromkeys(("FROD", "ADAMSS", "TINYLORA"), _FROM_BASE),
    "PVERA": "its update is drawn at random anew for every input",
    "WAVEFT": "its update has full rank and is spread by a wavelet transform",
}
_CONVERTIBLE = ("TINYLORA", "WAVEFT")


def refuse(kind: str) -> InvalidAdapter:
    """The refusal of an adapter of this `peft_type`."""
    shown = kind[:40] if kind.isprintable() else "strange"
    reason = REASONS.get(kind, "its update is not known here")
    way = "Train a LoRA of the same data instead."
    if kind in _CONVERTIBLE or kind not in REASONS:
        way = "Convert it with peft.convert_to_lora and upload the LoRA."
    message = f"This is a {shown} adapter, which cannot be composed: {reason}. {way}"
    return InvalidAdapter(message, "adapter-type")


_ALTERED = {
    "pissa": "PiSSA",
    "corda": "CorDA",
    "olora": "OLoRA",
    "loftq": "LoftQ",
    "lora_ga": "LoRA-GA",
}
"""Ways to start a LoRA that take its first product out of the base model's weights."""

_OTHERWISE = {
    "alora_invocation_tokens": "it acts only after certain tokens (aLoRA)",
    "use_qalora": "its inputs are pooled in groups (QALoRA)",
    "use_bdlora": "its factors are block-diagonal (BD-LoRA)",
    "kasa_config": "its base model's weights were cut short (KaSA)",
    "arrow_config": "it routes between other adapters (Arrow)",
    "layer_replication": "it was trained on a base model whose layers are repeated",
}


def refuse_unlike_lora(data: Mapping[str, Any]) -> None:
    """Raises InvalidAdapter if a LoRA's configuration says that B A is not what it adds."""
    start = data.get("init_lora_weights")
    name = next((n for n in _ALTERED if isinstance(start, str) and start.startswith(n)), "")
    if name:
        raise InvalidAdapter(
            f"This LoRA was started by {_ALTERED[name]}, which alters the base model's weights, so "
            "that its factors are no update of the base as it is. Save it with PEFT's "
            "path_initial_model_for_weight_conversion, which makes a plain LoRA of it.",
            "adapter-type",
        )
    reason = next((why for field, why in _OTHERWISE.items() if data.get(field)), "")
    if reason:
        message = f"This LoRA cannot be composed: {reason}. Train a plain LoRA instead."
        raise InvalidAdapter(message, "adapter-type")
