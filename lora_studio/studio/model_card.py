"""What a downloaded adapter's README says beside its card: what it was made of and how, what the
licences are, and the commands that run and rebuild it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote

from lora_studio.adapter import Adapter
from lora_studio.composition import METHODS, Recipe, Source
from lora_studio.composition.module_weights import plain_weights

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's --max-lora-rank."""


@dataclass(frozen=True)
class Parent:
    """A source of a composition; `adapter` is None where it is not to be had."""

    id: str
    adapter: Adapter | None = None


def slug(text: str, fallback: str) -> str:
    """A short file name made of letters, digits and dashes."""
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())
    return "-".join(p for p in plain.split("-") if p)[:60] or fallback


def body(
    adapter: Adapter,
    recipe: Recipe | None,
    parents: Sequence[Parent],
    picture: str = "",
    caption: str = "",
) -> str:
    """Markdown; of an adapter that was not composed, only how it is used."""
    parts = [_sources(recipe, parents), _method(recipe)]
    if picture:
        parts.append(f"![Rank units of the sources]({picture})\n\n{caption}")
    parts += [_words(adapter), _usage(adapter), _again(recipe)]
    return "\n\n".join(part for part in parts if part)


def _sources(recipe: Recipe | None, parents: Sequence[Parent]) -> str:
    if not parents:
        return ""
    asked = {s.id: s for s in recipe.sources} if recipe else {}
    rows = []
    for parent in parents:
        card = parent.adapter.card if parent.adapter else None
        title = cell(card.title) if card else "(no longer in the gallery)"
        licence = cell(card.licence) if card else ""
        weight = _weight(asked.get(parent.id))
        rows.append(f"| {title} | {weight} | {licence or 'not told'} | `{parent.id[:12]}` |")
    table = "\n".join(["| Source | Weight | Licence | Id |", "|---|---|---|---|", *rows])
    return (
        f"## Composed from\n\n{table}\n\n"
        "The licence of every source holds for what is made of it; keep to the strictest."
    )


def _weight(source: Source | None) -> str:
    if source is None:
        return ""
    extra = [
        f"{key} × {value if not isinstance(value, list) else ' → '.join(f'{v:g}' for v in value)}"
        for key, value in plain_weights(source.module_weights).items()
    ]
    extra += ["some rank units only"] if source.units else []
    return cell("; ".join([f"{source.weight:g}", *extra]))


def _method(recipe: Recipe | None) -> str:
    if recipe is None:
        return ""
    method = METHODS.get(recipe.method)
    params = ", ".join(f"{name} = {value}" for name, value in recipe.params.items())
    paper = f" Paper: {method.paper}" if method.paper else ""
    told = f" ({params})" if params else ""
    return f"By **{method.title}**{told}, seed {recipe.seed}. {method.summary}{paper}"


def _words(adapter: Adapter) -> str:
    words = adapter.card.trigger_words
    return f"Trigger words: {', '.join(f'`{cell(w)}`' for w in words)}." if words else ""


def _usage(adapter: Adapter) -> str:
    base = adapter.card.base_model.replace("`", "")
    blocks = [_image_usage(base)] if adapter.modality == "image" else _text_usage(adapter, base)
    return "\n\n".join(["## Use", *blocks])


def _text_usage(adapter: Adapter, base: str) -> list[str]:
    peft = (
        "With PEFT, from this folder:\n\n```python\n"
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        f"model = AutoModelForCausalLM.from_pretrained({base!r})\n"
        'model = PeftModel.from_pretrained(model, ".")\n```'
    )
    if problem := vllm_problem(adapter):
        return [peft, f"Not with vLLM: {problem}"]
    rank = vllm_rank(adapter)
    return [
        peft,
        f"With vLLM:\n\n```\nvllm serve {quote(base)} --enable-lora --max-lora-rank {rank} "
        "--lora-modules composed=.\n```",
    ]


def vllm_problem(adapter: Adapter) -> str:
    """Why vLLM does not take this adapter, with what to do; "" if it does."""
    if any(module.magnitude is not None for module in adapter.factors.values()):
        return "it has DoRA magnitudes, which vLLM refuses."
    if any(module.kind != "linear" for module in adapter.factors.values()):
        return "it changes layers other than linear ones."
    if len(set(adapter.ranks.values())) > 1:
        return (
            "its modules have unlike ranks. Compose it with a fixed rank that all modules reach, "
            "or load it with PEFT."
        )
    if adapter.max_rank > VLLM_RANKS[-1]:
        return f"its rank is {adapter.max_rank}, and {VLLM_RANKS[-1]} is the most there."
    return ""


def vllm_rank(adapter: Adapter) -> int:
    """The value of --max-lora-rank that holds the adapter."""
    return next(rank for rank in VLLM_RANKS if rank >= adapter.max_rank)


def _image_usage(base: str) -> str:
    return (
        "With PEFT each part of the pipeline takes its own modules. For diffusers and ComfyUI "
        "download the same adapter as one file there:\n\n```python\n"
        "from diffusers import DiffusionPipeline\n\n"
        f"pipe = DiffusionPipeline.from_pretrained({base!r})\n"
        'pipe.load_lora_weights("NAME-diffusers.safetensors")\n```\n\n'
        "ComfyUI: put the kohya file into `models/loras` and load it with *Load LoRA*; A1111: "
        "into `models/Lora`, then write `<lora:NAME:1>`."
    )


def _again(recipe: Recipe | None) -> str:
    if recipe is None:
        return ""
    return (
        "## Rebuild\n\n`recipe.yaml` is in the weights' header too: drop either on the page of a "
        "LoRA Studio to go on from here, or run\n\n```\nlora-studio compose recipe.yaml -o again\n"
        "```\n\nwhich finds the sources by their contents and compares what comes out with this "
        f"adapter. Recipe `{recipe.id[:12]}`."
    )


def cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").split())
