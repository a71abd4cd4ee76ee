"""An uploaded image adapter is checked against its base, named after its family, and drawn anew."""

import io

import numpy as np
import pytest
from diffusers import UNet2DConditionModel
from peft import VeraConfig, get_peft_model
from PIL import Image
from safetensors.numpy import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import canonical
from lora_studio.worker.tasks import validate
from tests import tiny_pipelines

Q = "mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


class Context:
    def progress(self, fraction, message):
        """Nobody looks."""

    def check(self):
        """Nobody cancels."""


def upload(folder, width, out=16, thumbnail=b""):
    folder.mkdir()
    tensors = {
        f"lora_unet_{Q}.lora_down.weight": np.ones((2, width), np.float32),
        f"lora_unet_{Q}.lora_up.weight": np.ones((out, 2), np.float32),
    }
    save_file(tensors, folder / "mine.safetensors")
    if thumbnail:
        (folder / "thumbnail.png").write_bytes(thumbnail)
    return folder


def run(path, out, **card):
    args = {"path": str(path), "out": str(out), "max_bytes": 2**20, "card": card}
    return validate.run(args, Context())  # pyright: ignore[reportArgumentType]


def test_a_base_nobody_named_is_told_from_the_weights(tmp_path):
    result = run(upload(tmp_path / "up", 768), tmp_path / "out")
    assert result["family"] == "sd1"
    assert result["card"]["base_model"] == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert any("No base model was named" in line and "768" in line for line in result["report"])
    assert canonical.read(tmp_path / "out").modality == "image"


def test_a_base_that_cannot_be_told_is_left_to_people(tmp_path):
    result = run(upload(tmp_path / "up", 16), tmp_path / "out", trigger_words=["fox"])
    assert (result["family"], result["card"]["base_model"]) == ("", "")
    assert result["card"]["trigger_words"] == ["fox"]
    assert result["thumbnail"] == ""


def test_an_adapter_is_compared_with_the_pipeline_it_names(tmp_path):
    base = tiny_pipelines.save_pipeline("sd1", tmp_path / "base")
    result = run(upload(tmp_path / "fits", 16), tmp_path / "out", base_model=str(base))
    assert result["report"][-1].startswith("Every module fits")
    with pytest.raises(InvalidAdapter, match=r"768→16 in the adapter but 16→16"):
        run(upload(tmp_path / "wide", 768), tmp_path / "out", base_model=str(base))


def test_its_picture_is_drawn_anew_and_a_broken_one_is_only_told(tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (300, 300)).save(out, "PNG")
    result = run(upload(tmp_path / "a", 16, thumbnail=out.getvalue()), tmp_path / "out")
    with Image.open(result["thumbnail"]) as picture:
        assert picture.size == (256, 256)
    broken = b"\x89PNG\r\n\x1a\n nothing"
    result = run(upload(tmp_path / "b", 16, thumbnail=broken), tmp_path / "out")
    assert result["thumbnail"] == ""
    assert any("thumbnail cannot be read" in line for line in result["report"])


def test_sizes_that_a_file_leaves_out_are_those_of_the_base_that_is_named(tmp_path):
    base = tiny_pipelines.save_pipeline("sd1", tmp_path / "base")
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    model = get_peft_model(unet, VeraConfig(r=4, target_modules=["to_k"]))
    model.save_pretrained(tmp_path / "vera")
    result = run(tmp_path / "vera", tmp_path / "out", base_model=str(base))
    assert any("VeRA modules became LoRA factors" in line for line in result["report"])
    assert result["report"][-1].startswith("Every module fits")
    widths = {name: m.d_in for name, m in canonical.read(tmp_path / "out").factors.items()}
    live = {f"unet.{n}": m.in_features for n, m in unet.named_modules() if n.endswith("to_k")}
    assert widths == live
    with pytest.raises(InvalidAdapter, match="not on this machine"):
        run(tmp_path / "vera", tmp_path / "out")
