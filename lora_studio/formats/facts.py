"""What a safetensors header tells about an adapter (ModelSpec and kohya's `ss_` fields), and what
we write into one. All of it is untrusted text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from lora_studio.adapter import Adapter, AdapterCard
from lora_studio.formats.widths import unet_family

SPEC = "1.0.1"
RECIPE = "lora_studio.recipe"
MAX_TAGS_JSON = 1024 * 1024
MAX_TRIGGERS = 3

ARCHITECTURES = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-768-v",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sd3": "stable-diffusion-3-medium",
    "flux": "flux-1-dev",
    "qwen-image": "qwen-image",
    "z-image": "z-image",
}
"""Family -> ModelSpec's name of its architecture, as we write it."""

KOHYA_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


def fill_card(card: AdapterCard, metadata: Mapping[str, str]) -> AdapterCard:
    """`card` with what it leaves open taken from the header: title, description, licence,
    contributor and trigger words."""

    def said(*names: str) -> str:
        lines = (" ".join(metadata.get(name, "").split())[:500] for name in names)
        return next((line for line in lines if line and line != "None"), "")

    return replace(
        card,
        title=card.title or said("modelspec.title", "ss_output_name"),
        description=card.description or said("modelspec.description"),
        licence=card.licence or said("modelspec.license"),
        contributor=card.contributor or said("modelspec.author"),
        trigger_words=card.trigger_words or _triggers(metadata),
    )


def describe(adapter: Adapter, facts: Mapping[str, str]) -> dict[str, str]:
    """The header of a file we write.

    Args:
        facts: what the caller knows; `family` (else told from the widths), `date` (ISO 8601),
            `merged_from`, `recipe` (JSON); every other name is written as it stands.
    """
    family = facts.get("family") or unet_family(adapter.factors)
    architecture = ARCHITECTURES.get(family)
    rank = str(Counter(adapter.ranks.values()).most_common(1)[0][0])
    card = adapter.card
    known = {
        "modelspec.sai_model_spec": SPEC,
        "modelspec.architecture": f"{architecture}/lora" if architecture else "",
        "modelspec.implementation": "https://github.com/huggingface/diffusers",
        "modelspec.title": card.title,
        "modelspec.description": card.description,
        "modelspec.author": card.contributor,
        "modelspec.license": card.licence,
        "modelspec.date": facts.get("date", ""),
        "modelspec.merged_from": facts.get("merged_from", ""),
        "modelspec.trigger_phrase": ", ".join(card.trigger_words),
        "ss_base_model_version": KOHYA_VERSIONS.get(family, ""),
        "ss_v2": str(family == "sd2") if family in KOHYA_VERSIONS else "",
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": rank,
        "ss_output_name": card.title,
        RECIPE: facts.get("recipe", ""),
    }
    given = {k: v for k, v in facts.items() if k not in ("family", "date", "merged_from", "recipe")}
    return {name: value for name, value in {**known, **given}.items() if value}


def _triggers(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The trigger phrase, else the tags that stand in nearly all captions of the training set."""
    phrase = " ".join(metadata.get("modelspec.trigger_phrase", "").split())[:200]
    if phrase:
        return tuple(filter(None, (part.strip() for part in phrase.split(","))))[:32]
    counts = _tag_counts(metadata.get("ss_tag_frequency", ""))
    top = max(counts.values(), default=0)
    common = [tag for tag, count in counts.most_common(MAX_TRIGGERS) if count >= max(2, 0.9 * top)]
    return tuple(common)


def _tag_counts(text: str) -> Counter[str]:
    """Tag -> captions that have it, over all folders of the training set."""
    counts: Counter[str] = Counter()
    try:
        folders = json.loads(text) if 0 < len(text) <= MAX_TAGS_JSON else {}
    except (ValueError, RecursionError):
        return counts
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            if isinstance(count, int) and 0 < count < 10**9:
                counts[" ".join(tag.replace("\\", "").split())[:80]] += count
    del counts[""]
    return counts
