from dataclasses import replace

import numpy as np
import pytest
import torch

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.families import check_fits, modality_of, module_shapes, resolve_base
from lora_studio.settings import DEMO_BASE, DEMO_IMAGE_BASE, Settings
from tests import tiny_pipelines
from tests.tiny_models import LLAMA, random_adapter, save_model


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return tiny_pipelines.save_pipeline("sd1", tmp_path_factory.mktemp("sd1"))


def fitting(shapes, names):
    """An adapter for named modules of a base model."""
    factors = {
        name: LoraFactors(
            np.zeros((2, shapes[name][1]), np.float32),
            np.zeros((shapes[name][0], 2), np.float32),
            component=name.partition(".")[0],
        )
        for name in names
    }
    return Adapter(factors)


def test_a_pipelines_modules_have_the_names_and_sizes_of_the_live_ones(pipeline):
    live = tiny_pipelines.unet().named_modules()
    expected = {
        f"unet.{name}": (len(module.weight), module.weight[0].numel())
        for name, module in live
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    shapes = module_shapes(str(pipeline))
    assert expected.items() <= shapes.items()
    clip = "text_encoder.text_model.encoder.layers.1.self_attn.q_proj"
    assert shapes[clip] == (16, 16)
    assert not any(name.startswith("vae") for name in shapes)


def test_what_fits_a_pipeline_and_what_does_not(pipeline):
    shapes = module_shapes(str(pipeline))
    conv = "unet.down_blocks.0.resnets.0.conv1"
    names = [conv, "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"]
    names.append("text_encoder.text_model.encoder.layers.0.mlp.fc1")
    good = fitting(shapes, names)
    assert check_fits(good, shapes) == []
    one = good.factors[conv]
    wide = replace(good, factors={conv: replace(one, A=np.zeros((2, 99), np.float32))})
    assert check_fits(wide, shapes) == [
        f"'{conv}' is 99→8 in the adapter but 72→8 in the base model"
    ]
    lost = replace(good, factors={conv.replace("blocks.0", "blocks.7"): one})
    assert "no module 'unet.down_blocks.7" in check_fits(lost, shapes)[0]
    bare = replace(good, factors={"unet.x.conv_in": replace(one, component="unet")})
    assert check_fits(bare, {"conv_in": (8, 72)}) != []


def test_a_language_models_names_may_lack_the_outermost(tmp_path):
    shapes = module_shapes(str(save_model("llama", tmp_path)))
    adapter = random_adapter(1, dims=LLAMA)
    assert check_fits(adapter, shapes) == []
    inner = {name.removeprefix("model."): size for name, size in shapes.items()}
    assert check_fits(adapter, inner) == []


def test_a_damaged_or_absent_base_has_no_shapes(tmp_path):
    assert module_shapes("") == module_shapes("someone/model") == {}
    (tmp_path / "model_index.json").write_text("[not json")
    assert module_shapes(str(tmp_path)) == {}
    (tmp_path / "model_index.json").write_text('{"unet": [], "../secret": [], "text_encoder": []}')
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "a.safetensors").write_bytes(b"no weights")
    assert module_shapes(str(tmp_path)) == {}


def test_the_demos_are_known_by_name_and_folders_by_what_they_hold(pipeline, tmp_path):
    settings = Settings()
    assert resolve_base(DEMO_IMAGE_BASE) == str(settings.demo_image_base_dir)
    assert resolve_base(DEMO_BASE) == str(settings.demo_base_dir)
    assert resolve_base("someone/model") == "someone/model"
    assert (modality_of(DEMO_IMAGE_BASE), modality_of(DEMO_BASE)) == ("image", "text")
    assert (modality_of(str(pipeline)), modality_of(str(tmp_path), "image")) == ("image", "text")
    assert modality_of("someone/model") == "text"
    assert modality_of("someone/model", "image") == "image"
