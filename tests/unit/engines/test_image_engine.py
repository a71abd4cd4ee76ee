"""Pictures with adapters: as diffusers' own loader makes them, as alone, and without a trace."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from lora_studio.adapter import Adapter
from lora_studio.composition.schedule import Branch, Scheduled, constant
from lora_studio.engines.adapter_bank import adaptable_modules
from lora_studio.engines.denoising import Conductor
from lora_studio.engines.grouped_rows import GroupedRows
from lora_studio.engines.image import Denoising, ImageEngine, ImageRow, plain
from lora_studio.errors import Cancelled, IncompatibleAdapters, InvalidRequest
from tests.tiny_pipelines import MAKERS, random_adapter, save_pipeline

WISH = Denoising(steps=3, width=32, height=32, guidance=4.0)


@pytest.fixture(scope="module")
def engine_of(tmp_path_factory):
    @cache
    def make(kind: str) -> ImageEngine:
        folder = save_pipeline(kind, tmp_path_factory.mktemp(kind))
        return ImageEngine(str(folder), "cpu")

    return make


@pytest.fixture(params=list(MAKERS))
def engine(request, engine_of):
    found = engine_of(request.param)
    yield found
    for adapter_id in list(found.bank.ids):
        found.bank.remove(adapter_id)


@pytest.fixture
def sd(engine_of):
    found = engine_of("sd1")
    yield found
    for adapter_id in list(found.bank.ids):
        found.bank.remove(adapter_id)


def modules_of(engine: ImageEngine, *, text: bool = False) -> dict[str, tuple[int, int]]:
    every = adaptable_modules(engine.bank.modules)
    keep = (f"{engine.family.denoiser}.",)
    if text:
        keep += tuple(f"{name}.text_model." for name in engine.family.text_encoders)
    return {name: dims for name, dims in every.items() if name.startswith(keep)}


def weights_of(engine: ImageEngine) -> dict[str, torch.Tensor]:
    parts = (engine.family.denoiser, *engine.family.text_encoders, "vae")
    return {
        f"{part}.{name}": tensor.clone()
        for part in parts
        for name, tensor in getattr(engine.pipe, part).state_dict().items()
    }


def difference(left: np.ndarray, right: np.ndarray) -> int:
    return int(np.abs(left.astype(int) - right).max())


def test_every_picture_of_a_batch_is_the_one_made_alone(engine):
    engine.bank.add("a", random_adapter(modules_of(engine), 1))
    engine.bank.add("b", random_adapter(modules_of(engine), 2, rank=3))
    rows = [
        ImageRow("base", "a cat", seed=1),
        ImageRow("a", "a cat", plain({"a": 1.0}), 1),
        ImageRow("both", "a cat", plain({"a": 0.5, "b": -0.3}), 1),
        ImageRow("other", "a big dog", plain({"b": 1.0}), 2),
    ]
    together = engine.generate(rows, WISH)
    for row, picture in zip(rows, together, strict=True):
        assert difference(engine.generate([row], WISH)[0].pixels, picture.pixels) <= 1
    assert difference(together[0].pixels, together[1].pixels) > 20


def test_rows_of_one_seed_start_from_one_noise(engine):
    rows = [ImageRow(str(i), "a cat", seed=5) for i in range(3)]
    first, *others = engine.generate(rows, WISH)
    assert all(difference(first.pixels, other.pixels) <= 1 for other in others)


@pytest.mark.parametrize("kind", MAKERS)
def test_each_modules_delta_is_what_diffusers_own_loader_installs(kind, engine_of, tmp_path):
    engine = engine_of(kind)
    linear = {
        name: dims
        for name, dims in modules_of(engine).items()
        if any(part in name for part in ("to_q", "to_out.0", "to_v", "proj_in"))
    }
    adapter = random_adapter(linear, 3)
    engine.bank.add("mine", adapter)
    pieces = engine.bank.pieces({"mine": 1.0}, ("",))
    folder = save_pipeline(kind, tmp_path / kind)
    pipe = type(engine.pipe).from_pretrained(folder)
    pipe.load_lora_weights(state_dict_of(adapter, engine), adapter_name="theirs")
    theirs = {
        f"{engine.family.denoiser}.{name}": layer.get_delta_weight("theirs").flatten(1)
        for name, layer in engine_layers(pipe, engine)
        if "theirs" in layer.lora_A
    }
    assert theirs.keys() == pieces.keys()
    for name, piece in pieces.items():
        torch.testing.assert_close(piece.B @ piece.A, theirs[name], atol=1e-5, rtol=1e-4)
    engine.bank.remove("mine")


def state_dict_of(adapter: Adapter, engine: ImageEngine) -> dict[str, torch.Tensor]:
    found = {}
    for name, factors in adapter.factors.items():
        a, b = torch.from_numpy(factors.A), torch.from_numpy(factors.B)
        if isinstance(engine.bank.modules[name], torch.nn.Conv2d):
            height, width = engine.bank.modules[name].kernel_size
            a, b = a.reshape(len(a), -1, height, width), b[:, :, None, None]
        found |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    return found


def engine_layers(pipe, engine: ImageEngine):
    denoiser = getattr(pipe, engine.family.denoiser)
    return ((n, m) for n, m in denoiser.named_modules() if hasattr(m, "lora_A"))


@pytest.mark.parametrize("kind", ["sd1", "sdxl"])
def test_pictures_with_unet_convolutions_and_text_encoders_are_those_of_diffusers(
    kind, engine_of, tmp_path
):
    engine = engine_of(kind)
    modules = modules_of(engine, text=True)
    own = [n for n in modules if n.startswith(("unet.", "text"))]
    own = [n for n in own if "embed" not in n and "time_" not in n and "_projection" not in n]
    adapter = random_adapter({n: modules[n] for n in own}, 4, size=0.2)
    engine.bank.add("mine", adapter)
    row = ImageRow("x", "a small cat", plain({"mine": 1.0}), 3)
    mine = engine.generate([row], WISH)[0].pixels
    pipe = type(engine.pipe).from_pretrained(save_pipeline(kind, tmp_path / kind))
    pipe.load_lora_weights(state_dict_of(adapter, engine), adapter_name="theirs")
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        "a small cat",
        num_inference_steps=3,
        width=32,
        height=32,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images[0]
    assert difference((theirs * 255).round().astype(np.uint8), mine) <= 1
    bare = engine.generate([replace(row, plan=plain({}))], WISH)[0].pixels
    assert difference(bare, mine) > 20
    engine.bank.remove("mine")


@pytest.mark.parametrize("leaf", ["attn1.to_q", "conv1"])
def test_dora_agrees_with_peft_on_linear_layers_and_convolutions(sd, leaf, tmp_path):
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, get_peft_model_state_dict

    save_pipeline("sd1", tmp_path)
    unet = UNet2DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=[leaf], use_dora=True))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
            if "magnitude" in name:
                parameter.mul_(1.5)
    state = get_peft_model_state_dict(unet)
    factors = {}
    for key, a in state.items():
        if ".lora_A." not in key:
            continue
        name = key.split(".lora_A.")[0]
        b = state[key.replace("lora_A", "lora_B")]
        m = state[f"{name}.lora_magnitude_vector"]
        shaped = random_adapter({f"unet.{name}": (a[0].numel(), len(b))}).factors[f"unet.{name}"]
        factors[f"unet.{name}"] = replace(
            shaped,
            A=a.flatten(1).numpy(),
            B=b.flatten(1).numpy(),
            scaling=2.0,
            magnitude=m.flatten().numpy(),
        )
    sd.bank.add("dora", Adapter(factors))
    inputs = (torch.randn(2, 4, 8, 8), torch.tensor(5))
    context = torch.randn(2, 16, 16)
    rows = GroupedRows(((0, 2, sd.bank.pieces({"dora": 1.0}, ("unet.",))),), 2)
    with torch.no_grad(), sd.bank.active(rows):
        mine = sd.denoiser(*inputs, encoder_hidden_states=context).sample
    with torch.no_grad():
        theirs = unet(*inputs, encoder_hidden_states=context).sample
        bare = sd.denoiser(*inputs, encoder_hidden_states=context).sample
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-4)
    assert (mine - bare).abs().max() > 1e-2


def test_a_name_the_pipeline_lacks_is_an_error_that_lists_it(sd):
    name, dims = next(iter(modules_of(sd).items()))
    adapter = random_adapter({name: dims, "unet.no_such.layer": dims})
    with pytest.raises(IncompatibleAdapters, match=r"unet\.no_such\.layer"):
        sd.bank.add("bad", adapter)
    assert not sd.bank.has("bad")


class Mean:
    def __init__(self, n: int) -> None:
        self.n = n

    def wanted(self, step, steps):
        return range(self.n)

    def combine(self, predictions, view):
        assert view.halves == ("uncond", "cond")
        return sum(predictions.values()) / self.n


@pytest.mark.parametrize("kind", ["sd1", "flux"])
@pytest.mark.parametrize("max_batch", [64, 4, 1])
def test_branches_in_one_batch_equal_one_pass_after_another(kind, max_batch, engine_of):
    engine = engine_of(kind)
    for seed in range(3):
        engine.bank.add(str(seed), random_adapter(modules_of(engine), seed, size=0.2))
    branches = tuple(constant({str(i): 1.0}) for i in range(3))
    plans = [Scheduled(branches, lambda: _Halves(3)), plain({"1": 0.5})]
    torch.manual_seed(3)
    args, kwargs = denoiser_inputs(engine, rows=2)
    alone = []
    for adapter_id, weight in (("0", 1.0), ("1", 1.0), ("2", 1.0), ("1", 0.5)):
        pieces = engine.bank.pieces({adapter_id: weight}, ("",))
        n = 2 * max(1, len(engine.family.halves))
        with torch.no_grad(), engine.bank.active(GroupedRows(((0, n, pieces),), n)):
            alone.append(engine.denoiser(*args, **kwargs, return_dict=False)[0])
    conductor = Conductor(engine.bank, engine.family, plans, 4, (8, 8), None, max_batch)
    with torch.no_grad(), conductor.conducting(engine.denoiser):
        together = engine.denoiser(*args, **kwargs, return_dict=False)[0]
    mean = sum(alone[:3]) / 3
    for row in range(len(together)):
        expected = mean if row % 2 == 0 else alone[3]
        torch.testing.assert_close(together[row], expected[row], atol=1e-5, rtol=1e-4)
    assert [conductor.passes(0), conductor.passes(1)] == [3.0, 1.0]


class _Halves(Mean):
    def combine(self, predictions, view):
        return sum(predictions.values()) / self.n


def denoiser_inputs(engine: ImageEngine, rows: int):
    if engine.family.name == "sd1":
        n = 2 * rows
        return (torch.randn(n, 4, 8, 8), torch.tensor(7)), {
            "encoder_hidden_states": torch.randn(n, 16, 16)
        }
    return (), {
        "hidden_states": torch.randn(rows, 64, 16),
        "encoder_hidden_states": torch.randn(rows, 6, 32),
        "pooled_projections": torch.randn(rows, 16),
        "timestep": torch.full((rows,), 0.5),
        "img_ids": torch.randn(64, 3),
        "txt_ids": torch.zeros(6, 3),
    }


def test_each_step_is_given_the_embedding_of_the_adapters_that_act(sd):
    for seed in (1, 2):
        sd.bank.add(str(seed), random_adapter(modules_of(sd, text=True), seed, keep="text_model"))
    seen: list[torch.Tensor] = []
    forward = type(sd.denoiser).forward

    def spy(self, *args, **kwargs):
        seen.append(kwargs["encoder_hidden_states"].clone())
        return forward(self, *args, **kwargs)

    def turn(step: int, steps: int) -> dict[str, float]:
        return {"1": 1.0} if step < 2 else {"2": 1.0}

    plan = Scheduled((Branch(turn, text=turn),))
    type(sd.denoiser).forward = spy
    try:
        sd.generate([ImageRow("x", "a cat", plan, 0)], replace(WISH, steps=4))
        switched = list(seen)
        seen.clear()
        for adapter_id in ("1", "2"):
            sd.generate([ImageRow("x", "a cat", plain({adapter_id: 1.0}), 0)], WISH)
    finally:
        type(sd.denoiser).forward = forward
    first, second = seen[0], seen[-1]
    assert not torch.equal(first, second)
    for step, expected in enumerate((first, first, second, second)):
        torch.testing.assert_close(switched[step], expected, atol=1e-6, rtol=1e-5)


def test_the_base_model_is_bit_identical_after_a_run_an_error_and_a_cancel(engine):
    before = weights_of(engine)
    forward = engine.denoiser.forward
    engine.bank.add("a", random_adapter(modules_of(engine), 1))
    row = ImageRow("x", "a cat", plain({"a": 1.0}), 0)
    first = engine.generate([row], WISH)[0].pixels
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        engine.generate([row], WISH, check=stop)

    class Broken(Mean):
        def combine(self, predictions, view):
            raise ZeroDivisionError

    broken = Scheduled((constant({"a": 1.0}),), lambda: Broken(1))
    with pytest.raises(ZeroDivisionError):
        engine.generate([replace(row, plan=broken)], WISH)
    assert engine.denoiser.forward == forward
    assert all(torch.equal(t, before[n]) for n, t in weights_of(engine).items())
    assert difference(engine.generate([row], WISH)[0].pixels, first) == 0


def test_progress_counts_every_step_and_shows_previews_where_asked(sd):
    updates = []
    row = ImageRow("x", "a cat")
    sd.generate([row], replace(WISH, steps=5), on_step=updates.append, preview_every=2)
    assert [u.step for u in updates] == [1, 2, 3, 4, 5]
    assert [len(u.previews) for u in updates] == [0, 1, 0, 1, 0]
    assert updates[1].previews[0].shape == (32, 32, 3)


def test_samplers_can_be_chosen_and_the_own_one_returns(sd):
    own, seen, made = sd.pipe.scheduler, [], []
    row = ImageRow("x", "a cat")
    for name in ("", "ddim", "dpm++ 2m"):
        wish = replace(WISH, scheduler=name)
        made.append(sd.generate([row], wish, check=lambda: seen.append(sd.pipe.scheduler))[0])
    kinds = list(dict.fromkeys(type(scheduler).__name__ for scheduler in seen))
    assert kinds == ["DDIMScheduler", "DPMSolverMultistepScheduler"]
    assert difference(made[0].pixels, made[1].pixels) <= 1, "ddim is its own sampler"
    assert sd.pipe.scheduler is own


def test_what_a_family_cannot_do_is_refused_before_anything_runs(engine_of):
    qwen = engine_of("qwen-image")
    text = {n: d for n, d in adaptable_modules(qwen.bank.modules).items() if "q_proj" in n}
    qwen.bank.add("text", random_adapter(text, 1))
    with pytest.raises(IncompatibleAdapters, match="text encoder"):
        qwen.generate([ImageRow("x", "a cat", plain({"text": 1.0}))], WISH)
    qwen.bank.remove("text")
    with pytest.raises(InvalidRequest, match="negative prompt"):
        engine_of("flux").generate([ImageRow("x", "a cat")], replace(WISH, negative="dog"))
    with pytest.raises(InvalidRequest, match="flow matching"):
        engine_of("flux").generate([ImageRow("x", "a cat")], replace(WISH, scheduler="ddim"))
