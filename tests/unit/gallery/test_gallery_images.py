"""Image adapters beside text adapters: what is told of them, their pictures."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from lora_studio.errors import NotFound
from lora_studio.families.blocks import block_of
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from tests.unit.gallery.conftest import build_image_adapter


def png(shade: int = 90) -> bytes:
    out = BytesIO()
    Image.new("RGB", (32, 32), (shade, 0, 0)).save(out, "PNG")
    return out.getvalue()


def test_an_image_adapter_tells_its_modality_components_and_blocks(gallery: Gallery):
    entry = gallery.add(build_image_adapter(1, title="Neon"))
    assert entry.modality == "image"
    assert entry.components == ("text_encoder", "unet")
    assert len(entry.layer_norms) == 4  # text encoder, down 0, middle, up 1
    assert all(norm > 0 for norm in entry.layer_norms)


@pytest.mark.parametrize(
    ("module", "block"),
    [
        ("unet.down_blocks.2.resnets.0.conv1", "unet.down_blocks.2"),
        ("unet.mid_block.resnets.1.conv1", "unet.mid_block"),
        ("unet.time_embedding.linear_1", "unet.time_embedding"),
        ("unet.conv_in", "unet"),
        ("text_encoder_2.text_model.encoder.layers.3.mlp.fc1", "text_encoder_2"),
        (
            "transformer.single_transformer_blocks.11.attn.to_q",
            "transformer.single_transformer_blocks",
        ),
    ],
)
def test_a_module_belongs_to_one_block(module: str, block: str):
    assert block_of(module) == block


def test_one_search_finds_both_kinds_and_a_facet_parts_them(gallery: Gallery, make_adapter):
    gallery.add(make_adapter(1, title="Past tense"))
    gallery.add(build_image_adapter(1, title="Neon"))
    found = gallery.search()
    assert found.total == 2
    counts = {row["value"]: row["count"] for row in found.facets["modality"]}
    assert counts == {"text": 1, "image": 1}
    assert [hit.entry.title for hit in gallery.search(modality="image").hits] == ["Neon"]


def test_a_picture_is_kept_as_long_as_its_adapter(settings: Settings, gallery: Gallery):
    entry = gallery.add(build_image_adapter(1, title="Neon"), thumbnail=png())
    path = gallery.thumbnail_path(entry.id)
    assert path.read_bytes() == png()
    assert path.stem == entry.thumbnail
    gallery.close()
    again = Gallery.open(settings, orphan_grace=0, tombstone_grace=0)
    assert again.thumbnail_path(entry.id) == path
    again.delete(entry.id)
    again.close()
    Gallery.open(settings, orphan_grace=0, tombstone_grace=-1).close()
    assert not path.exists()


def test_an_adapter_without_a_picture_says_so(gallery: Gallery):
    entry = gallery.add(build_image_adapter(1, title="Neon"))
    with pytest.raises(NotFound, match="no picture"):
        gallery.thumbnail_path(entry.id)
