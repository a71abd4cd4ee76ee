"""Every text of an adapter is only ever text on the page, in a real browser."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.gallery import Gallery
from lora_studio.settings import DEMO_BASE
from tests.figures import cases, record
from tests.hostile.payloads import PAYLOADS
from tests.web.conftest import NewPage, browser, new_page, open_tab, serving

__all__ = ["browser", "new_page"]

FIRED = "window.__hit || 0"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    data = tmp_path_factory.mktemp("texts") / "data"
    fill(data, PAYLOADS[:: max(1, len(PAYLOADS) // cases(12, 60))])
    with serving(data, LORA_STUDIO_DEMOS="off") as url:
        yield url


def fill(data: Path, payloads: tuple[str, ...]) -> None:
    """A gallery whose adapters say one payload in every field."""
    gallery = Gallery.open(data / "gallery") if hasattr(Gallery, "open") else Gallery(data)
    rng = np.random.default_rng(17)
    for text in payloads:
        fields = ("title", "description", "licence", "contributor", "trained", "source_format")
        lists = ("tags", "trigger_words", "samples")
        card = AdapterCard(
            **dict.fromkeys(fields, text), **dict.fromkeys(lists, (text,)), base_model=DEMO_BASE
        )
        a, b = (rng.normal(size=s).astype(np.float32) for s in ((2, 64), (64, 2)))
        factors = {"model.layers.0.self_attn.q_proj": LoraFactors(a, b)}
        gallery.add(Adapter(factors, card), owner="")
    gallery.close()
