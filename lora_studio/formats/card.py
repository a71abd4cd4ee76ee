"""An adapter's README.md: YAML front matter in the Hub's words, a title and a paragraph."""

from __future__ import annotations

import re
from typing import Any

import yaml

from lora_studio.adapter import AdapterCard

MAX_CARD = 256 * 1024
MAX_SAMPLES = 64
EVERYWHERE = ("lora", "peft", "transformers", "")
"""Tags that every adapter has tell nobody anything; `render` writes "lora" for the Hub."""
STOCK_HEADING = "Model Card for Model ID"
"""The heading of the card that PEFT writes by itself."""


def parse(text: str) -> AdapterCard:
    """Reads what is known from a model card; never fails, since a card is only a description."""
    front, body = _split(text[:MAX_CARD])
    heading, description = _title_and_paragraph(body)
    widget = front.get("widget")
    samples = [
        str(item["text"])
        for item in (widget if isinstance(widget, list) else [])
        if isinstance(item, dict) and isinstance(item.get("text"), str)
    ]
    base = front.get("base_model")
    return AdapterCard(
        title=_line(front.get("title") or front.get("model_name") or heading),
        description=description,
        tags=_tags(front.get("tags")),
        trigger_words=tuple(_line(t) for t in _list(front.get("instance_prompt")))[:32],
        licence=_line(front.get("license")),
        base_model=_line(base[0] if isinstance(base, list) and base else base),
        contributor=_line(front.get("contributor")),
        trained=_line(front.get("trained")),
        samples=tuple(samples[:MAX_SAMPLES]),
        parents=tuple(_line(p) for p in _list(front.get("parents")))[:64],
        recipe=_line(front.get("recipe")),
        centroid=_centroid(front.get("centroid")),
    )


def render(card: AdapterCard, body: str = "") -> str:
    """The README.md of an adapter: front matter, title, description, then `body` (Markdown)."""
    front: dict[str, Any] = {
        "base_model": card.base_model or None,
        "base_model_relation": "adapter" if card.base_model else None,
        "library_name": "peft",
        "license": card.licence or None,
        "tags": list(dict.fromkeys(["lora", *card.tags])),
        "title": card.title or None,
        "contributor": card.contributor or None,
        "trained": card.trained or None,
        "instance_prompt": ", ".join(card.trigger_words) or None,
        "parents": list(card.parents) or None,
        "recipe": card.recipe or None,
        "centroid": card.centroid or None,
        "widget": [{"text": s} for s in card.samples] or None,
    }
    known = {key: value for key, value in front.items() if value is not None}
    yaml_text = yaml.safe_dump(known, allow_unicode=True, sort_keys=False, width=100)
    parts = [f"# {card.title or 'LoRA adapter'}", card.description, body.strip()]
    return f"---\n{yaml_text}---\n" + "\n\n".join(p for p in parts if p) + "\n"


def _split(text: str) -> tuple[dict[str, Any], str]:
    if not text.startswith("---"):
        return {}, text
    front, mark, body = text[3:].partition("\n---")
    if not mark:
        return {}, text
    try:
        data = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError, ValueError):
        data = None
    return (data if isinstance(data, dict) else {}), body


def _title_and_paragraph(body: str) -> tuple[str, str]:
    title, paragraph = "", []
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    for line in (raw.strip() for raw in body.splitlines()):
        if line.startswith("# ") and not title:
            title = "" if line[2:] == STOCK_HEADING else line[2:]
        elif line.startswith("#") and paragraph:
            break
        elif line and not line.startswith("#"):
            paragraph.append(line)
        elif paragraph:
            break
    return title, " ".join(paragraph)[:2000]


def _tags(value: Any) -> tuple[str, ...]:
    named = (tag for tag in map(_line, _list(value)) if not tag.startswith("base_model:"))
    return tuple(tag for tag in named if tag not in EVERYWHERE)[:32]


def _line(value: Any) -> str:
    """One line of text; "" for what is not a plain value, which YAML aliases could make huge."""
    plain = isinstance(value, str | int | float | bool)
    return " ".join(str(value).split())[:500] if plain else ""


def _centroid(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
