"""Adapters of transformers mean what diffusers takes them for, module by module, on tiny random
models: through its LoRA loaders where those read the dialect right, and through its converters of
whole checkpoints, which know how every matrix of the original code is divided."""

import json
from pathlib import Path
from types import CodeType, FunctionType

import diffusers as d
import numpy as np
import pytest
import torch
from diffusers.loaders import lora_conversion_utils, lora_pipeline, single_file_utils
from peft.tuners.tuners_utils import BaseTunerLayer

from lora_studio.formats import load_adapter
from lora_studio.formats.originals import TABLES
from tests.deltas import deltas, distance
from tests.reference_deltas import fill, scale, update, write
from tests.state_dicts import transformers as tiny

FIXTURES = Path(__file__).parents[2] / "state_dicts"
EXACT = 1e-6
SIZES = {3072: 16, 12288: 64, 19: 1, 38: 1}
"""What diffusers writes into its code, and what the tiny model has instead."""


def at_tiny_size(function):
    """The same function for a model of the tiny one's width and depth."""

    def shrink(value):
        if isinstance(value, CodeType):
            return value.replace(co_consts=tuple(map(shrink, value.co_consts)))
        if isinstance(value, tuple):
            return tuple(map(shrink, value))
        return SIZES.get(value, value) if type(value) is int else value

    return FunctionType(shrink(function.__code__), function.__globals__, function.__name__)


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    for name in (
        "_convert_kohya_flux_lora_to_diffusers",
        "_convert_fal_kontext_lora_to_diffusers",
        "_convert_hunyuan_video_lora_to_diffusers",
    ):
        small = at_tiny_size(getattr(lora_conversion_utils, name))
        monkeypatch.setattr(lora_pipeline, name, small)


def model_of(family):
    torch.manual_seed(0)
    model = tiny.models()[family].to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape) * 0.1
    return model


def fixture_of(name, without=()):
    fixture = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    fixture["tensors"] = {
        key: size
        for key, size in fixture["tensors"].items()
        if not any(part in key for part in without)
    }
    fixture["modules"] = {
        stem: module
        for stem, module in fixture["modules"].items()
        if any(key.startswith(f"{stem}.") for key in fixture["tensors"])
    }
    return fixture


def in_torch(tensors):
    return {key: torch.from_numpy(np.array(value)) for key, value in tensors.items()}


LOADERS = {
    "flux": d.loaders.lora_pipeline.FluxLoraLoaderMixin,
    "qwen-image": d.loaders.lora_pipeline.QwenImageLoraLoaderMixin,
    "z-image": d.loaders.lora_pipeline.ZImageLoraLoaderMixin,
    "wan": d.loaders.lora_pipeline.WanLoraLoaderMixin,
    "hunyuan-video": d.loaders.lora_pipeline.HunyuanVideoLoraLoaderMixin,
    "ltx-video": d.loaders.lora_pipeline.LTXVideoLoraLoaderMixin,
}


def live(family, tensors):
    """Canonical name -> update of every layer that diffusers adapts with these tensors."""
    loader, model = LOADERS[family], model_of(family)
    given = in_torch(tensors)
    more = {}
    if family == "flux":
        state, more["network_alphas"] = loader.lora_state_dict(given, return_alphas=True)
    else:
        state = loader.lora_state_dict(given)
    loader.load_lora_into_transformer(state, transformer=model, **more)
    return {
        f"transformer.{name}": layer.get_delta_weight("default_0")
        .detach()
        .flatten(1)
        .double()
        .numpy()
        for name, layer in model.named_modules()
        if isinstance(layer, BaseTunerLayer)
    }


def ours(fixture, tensors, folder):
    found = deltas(load_adapter(write(fixture, tensors, folder).parent))
    return {name: delta for name, delta in found.items() if name.startswith("transformer.")}


FINAL = ("final_layer",)
OUTSIDE = ("img_in", "txt_in", "time_in", "vector_in", "guidance_in", *FINAL)
READ_BY_LOADERS = {
    "diffusers_flux": (),
    "kohya_flux": OUTSIDE,  # no component in the names it makes of them; no alpha of the last layer
    "original_flux_encoders": (*OUTSIDE, "t5xxl"),
    "original_flux_peft": ("_in.", "adaLN"),  # these it refuses
    "xlabs_flux": (),
    "kohya_qwen_image": (),
    "original_qwen_image": (),
    "peft_qwen_image_default": (),
    "original_z_image_split": (),
    "kohya_wan": ("embedding", "projection", "img_emb", "head", "_img"),  # of text to video only
    "original_wan": ("_img",),  # it lays the picture's keys and values over the words'
    "original_hunyuan_video": ("txt_in", "adaLN"),  # it divides their A as well
    "original_ltx_video": ("patchify", "adaln"),
}
"""Fixture -> what diffusers' loader of LoRAs reads wrong or not at all."""


@pytest.mark.parametrize("name", READ_BY_LOADERS)
def test_a_loader_of_diffusers_makes_the_same_updates(name, tmp_path):
    fixture = fixture_of(name, READ_BY_LOADERS[name])
    tensors = fill(fixture)
    mine = ours(fixture, tensors, tmp_path)
    assert mine
    config = fixture.get("config", {"lora_alpha": 1, "r": 1})
    times = config["lora_alpha"] / config["r"]  # which a loader of files without PEFT's leaves out
    theirs = live(fixture.get("family", "flux"), tensors)
    assert distance(mine, {name: times * delta for name, delta in theirs.items()}) < EXACT


CHECKPOINTS = {
    "flux": at_tiny_size(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers),
    "sd3": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    "z_image": single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers,
    "wan": single_file_utils.convert_wan_transformer_to_diffusers,
    "hunyuan_video": at_tiny_size(single_file_utils.convert_hunyuan_video_transformer_to_diffusers),
    "ltx_video": single_file_utils.convert_ltx_transformer_checkpoint_to_diffusers,
}


class Checkpoint(dict):
    """A checkpoint in which what is asked for and not there is a zero, such as a bias."""

    def pop(self, key, default=None):
        size = 7 * 16 if "linear1" in key else 6
        return super().pop(key, torch.zeros(size))


@pytest.mark.parametrize("plain", CHECKPOINTS)
def test_updates_of_the_original_model_are_those_of_diffusers_model(plain, tmp_path):
    """The dense updates, taken for a checkpoint of the original code and converted as one."""
    fixture = fixture_of(f"original_{plain}")
    tensors = fill(fixture)
    checkpoint = Checkpoint()
    for stem, module in fixture["modules"].items():
        own = {k.removeprefix(f"{stem}."): v for k, v in tensors.items() if k.startswith(stem)}
        first = module if isinstance(module, str) else next(iter(module))
        delta, rank = update({k: v.astype(np.float64) for k, v in own.items()})
        name = stem.removeprefix("diffusion_model.")
        checkpoint[f"{name}.weight"] = torch.from_numpy(delta * scale(fixture, first, own, rank))
    converted = CHECKPOINTS[plain](checkpoint)
    mine = ours(fixture, tensors, tmp_path)
    theirs = {name: converted[f"{name.partition('.')[2]}.weight"] for name in mine}
    assert distance(mine, {name: w.flatten(1).numpy() for name, w in theirs.items()}) < EXACT


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_leads_to_modules_of_the_live_model_only(table):
    names = {name for name, _ in tiny.models()[table.name].named_modules()}
    assert {path.format(0) for path in table.modules()} <= names
