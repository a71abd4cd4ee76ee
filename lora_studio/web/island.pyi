"""An island: a gr.HTML whose whole content is drawn by one JavaScript module of ours.

The template holds no data, so nothing an uploader wrote is ever parsed as HTML; the module builds
its DOM from `props.value` with text nodes only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

ISLANDS_DIR = Path(__file__).resolve().parent / "islands"

_BOOT = """
const events = {events};
const host = element.querySelector(".ls-island");
import(new URL("studio/assets/{name}.js", document.baseURI).href)
  .then((module) => module.mount({{ host, props, trigger, watch, events }}))
  .catch((error) => {{
    console.error(error);
    host.textContent = "This part of the page did not load. Reload the page.";
  }});
"""

from gradio.events import Dependency

class Island(gr.HTML):
    """A component drawn by `islands/<name>.js`.

    Args:
        name: module that draws it; must export `mount({host, props, trigger, watch})`.
        value: small JSON value the module reads.
        events: names of the events it may trigger; each becomes a listener method here.
    """

    def __init__(
        self,
        name: str = "job",
        value: dict[str, Any] | None = None,
        events: Sequence[str] = (),
        elem_id: str | None = None,
        elem_classes: Sequence[str] = (),
    ) -> None:
        if not re.fullmatch(r"[a-z_]+", name):
            raise ValueError(f"'{name}' is not the name of an island")
        super().__init__(
            value=value or {},
            html_template=f'<div class="ls-island ls-{name}" data-island="{name}"></div>',
            js_on_load=_BOOT.format(name=name, events=json.dumps(list(events))),
            apply_default_css=False,
            elem_id=elem_id,
            elem_classes=["ls-block", *elem_classes],
        )
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component