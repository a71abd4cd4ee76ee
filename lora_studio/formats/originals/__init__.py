"""What modules are called in the original code of each family; one table per family."""

from __future__ import annotations

from lora_studio.formats.originals.flux import FLUX
from lora_studio.formats.originals.qwen_image import QWEN_IMAGE
from lora_studio.formats.originals.sd3 import SD3
from lora_studio.formats.originals.t5 import T5
from lora_studio.formats.originals.table import Table
from lora_studio.formats.originals.video import HUNYUAN_VIDEO, LTX_VIDEO, WAN
from lora_studio.formats.originals.z_image import Z_IMAGE

TABLES: tuple[Table, ...] = (FLUX, SD3, QWEN_IMAGE, Z_IMAGE, WAN, HUNYUAN_VIDEO, LTX_VIDEO)
"""Tables of transformers. Where two know the same name, they say the same of it or the rest of the
file tells them apart."""

__all__ = ["FLUX", "T5", "TABLES", "Table"]
