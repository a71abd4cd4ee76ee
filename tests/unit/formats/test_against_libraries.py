"""What PEFT and diffusers have in their layers is what we read, and what we write is what they
have once they load it. Everything runs on tiny random models."""

import numpy as np
import pytest
import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.formats import export, load, load_adapter
from lora_studio.formats.names import place
from tests import tiny_pipelines
from tests.deltas import deltas, distance

EVERYWHERE = ["to_q", "to_k", "to_v", "to_out.0", "proj_in", "net.2", "conv1", "conv", "linear_1"]
TEXT = ["q_proj", "out_proj", "fc1"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pipeline(tmp_path):
    torch.manual_seed(7)
    return tiny_pipelines.sd1(tmp_path)


def stir(model, seed=0):
    """Random values for everything an adapter adds, so that no update is zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("lora_A", "lora_B", "hada_", "lokr_")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        elif "magnitude" in name:
            parameter.data = parameter.data * torch.rand(parameter.shape, generator=generator) * 2
    return model


def layers(model, component):
    """Canonical name -> PEFT layer, of every adapted module."""
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            yield place(f"{component}.{name.removeprefix('base_model.model.')}")[1], module


def live(model, component="unet"):
    """Canonical name -> (d_out, everything else) update that PEFT's layers add."""
    return {
        name: layer.get_delta_weight(layer.active_adapters[0]).flatten(1).detach().double().numpy()
        for name, layer in layers(model, component)
    }


def merged(model, component="unet"):
    """Canonical name -> how far the layer's merged weight is from the base's; for DoRA."""
    found = {}
    for name, layer in layers(model, component):
        before = layer.get_base_layer().weight.detach().clone()
        layer.merge()
        found[name] = (layer.get_base_layer().weight - before).flatten(1).detach().double().numpy()
        layer.unmerge()
    return found


def with_magnitude(adapter, model, component="unet"):
    """m * (W + delta) / ||W + delta|| - W, row by row, with the base's own W."""
    found = {}
    for name, layer in layers(model, component):
        factors = adapter.factors[name]
        weight = layer.get_base_layer().weight.detach().flatten(1).double().numpy()
        moved = weight + factors.delta()
        size = np.linalg.norm(moved, axis=1, keepdims=True)
        found[name] = factors.magnitude[:, None] * moved / size - weight
    return found


def mixed_adapter(model, component, seed):
    """Ranks 1 to 4 and scalings of both signs over every kind of module."""
    rng = np.random.default_rng(seed)
    factors = {}
    for index, (name, module) in enumerate(sorted(model.named_modules())):
        if not name.endswith(tuple(EVERYWHERE + TEXT)):
            continue
        shape, rank = module.weight.shape, 1 + index % 4
        kernel = tuple(shape[1:]) if len(shape) == 4 else None
        path = place(f"{component}.{name}")[1]
        factors[path] = LoraFactors(
            A=rng.normal(0, 0.2, (rank, int(np.prod(shape[1:])))).astype(np.float32),
            B=rng.normal(0, 0.2, (shape[0], rank)).astype(np.float32),
            scaling=(-0.5, 1.0, 2.0, 0.25)[index // 2 % 4],
            component=component,
            kind="conv" if kernel else "linear",
            kernel=kernel,
        )
    return factors


@pytest.mark.parametrize("rslora", [False, True])
def test_a_peft_folder_of_a_unet(pipeline, tmp_path, rslora):
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=EVERYWHERE,
        rank_pattern={"conv1": 2, "mid_block.attentions.0.proj_in": 3},
        alpha_pattern={"to_k": 1, "^time_embedding.linear_1": 9},
        use_rslora=rslora,
    )
    model = stir(get_peft_model(pipeline.unet, config))
    model.save_pretrained(tmp_path)
    assert distance(deltas(load_adapter(tmp_path)), live(model)) < 1e-6


@pytest.mark.parametrize("core", [False, True])
def test_a_loha_of_peft(pipeline, tmp_path, core):
    config = LoHaConfig(
        r=2,
        alpha=3,
        target_modules=EVERYWHERE,
        rank_pattern={"proj_in": 3},
        alpha_pattern={"conv1": 5},
        use_effective_conv2d=core,
        init_weights=False,
    )
    model = stir(get_peft_model(pipeline.unet, config))
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert distance(deltas(loaded.adapter), live(model)) < 1e-6
    assert loaded.adapter.card.source_format == "peft LoHa"
    assert "LoHa modules became LoRA factors" in loaded.report[0]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"use_effective_conv2d": True, "decompose_both": True},
        {"decompose_factor": 4, "rank_pattern": {"to_q": 64, "conv": 64}},
    ],
    ids=["plain", "core and both split", "whole"],
)
def test_a_lokr_of_peft(pipeline, tmp_path, more):
    config = LoKrConfig(
        r=2,
        alpha=3,
        target_modules=EVERYWHERE,
        alpha_pattern={"to_q": 5, "conv1": 5},
        init_weights=False,
        **more,
    )
    model = stir(get_peft_model(pipeline.unet, config))
    model.save_pretrained(tmp_path)
    assert distance(deltas(load_adapter(tmp_path)), live(model)) < 1e-6


