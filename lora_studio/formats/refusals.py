"""PEFT's methods that no set of low-rank factors stands for, each with the reason."""

from __future__ import annotations

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
    **dict.fromkeys(("FROD", "ADAMSS", "TINYLORA", "UNILORA"), _FROM_BASE),
    "PVERA": "its update is drawn at random anew for every input",
    "WAVEFT": "its update has full rank and is spread by a wavelet transform",
}
_CONVERTIBLE = ("TINYLORA", "UNILORA", "WAVEFT")


def refuse(kind: str) -> InvalidAdapter:
    """The refusal of an adapter of this `peft_type`."""
    shown = kind[:40] if kind.isprintable() else "strange"
    reason = REASONS.get(kind, "its update is not known here")
    way = "Train a LoRA of the same data instead."
    if kind in _CONVERTIBLE or kind not in REASONS:
        way = "Convert it with peft.convert_to_lora and upload the LoRA."
    return InvalidAdapter(f"This is a {shown} adapter, which cannot be composed: {reason}. {way}")
