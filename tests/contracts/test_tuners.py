"""PEFT's methods that are no LoRA: what PEFT's layers add to a model is what we read of the files
it saves, or the file is refused with the reason. PEFT itself makes every adapter here."""

import json

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load, load_adapter
from tests.deltas import deltas, distance

EXACT = 1e-6
TARGETS = ["up", "down", "square", "wide.first"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down, self.square = nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 12)
        self.wide = nn.ModuleDict({"first": nn.Linear(8, 32)})
        self.untouched = nn.Linear(4, 4)

    def forward(self, x):
        return self.down(self.up(self.square(x)))


class Transposed(nn.Module):
    """Layers that store their weight as (d_in, d_out), as GPT-2's do."""

    def __init__(self):
        super().__init__()
        self.up, self.down = Conv1D(20, 12), Conv1D(12, 20)

    def forward(self, x):
        return self.down(self.up(x))


EVERY = {"target_modules": TARGETS}
CONFIGS = {
    "adalora": lambda: peft.AdaLoraConfig(
        **EVERY, init_r=4, target_r=2, total_step=9, lora_alpha=6
    ),
    "adalora without alpha": lambda: peft.AdaLoraConfig(
        **EVERY, init_r=3, target_r=2, total_step=9, lora_alpha=0
    ),
    "vera": lambda: peft.VeraConfig(**EVERY, r=4),
    "vera from its seed": lambda: peft.VeraConfig(
        **EVERY, r=5, save_projection=False, projection_prng_key=41
    ),
    "vblora": lambda: peft.VBLoRAConfig(**EVERY, r=2, num_vectors=7, vector_length=4, topk=3),
    "vblora, top weights only": lambda: peft.VBLoRAConfig(
        **EVERY, r=2, num_vectors=7, vector_length=4, topk=3, save_only_topk_weights=True
    ),
    "unilora": lambda: peft.UniLoraConfig(**EVERY, r=3, theta_d_length=40, save_indices=True),
    "randlora": lambda: peft.RandLoraConfig(**EVERY, r=5, randlora_alpha=10),
    "randlora, sparse, from its seed": lambda: peft.RandLoraConfig(
        **EVERY, r=4, save_projection=False, projection_prng_key=6, sparse=True
    ),
    "randlora, very sparse, from its seed": lambda: peft.RandLoraConfig(
        **EVERY, r=4, save_projection=False, projection_prng_key=6, very_sparse=True
    ),
    "miss": lambda: peft.MissConfig(**EVERY, r=4),
    "miss, inputs no multiple of r": lambda: peft.MissConfig(**EVERY, r=5),
    "miss, mini": lambda: peft.MissConfig(**EVERY, r=4, init_weights="mini", mini_r=4),
    "shira": lambda: peft.ShiraConfig(**EVERY, r=1),
    "fourierft": lambda: peft.FourierFTConfig(**EVERY, n_frequency=10, scaling=50.0),
    "fourierft, few": lambda: peft.FourierFTConfig(**EVERY, n_frequency=3),
    "fourierft, many": lambda: peft.FourierFTConfig(
        **EVERY, n_frequency=100, scaling=3.0, random_loc_seed=9
    ),
    "c3a": lambda: peft.C3AConfig(**EVERY, block_size=4),
    "gralora": lambda: peft.GraloraConfig(**EVERY, r=4, gralora_k=2, alpha=6),
    "gralora, hybrid": lambda: peft.GraloraConfig(**EVERY, r=4, gralora_k=2, alpha=6, hybrid_r=3),
    "delora": lambda: peft.DeloraConfig(**EVERY, r=4),
    "lora, orthogonal": lambda: peft.LoraConfig(**EVERY, r=4, init_lora_weights="orthogonal"),
    "rslora": lambda: peft.LoraConfig(**EVERY, r=4, lora_alpha=8, use_rslora=True),
}
TURNED = {
    "vera": lambda: peft.VeraConfig(target_modules=["up", "down"], r=4, fan_in_fan_out=True),
    "fourierft": lambda: peft.FourierFTConfig(
        target_modules=["up", "down"], n_frequency=10, fan_in_fan_out=True
    ),
    "vblora": lambda: peft.VBLoRAConfig(
        target_modules=["up", "down"],
        r=2,
        num_vectors=7,
        vector_length=4,
        topk=3,
        fan_in_fan_out=True,
    ),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(config, model=None, seed=0):
    """A model with an adapter whose every trainable number is random, so that nothing is zero."""
    torch.manual_seed(seed)
    made = peft.get_peft_model(model or Model(), config)
    generator = torch.Generator().manual_seed(seed + 1)
    for name, parameter in made.named_parameters():
        own = parameter.requires_grad or "spectrum" in name or "shira" in name
        if own and parameter.dtype.is_floating_point and "base_layer" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return made


def shapes_of(model):
    """As a checkpoint has them: the base's own names, whichever way round each weight lies."""
    return {
        name.removesuffix(".weight").replace(".base_layer", ""): tuple(parameter.shape)
        for name, parameter in model.get_base_model().named_parameters()
        if name.endswith("weight") and parameter.ndim == 2
    }


def added(model):
    """Module -> (d_out, d_in) that merging adds, to a base of zeros so that nothing is rounded."""
    layers = {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "base_layer")
    }
    found = {}
    for name, layer in layers.items():
        base = layer.get_base_layer()
        base.weight.data.zero_()
        layer.merge()
        merged = layer.get_base_layer().weight.data.clone()
        found[name] = (merged.T if isinstance(base, Conv1D) else merged).double().numpy()
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_what_peft_adds_is_what_we_read(name, tmp_path):
    model = trained(CONFIGS[name]())
    model.save_pretrained(tmp_path)
    shapes = shapes_of(model)
    adapter = load_adapter(tmp_path, shapes=lambda base: shapes)
    expected = added(model)
    assert min(np.abs(delta).max() for delta in expected.values()) > 1e-5
    assert distance(deltas(adapter), expected) < EXACT


