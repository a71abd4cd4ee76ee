"""Names of the models' original code, and how their matrices become diffusers' modules."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from lora_studio.adapter import LoraFactors
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import load
from lora_studio.formats.cuts import Cut, divide
from lora_studio.formats.originals import FLUX, TABLES
from lora_studio.formats.originals.table import choose

QKV = Cut(("q", "k", "v"), (1, 1, 1))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def read(folder, tensors, **more):
    save_file(tensors, folder / "file.safetensors", **more)
    return load(folder / "file.safetensors")


def pair(stem, rank, d_in, d_out, roles=("lora_A.weight", "lora_B.weight")):
    return {f"{stem}.{roles[0]}": normal(rank, d_in), f"{stem}.{roles[1]}": normal(d_out, rank)}


def test_parts_share_their_ranks_and_their_updates_are_rows_of_the_whole():
    whole = LoraFactors(normal(3, 4), normal(12, 3), 0.5)
    parts = divide("qkv", whole, QKV)
    assert [part.rank for part in parts.values()] == [3, 3, 3]
    np.testing.assert_array_equal(np.vstack([parts[n].delta() for n in QKV.paths]), whole.delta())


def test_parts_trained_apart_keep_only_their_own_ranks():
    b = np.zeros((12, 6), np.float32)
    for index in range(3):
        b[4 * index : 4 * index + 4, 2 * index : 2 * index + 2] = normal(4, 2, seed=index)
    whole = LoraFactors(normal(6, 4), b, -2.0)
    parts = divide("qkv", whole, QKV)
    assert [part.rank for part in parts.values()] == [2, 2, 2]
    np.testing.assert_allclose(
        np.vstack([parts[n].delta() for n in QKV.paths]), whole.delta(), rtol=1e-6
    )
    b[0, 5] = 1e-3
    assert [part.rank for part in divide("qkv", whole, QKV).values()] == [6, 6, 6]


def test_an_untrained_matrix_keeps_all_its_ranks():
    parts = divide("qkv", LoraFactors(normal(3, 4), np.zeros((12, 3), np.float32)), QKV)
    assert [part.rank for part in parts.values()] == [3, 3, 3]


def test_scale_and_shift_change_places_where_a_module_is_twice_as_high_as_wide():
    cut = Cut(("norm",), swapped=True)
    for height, order in ((4, [2, 3, 0, 1]), (12, range(12))):
        whole = LoraFactors(normal(1, 2), normal(height, 1), magnitude=normal(height))
        norm = divide("x", whole, cut)["norm"]
        np.testing.assert_array_equal(norm.B, whole.B[list(order)])
        np.testing.assert_array_equal(norm.magnitude, whole.magnitude[list(order)])


def test_every_known_name_leads_to_a_module_of_its_own():
    for table in TABLES:
        assert table.find("something.else") is None
        for name in table.rows:
            dotted = table.find(name.format(7))
            assert dotted is not None
            assert dotted == table.find(name.format(7).replace(".", "_"))
            assert "{}" not in str(dotted.paths)


def test_tables_agree_on_the_blocks_they_share():
    for one in TABLES:
        for other in TABLES:
            shared = [n for n in one.rows if "{}" in n and other.find(n.format(0))]
            assert all(one.find(n.format(0)).paths == other.find(n.format(0)).paths for n in shared)


def test_the_family_whose_names_they_mostly_are_is_chosen():
    names = ["img_in", "transformer_blocks_0_attn_to_q", "transformer_blocks_0_img_mod_1"]
    assert choose(TABLES, names).name == "qwen-image"
    assert choose(TABLES, ["img_in", "double_blocks_0_img_attn_qkv"]) is FLUX
    assert choose(TABLES, ["down_blocks_0_conv"]) is None


@pytest.mark.parametrize(
    ("stem", "d_in", "d_out"),
    [
        ("single_blocks.0.linear1", 8, 72),
        ("double_blocks.0.img_mlp.0", 8, 48),
        ("double_blocks.0.img_attn.qkv", 8, 23),
    ],
)
def test_another_model_with_the_same_names_is_refused(tmp_path, stem, d_in, d_out):
    with pytest.raises(InvalidAdapter, match=r"outputs where \d+ were expected.*Flux\.2"):
        read(tmp_path, pair(f"diffusion_model.{stem}", 2, d_in, d_out))


def test_a_control_adapter_of_flux_is_refused_with_the_reason(tmp_path):
    tensors = pair("double_blocks.0.img_attn.qkv", 2, 8, 24)
    tensors["double_blocks.0.img_attn.norm.query_norm.scale"] = normal(4)
    with pytest.raises(InvalidAdapter, match="control adapter"):
        read(tmp_path, tensors)


@pytest.mark.parametrize("start", ["img_in", "transformer.x_embedder"])
def test_an_adapter_that_widens_fluxs_input_is_refused(tmp_path, start):
    inner = {"img_in": "double_blocks.0.img_attn.proj"}.get(
        start, "transformer.single_transformer_blocks.0.attn.to_q"
    )
    tensors = pair(start, 1, 128, 3072) | pair(inner, 1, 3072, 3072)
    with pytest.raises(InvalidAdapter, match="128 channels"):
        read(tmp_path, tensors)
    plain = pair(start, 1, 64, 3072) | pair(inner, 1, 3072, 3072)
    assert len(read(tmp_path, plain).adapter.factors) == 2


def test_a_matrix_and_its_part_in_one_file_are_refused(tmp_path):
    stem = "diffusion_model.layers.0.attention"
    tensors = pair(f"{stem}.qkv", 2, 8, 24) | pair(f"{stem}.to_k", 2, 8, 8)
    with pytest.raises(InvalidAdapter, match=r"layers\.0\.attention\.to_k' twice"):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("diffusion_model.double_blocks.0.img_attn.other.lora_A.weight", "img_attn.other"),
        ("double_blocks.0.processor.qkv_lora3.down.weight", "qkv_lora3"),
        ("text_encoders.qwen25_7b.transformer.x.lora_A.weight", "qwen25_7b"),
        ("diffusion_model.double_blocks.0.img_attn.qkv.diff_b", "diff_b"),
    ],
)
def test_a_name_that_no_table_has_is_told(tmp_path, key, named):
    with pytest.raises(InvalidAdapter, match=named):
        read(
            tmp_path,
            pair("diffusion_model.double_blocks.0.img_attn.qkv", 2, 8, 24) | {key: normal(2, 8)},
        )


def test_what_was_divided_is_reported(tmp_path):
    loaded = read(tmp_path, pair("diffusion_model.double_blocks.0.img_attn.qkv", 2, 8, 24))
    assert any("divided into" in line and line.endswith(": 1.") for line in loaded.report)
    assert loaded.adapter.card.source_format == "original"


def test_a_language_model_whose_blocks_have_such_names_stays_one(tmp_path):
    adapter = read(tmp_path, pair("model.blocks.0.self_attn.q_proj", 2, 8, 8)).adapter
    assert adapter.modality == "text"