def test_a_dora_of_peft(pipeline, tmp_path):
    config = LoraConfig(r=2, lora_alpha=4, target_modules=EVERYWHERE, use_dora=True)
    model = stir(get_peft_model(pipeline.unet, config))
    model.save_pretrained(tmp_path)
    adapter = load_adapter(tmp_path)
    assert distance(with_magnitude(adapter, model), merged(model)) < 1e-5


def test_what_diffusers_saves_with_its_header(pipeline, tmp_path):
    pattern = {"down_blocks.0.resnets.0.conv1": 7}
    config = LoraConfig(r=4, lora_alpha=6, target_modules=EVERYWHERE, alpha_pattern=pattern)
    pipeline.unet.add_adapter(config, "a")
    words = LoraConfig(r=2, lora_alpha=5, target_modules=TEXT)
    inject_adapter_in_model(words, pipeline.text_encoder, "a")
    stir(pipeline.unet)
    stir(pipeline.text_encoder, 1)
    pipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(pipeline.unet, adapter_name="a"),
        text_encoder_lora_layers=get_peft_model_state_dict(pipeline.text_encoder, adapter_name="a"),
        unet_lora_adapter_metadata=pipeline.unet.peft_config["a"].to_dict(),
        text_encoder_lora_adapter_metadata=words.to_dict(),
    )
    expected = live(pipeline.unet) | live(pipeline.text_encoder, "text_encoder")
    assert distance(deltas(load_adapter(tmp_path)), expected) < 1e-6


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_what_we_write_diffusers_has_in_every_module(pipeline, tmp_path, dialect):
    factors = mixed_adapter(pipeline.unet, "unet", 1)
    factors |= mixed_adapter(pipeline.text_encoder, "text_encoder", 2)
    adapter = Adapter(factors, AdapterCard(title="Mixed"))
    path = export(adapter, dialect, tmp_path / "out.safetensors", {"date": "2026-01-01"})
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    found = live(pipeline.unet) | live(pipeline.text_encoder, "text_encoder")
    assert distance(found, deltas(adapter)) < 1e-3


def test_a_dora_we_write_is_dora_in_diffusers(pipeline, tmp_path):
    rng = np.random.default_rng(5)
    factors = {
        name: LoraFactors(
            m.A, m.B, 1.0, "unet", m.kind, m.kernel, rng.uniform(0.5, 2, m.d_out).astype("f")
        )
        for name, m in mixed_adapter(pipeline.unet, "unet", 3).items()
    }
    adapter = Adapter(factors)
    path = export(adapter, "diffusers", tmp_path / "out.safetensors")
    pipeline.load_lora_weights(path.parent, weight_name=path.name)
    assert distance(merged(pipeline.unet), with_magnitude(adapter, pipeline.unet)) < 1e-3
    again = load_adapter(export(adapter, "kohya", tmp_path / "k.safetensors"))
    assert distance(with_magnitude(again, pipeline.unet), merged(pipeline.unet)) < 1e-3