@pytest.mark.parametrize("name", TURNED)
def test_layers_that_lie_the_other_way_round_are_read_the_right_way(name, tmp_path):
    model = trained(TURNED[name](), Transposed())
    model.save_pretrained(tmp_path)
    shapes = shapes_of(model)
    adapter = load_adapter(tmp_path, shapes=lambda base: shapes)
    assert distance(deltas(adapter), added(model)) < EXACT


def test_the_report_says_what_was_converted(tmp_path):
    trained(CONFIGS["gralora"]()).save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.adapter.card.source_format == "peft-tuner GraLoRA"
    assert any("4 GraLoRA modules became LoRA factors" in line for line in loaded.report)


@pytest.mark.parametrize("name", ["vera", "fourierft", "shira", "miss", "randlora"])
def test_without_the_base_model_what_lacks_sizes_is_refused_with_a_way_out(name, tmp_path):
    trained(CONFIGS[name]()).save_pretrained(tmp_path)
    with pytest.raises(InvalidAdapter, match=r"base model.*not on this machine.*convert_to_lora"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_tensor_too_few_is_named_never_guessed(name, tmp_path):
    model = trained(CONFIGS[name]())
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    partners = [key for key in tensors if ".up." in key]
    if len(partners) < 2:
        pytest.skip("one tensor a module")
    del tensors[partners[-1]]
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    shapes = shapes_of(model)
    shared = "randlora_B" in partners[-1] or "randlora_A" in partners[-1]
    if shared:  # the copy above all modules is the same tensor
        load_adapter(tmp_path, shapes=lambda base: shapes)
        return
    with pytest.raises(InvalidAdapter, match="up"):
        load_adapter(tmp_path, shapes=lambda base: shapes)


@pytest.mark.parametrize("missing", ["topk", "scaling", "random_loc_seed", "randlora_alpha"])
def test_a_field_the_update_depends_on_is_asked_for(missing, tmp_path):
    owner = {"topk": "vblora", "randlora_alpha": "randlora"}.get(missing, "fourierft")
    model = trained(CONFIGS[owner]())
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    config = json.loads(file.read_text())
    del config[missing]
    file.write_text(json.dumps(config))
    shapes = shapes_of(model)
    with pytest.raises(InvalidAdapter, match=f"does not say '{missing}'"):
        load_adapter(tmp_path, shapes=lambda base: shapes)


REFUSED = {
    "multiplies the base": [
        lambda: peft.MissConfig(**EVERY, r=4, init_weights="bat"),
        lambda: peft.HiraConfig(**EVERY, r=4),
        lambda: peft.GloraConfig(**EVERY, r=4),
    ],
    "alters the base model's weights.*plain LoRA of it": [
        lambda: peft.LoraConfig(**EVERY, r=4, init_lora_weights="pissa"),
        lambda: peft.LoraConfig(**EVERY, r=4, init_lora_weights="pissa_niter_3"),
        lambda: peft.LoraConfig(**EVERY, r=4, init_lora_weights="olora"),
    ],
    "turns the base": [
        lambda: peft.OFTConfig(**EVERY, oft_block_size=4),
        lambda: peft.HRAConfig(**EVERY, r=4),
    ],
    "scales what layers put out": [
        lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=[])
    ],
    "at random anew": [lambda: peft.PveraConfig(**EVERY, r=4)],
    "convert_to_lora": [
        lambda: peft.UniLoraConfig(**EVERY, r=4),
        lambda: peft.TinyLoraConfig(**EVERY),
        lambda: peft.WaveFTConfig(**EVERY, n_frequency=10),
    ],
    "save_projection=True": [lambda: peft.RandLoraConfig(**EVERY, r=4, save_projection=False)],
    r"mixture of LoRA experts \(Lily\)": [lambda: peft.LilyConfig(**EVERY, r=4)],
}


