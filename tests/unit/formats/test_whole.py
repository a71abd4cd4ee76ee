"""GLoRA and whole updates: exact where they can be, short where that is nearly the same, refused
with the reason where neither holds."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load, low_rank
from lora_studio.limits import Limits, limited

Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
NAME = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"


def read(folder, tensors):
    save_file(tensors, folder / "file.safetensors")
    return load(folder / "file.safetensors")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def glora(a=0.0, r=2, d=6):
    return {
        f"{Q}.a1.weight": a * normal(d, r),
        f"{Q}.a2.weight": normal(r, d, seed=1),
        f"{Q}.b1.weight": normal(4, r, seed=2),
        f"{Q}.b2.weight": normal(r, d, seed=3),
        f"{Q}.alpha": np.array(1.0, np.float32),
    }


def test_glora_without_the_part_that_needs_the_base_is_a_lora(tmp_path):
    tensors = glora()
    module = read(tmp_path, tensors).adapter.factors[NAME]
    expected = 0.5 * tensors[f"{Q}.b1.weight"] @ tensors[f"{Q}.b2.weight"]
    np.testing.assert_allclose(module.delta(), expected, rtol=1e-6, atol=1e-7)


def test_glora_that_needs_the_base_is_refused_with_the_reason(tmp_path):
    with pytest.raises(InvalidAdapter, match=r"multiplies the base model's own weight"):
        read(tmp_path, glora(a=0.1))


@pytest.mark.parametrize("lost", ["a1", "a2", "b1", "b2"])
def test_a_missing_glora_factor_is_named(tmp_path, lost):
    tensors = glora()
    del tensors[f"{Q}.{lost}.weight"]
    with pytest.raises(InvalidAdapter, match=lost):
        read(tmp_path, tensors)


def test_glora_factors_that_do_not_agree_are_refused(tmp_path):
    with pytest.raises(InvalidAdapter, match=r"expected \(d_out, r\)"):
        read(tmp_path, glora() | {f"{Q}.b2.weight": normal(3, 5)})


def test_a_whole_update_of_low_rank_comes_out_at_that_rank(tmp_path):
    update = normal(30, 3) @ normal(3, 40, seed=1)
    loaded = read(tmp_path, {f"{Q}.diff": update, f"{Q}.diff_b": np.zeros(30, np.float32)})
    module = loaded.adapter.factors[NAME]
    assert module.rank == 3
    np.testing.assert_allclose(module.delta(), update, atol=1e-5)
    assert any("1 whole updates became LoRA factors" in line for line in loaded.report)


def test_a_whole_convolution_keeps_its_kernel(tmp_path):
    module = read(tmp_path, {f"{CONV}.diff": normal(5, 2, 3, 3)}).adapter.factors
    (conv,) = module.values()
    assert (conv.kind, conv.kernel, conv.rank) == ("conv", (2, 3, 3), 5)
    np.testing.assert_allclose(conv.delta(), normal(5, 2, 3, 3).reshape(5, -1), atol=1e-5)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"diff_b": np.ones(4, np.float32)}, "bias"),
        ({"lora_up.weight": normal(4, 2)}, "Which of them counts"),
        ({"diff": normal(4)}, "Norm layers"),
    ],
)
def test_what_no_factors_can_say_is_refused(tmp_path, more, why):
    tensors = {f"{Q}.diff": normal(4, 6)} | {f"{Q}.{tail}": t for tail, t in more.items()}
    with pytest.raises(InvalidAdapter, match=why):
        read(tmp_path, tensors)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(low_rank, "MAX_SIDE", 16)
    with limited(Limits(rank=4)):
        yield


def spectrum(sizes, d_out=12, d_in=10):
    u, v = (np.linalg.qr(normal(n, len(sizes), seed=n))[0] for n in (d_out, d_in))
    return (u * np.array(sizes)) @ v.T


def test_what_is_lost_by_shortening_is_measured_and_said(tmp_path, small):
    update = spectrum([4, 3, 2, 1, 0.15, 0.1]).astype(np.float32)
    loaded = read(tmp_path, {f"{Q}.diff": update})
    module = loaded.adapter.factors[NAME]
    loss = np.linalg.norm(module.delta() - update) / np.linalg.norm(update)
    assert module.rank == 4
    assert loss == pytest.approx(np.hypot(0.15, 0.1) / np.linalg.norm(update), rel=1e-3)
    assert any(f"by {loss:.1%} at most" in line for line in loaded.report)


def test_what_would_lose_too_much_is_refused(tmp_path, small):
    with pytest.raises(InvalidAdapter, match=r"rank 8; its 4 largest directions leave out \d+%"):
        read(tmp_path, {f"{Q}.diff": spectrum([1] * 8).astype(np.float32)})


def test_what_is_too_large_to_take_apart_is_refused_before_it_is_tried(tmp_path, small):
    with pytest.raises(InvalidAdapter, match="20×30 and of full rank"):
        read(tmp_path, {f"{Q}.diff": normal(20, 30)})