def test_a_peft_folder_we_write_loads_into_its_unet(pipeline, tmp_path):
    from peft import PeftModel

    adapter = Adapter(mixed_adapter(pipeline.unet, "unet", 4))
    folder = export(adapter, "peft", tmp_path / "folder")
    model = PeftModel.from_pretrained(pipeline.unet, folder)
    assert distance(live(model), deltas(adapter)) < 1e-6


def test_attention_processor_names_mean_what_diffusers_takes_them_for(pipeline, tmp_path):
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, module in pipeline.unet.named_modules():
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0")):
            stem, _, leaf = name.removesuffix(".0").rpartition(".")
            out, into = module.weight.shape
            start = f"unet.{stem}.processor.{leaf}_lora"
            tensors[f"{start}.down.weight"] = torch.randn(3, into, generator=generator)
            tensors[f"{start}.up.weight"] = torch.randn(out, 3, generator=generator)
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors")
    pipeline.load_lora_weights(tmp_path)
    assert distance(deltas(load_adapter(tmp_path)), live(pipeline.unet)) < 1e-6


def test_the_original_names_of_an_xl_unet_mean_what_diffusers_takes_them_for(tmp_path):
    """Every module, from diffusers' name to the original code's and back by both readers."""
    from safetensors.torch import save_file

    torch.manual_seed(7)
    pipeline = tiny_pipelines.sdxl(tmp_path)
    blocks = {
        "block_out_channels": (8, 8, 16),
        "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True,
    }
    pipeline.unet = tiny_pipelines.unet(**blocks)
    generator = torch.Generator().manual_seed(0)
    tensors, names = {}, {}
    for name, module in pipeline.unet.named_modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            stem = f"lora_unet_{original(name)}"
            names[stem] = f"unet.{name}"
            down = torch.randn(2, *module.weight.shape[1:], generator=generator)
            up = torch.randn(len(module.weight), 2, generator=generator)
            tensors[f"{stem}.lora_down.weight"] = down
            tensors[f"{stem}.lora_up.weight"] = up[..., None, None] if down.ndim == 4 else up
            tensors[f"{stem}.alpha"] = torch.tensor(3.0)
    save_file(tensors, tmp_path / "xl.safetensors")
    ours = load_adapter(tmp_path / "xl.safetensors")
    assert sorted(ours.factors) == sorted(names.values())
    pipeline.load_lora_weights(tmp_path, weight_name="xl.safetensors")
    assert distance(live(pipeline.unet), deltas(ours)) < 1e-6


def original(name):
    """The original Stable Diffusion code's name, underscored, of a module of a diffusers UNet."""
    whole = {
        "conv_in": "input_blocks_0_0",
        "conv_out": "out_2",
        "time_embedding.linear_1": "time_embed_0",
        "time_embedding.linear_2": "time_embed_2",
    }
    if name in whole:
        return whole[name]
    inner = {
        "conv1": "in_layers_2",
        "conv2": "out_layers_3",
        "time_emb_proj": "emb_layers_1",
        "conv_shortcut": "skip_connection",
    }
    parts = name.split(".")
    if parts[0] == "mid_block":
        kind, layer, rest = parts[1], int(parts[2]), parts[3:]
        home = f"middle_block_{1 if kind == 'attentions' else 2 * layer}"
    else:
        block, kind, layer, rest = int(parts[1]), parts[2], int(parts[3]), parts[4:]
        down = parts[0] == "down_blocks"
        if kind == "downsamplers":
            return f"input_blocks_{3 * block + 3}_0_op"
        if kind == "upsamplers":
            return f"output_blocks_{3 * block + 2}_{1 if block == 2 else 2}_conv"
        number = 3 * block + layer + (1 if down else 0)
        home = f"{'input' if down else 'output'}_blocks_{number}_{int(kind == 'attentions')}"
    tail = [inner.get(rest[0], rest[0]), *rest[1:]]
    return "_".join([home, *tail])
