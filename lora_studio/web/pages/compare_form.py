"""The form of Compare: fields for text and fields for images; the page shows those in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from lora_studio.errors import InvalidRequest
from lora_studio.web.island import island

MAX_PROMPTS = 16
FOR_TEXT = ["ls-only-text"]
FOR_IMAGES = ["ls-only-images"]
EMPTY = "() => [null, null, null, null]"  # Gradio draws a number that starts empty as 0
SAMPLERS = [
    ("The model's own", ""),
    ("DPM++ 2M", "dpm++ 2m"),
    ("DDIM", "ddim"),
    ("Euler", "euler"),
]

Values = Mapping[Any, Any]
"""Component -> its value, as Gradio hands over a set of inputs."""


@dataclass(frozen=True)
class Fields:
    """Components whose values a run is asked with."""

    session: gr.HTML
    prompts: gr.Textbox
    temperature: gr.Number
    tokens: gr.Number
    seed: gr.Number
    drawn: gr.Textbox
    negative: gr.Textbox
    steps: gr.Number
    guidance: gr.Number
    width: gr.Number
    height: gr.Number
    scheduler: gr.Dropdown

    @property
    def inputs(self) -> set[Any]:
        return {getattr(self, field.name) for field in fields(self)}

    def first_seed(self, values: Values) -> int:
        return int(values[self.seed] or 0)

    def asked(self, values: Values, images: bool) -> list[str]:
        """The prompts of the visitor."""
        return prompts_of(values[self.drawn if images else self.prompts])

    def sampling(self, values: Values, images: bool) -> dict[str, Any]:
        """What the visitor set; of images, an empty field is the model's own."""
        if not images:
            return {
                "temperature": float(values[self.temperature] or 0),
                "max_new_tokens": int(values[self.tokens] or 64),
            }
        given = {
            "negative": (values[self.negative] or "").strip(),
            "steps": int(values[self.steps] or 0),
            "guidance": float(values[self.guidance] or 0),
            "width": int(values[self.width] or 0),
            "height": int(values[self.height] or 0),
            "scheduler": values[self.scheduler] or "",
        }
        return {name: value for name, value in given.items() if value}


def prompts_of(text: str) -> list[str]:
    """One prompt a line; empty lines are dropped."""
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not prompts:
        raise InvalidRequest("Type a prompt, one a line, or pick an example.")
    if len(prompts) > MAX_PROMPTS:
        raise InvalidRequest(f"A comparison takes {MAX_PROMPTS} prompts at most. Remove some.")
    return prompts


def build(session: gr.HTML, suites: list[dict[str, str]]) -> tuple[Fields, gr.HTML, gr.Dropdown]:
    """Builds the two panels; returns the fields, the hint and the picker of test files."""
    with gr.Row(elem_id="ls-compare-form", equal_height=False):
        with gr.Column(scale=3, min_width=300, elem_classes=["ls-panel"]):
            texts = _prompt_fields()
            hint = island("hint", {}, ["pick"], elem_id="ls-hint")
            chosen = gr.Dropdown(
                [(suite["title"], suite["name"]) for suite in suites],
                value=[],
                multiselect=True,
                label="Test files beside the adapters' own",
                info="Tasks that no adapter was trained for; they need several at once.",
                elem_id="ls-suites",
                elem_classes=FOR_TEXT,
                visible=bool(suites),
            )
        with gr.Column(scale=2, min_width=300, elem_classes=["ls-panel"]):
            island("columns", elem_id="ls-columns")
            numbers = _text_numbers() | _image_numbers()
    automatic = [numbers[name] for name in ("steps", "guidance", "width", "height")]
    session.base(None, None, automatic, js=EMPTY, show_progress="hidden", api_visibility="private")
    return Fields(session, **texts, **numbers), hint, chosen


def _prompt_fields() -> dict[str, Any]:
    prompts = gr.Textbox(
        label="Prompts, one a line",
        placeholder="Turn the sentence into past tense: The girl opens the door.",
        lines=3,
        max_lines=8,
        elem_id="ls-prompts",
        elem_classes=FOR_TEXT,
    )
    drawn = gr.Textbox(
        label="Prompts, one a line",
        placeholder="a red house on the left, neon style",
        lines=3,
        max_lines=8,
        elem_id="ls-image-prompts",
        elem_classes=FOR_IMAGES,
    )
    negative = gr.Textbox(
        label="Negative prompt",
        placeholder="What to stay away from, for models that understand one",
        elem_id="ls-negative",
        elem_classes=FOR_IMAGES,
    )
    return {"prompts": prompts, "drawn": drawn, "negative": negative}


def _number(label: str, value: float | None, low: float, high: float | None, **more: Any) -> Any:
    return gr.Number(value, label=label, minimum=low, maximum=high, min_width=72, **more)


def _text_numbers() -> dict[str, Any]:
    text: dict[str, Any] = {"elem_classes": FOR_TEXT}
    with gr.Row(elem_classes=["ls-tight"]):
        return {
            "seed": _number("Seed", 0, 0, None, precision=0, elem_id="ls-seed"),
            "temperature": _number("Temperature", 0, 0, 2, step=0.1, **text),
            "tokens": _number("Max tokens", 64, 1, 1024, precision=0, **text),
        }


def _image_numbers() -> dict[str, Any]:
    image: dict[str, Any] = {"elem_classes": FOR_IMAGES, "placeholder": "auto"}
    whole: dict[str, Any] = {"precision": 0, **image}
    with gr.Row(elem_id="ls-image-numbers", elem_classes=["ls-tight", *FOR_IMAGES]):
        steps = _number("Steps", None, 0, 200, elem_id="ls-steps", **whole)
        guidance = _number("Guidance", None, 0, 30, step=0.5, **image)
        width = _number("Width", None, 0, 2048, **whole)
        height = _number("Height", None, 0, 2048, **whole)
    scheduler = gr.Dropdown(
        SAMPLERS,
        value="",
        label="Sampler",
        info="Fields left empty take the model's own value too.",
        elem_classes=FOR_IMAGES,
    )
    return {
        "steps": steps,
        "guidance": guidance,
        "width": width,
        "height": height,
        "scheduler": scheduler,
    }