@pytest.mark.parametrize(
    ("reason", "make"), [(reason, make) for reason, makes in REFUSED.items() for make in makes]
)
def test_what_has_no_factors_is_refused_with_the_reason(reason, make, tmp_path):
    model = trained(make())
    model.save_pretrained(tmp_path)
    shapes = shapes_of(model)
    with pytest.raises(InvalidAdapter, match=reason):
        load_adapter(tmp_path, shapes=lambda base: shapes)


def test_every_other_method_of_peft_is_named_when_it_is_refused(tmp_path):
    read = {"LORA", "LOHA", "LOKR"}
    trained(CONFIGS["vera"]()).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    from lora_studio.formats import tuners

    for kind in peft.PeftType:
        if kind.value in read or kind.value in tuners.OPTIONS:
            continue
        file.write_text(json.dumps({"peft_type": kind.value}))
        with pytest.raises(InvalidAdapter, match=f"This is a {kind.value} adapter"):
            load_adapter(tmp_path)


def test_a_configuration_of_another_method_than_the_tensors_is_refused(tmp_path):
    trained(CONFIGS["rslora"]()).save_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "VERA"}))
    with pytest.raises(InvalidAdapter, match="saved together"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_lora_that_altered_its_base_is_read_once_peft_has_made_it_plain(start, tmp_path):
    torch.manual_seed(3)
    base = Model()
    before = {name: module.weight.detach().clone() for name, module in linears(base)}
    config = peft.LoraConfig(target_modules=TARGETS, r=4, lora_alpha=8, init_lora_weights=start)
    model = peft.get_peft_model(base, config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "first")
    model.peft_config["default"].init_lora_weights = start
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # training
            parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(
        tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "first")
    )
    found = deltas(load_adapter(tmp_path / "plain"))
    after = {name: module.weight.detach() for name, module in linears(model.merge_and_unload())}
    expected = {name: (after[name] - before[name]).double().numpy() for name in found}
    assert distance(found, expected) < 1e-5  # the merge itself rounds beside the base's weights


def linears(model):
    return ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear))


def test_settings_under_which_factors_are_not_the_update_are_refused(tmp_path):
    trained(CONFIGS["rslora"]()).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    plain = json.loads(file.read_text())
    for field, value in {
        "alora_invocation_tokens": [1, 2],
        "use_qalora": True,
        "layer_replication": [[0, 4]],
        "arrow_config": {"top_k": 3},
    }.items():
        file.write_text(json.dumps({**plain, field: value}))
        with pytest.raises(InvalidAdapter, match="cannot be composed"):
            load_adapter(tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_shapes_and_values_are_refused_and_nothing_else_happens(name, tmp_path):
    """Each tensor in turn gets other dimensions, huge values or strange indices."""
    model = trained(CONFIGS[name]())
    model.save_pretrained(tmp_path)
    shapes = shapes_of(model)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    rng = np.random.default_rng(0)
    for key in [key for key in tensors if ".down." in key or ".model." not in key]:
        for other in (
            np.ones((1,), np.float32),
            np.ones((1, 1, 1, 1), np.float32),
            np.full(tensors[key].shape, 3e38, np.float32),
            -np.ones(tensors[key].shape, np.float32),
            rng.normal(size=tuple(n + 1 for n in tensors[key].shape)).astype(np.float32),
            np.ones((3000, *tensors[key].shape[1:]), np.float32),
        ):
            changed = tmp_path / "changed"
            changed.mkdir(exist_ok=True)
            save_file({**tensors, key: other}, changed / "adapter_model.safetensors")
            config = (tmp_path / "adapter_config.json").read_text()
            (changed / "adapter_config.json").write_text(config)
            try:
                found = load_adapter(changed, shapes=lambda base: shapes)
            except InvalidAdapter:
                continue
            assert all(np.isfinite(m.A).all() for m in found.factors.values())
