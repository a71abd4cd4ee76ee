import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lora_studio.adapter import Adapter, AdapterCard, LoraFactors
from lora_studio.errors import InvalidAdapter, InvalidRequest, LoraStudioError, NotFound
from lora_studio.formats import export, exporting, load, load_adapter
from lora_studio.formats.header import read_header
from lora_studio.formats.kohya_names import dotted
from lora_studio.limits import OURS, limited
from tests.deltas import deltas, distance

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
KOHYA_Q = f"lora_unet_{Q.replace('.', '_')}"
KOHYA_CONV = f"lora_unet_{CONV.replace('.', '_')}"


def numbers(*shape):
    return np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape) / 10


def read(folder, tensors, metadata=None, config=None, name="my-file.safetensors"):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / name, metadata=metadata)
    if config:
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return load(folder)
    return load(folder / name)


def kohya(stem=KOHYA_Q, rank=2, alpha=None):
    tensors = {
        f"{stem}.lora_down.weight": numbers(rank, 6),
        f"{stem}.lora_up.weight": numbers(4, rank),
    }
    if alpha is not None:
        tensors[f"{stem}.alpha"] = np.array(alpha, np.float32)
    return tensors


def test_alphas_that_differ_between_modules_are_each_their_own(tmp_path):
    other = "lora_te_text_model_encoder_layers_0_mlp_fc1"
    tensors = kohya(alpha=1) | kohya(other, rank=4, alpha=8)
    found = read(tmp_path, tensors).adapter.factors
    half = found[f"unet.{Q}"]
    double = found["text_encoder.text_model.encoder.layers.0.mlp.fc1"]
    assert (half.scaling, double.scaling) == (0.5, 2.0)
    np.testing.assert_allclose(half.delta()[0, 0], 0.5 * (0.1 * 0.1 + 0.2 * 0.7), rtol=1e-6)


def test_alpha_zero_and_no_alpha_mean_the_rank(tmp_path):
    for number, alpha in enumerate((None, 0)):
        loaded = read(tmp_path / str(number), kohya(alpha=alpha))
        assert loaded.adapter.factors[f"unet.{Q}"].scaling == 1.0
        assert any("equal to the rank" in line for line in loaded.report) == (alpha is None)


def test_the_files_alpha_wins_over_the_config_and_that_over_the_header(tmp_path):
    def of(name, tensors, **more):
        return read(tmp_path / name, tensors, **more).adapter.factors[f"unet.{Q}"].scaling

    config = {"peft_type": "LORA", "lora_alpha": 6}
    header = {"lora_adapter_metadata": json.dumps({"unet.lora_alpha": 10})}
    plain = {
        f"unet.{Q}.lora_A.weight": numbers(2, 6),
        f"unet.{Q}.lora_B.weight": numbers(4, 2),
    }
    assert of("header", plain, metadata=header) == 5.0
    assert of("config", plain, metadata=header, config=config) == 3.0
    alpha = {f"unet.{Q}.alpha": np.array(4, np.float32)}
    assert of("tensor", plain | alpha, metadata=header, config=config) == 2.0


def test_an_anchored_pattern_is_for_one_module_only(tmp_path):
    names = ("proj_out", "block.proj_out")
    tensors = {}
    for name in names:
        tensors[f"base_model.model.{name}.lora_A.weight"] = numbers(2, 6)
        tensors[f"base_model.model.{name}.lora_B.weight"] = numbers(4, 2)
    config = {"lora_alpha": 2, "alpha_pattern": {"^proj_out": 8}}
    found = read(tmp_path / "anchored", tensors, config=config).adapter.factors
    assert [found[name].scaling for name in names] == [4.0, 1.0]
    config["alpha_pattern"] = {"proj_out": 8}
    found = read(tmp_path / "loose", tensors, config=config).adapter.factors
    assert [found[name].scaling for name in names] == [4.0, 4.0]


def test_clip_stands_under_text_model_however_it_is_spelled(tmp_path):
    tensors = {}
    for stem in ("encoder.layers.0.mlp.fc1", "text_model.encoder.layers.1.mlp.fc1"):
        stem = f"text_encoder.{stem}"
        tensors[f"{stem}.lora_A.weight"] = numbers(2, 6)
        tensors[f"{stem}.lora_B.weight"] = numbers(4, 2)
    adapter = read(tmp_path, tensors).adapter
    names = [f"text_encoder.text_model.encoder.layers.{i}.mlp.fc1" for i in range(2)]
    assert list(adapter.factors) == names
    assert (adapter.components, adapter.modality) == (("text_encoder",), "image")


def test_a_language_model_with_a_module_called_transformer_is_no_pipeline(tmp_path):
    tensors = {
        "transformer.h.0.attn.c_attn.lora_A.weight": numbers(2, 6),
        "transformer.h.0.attn.c_attn.lora_B.weight": numbers(4, 2),
    }
    adapter = read(tmp_path, tensors).adapter
    assert (list(adapter.factors), adapter.modality) == (["transformer.h.0.attn.c_attn"], "text")


def test_a_core_of_the_wrong_shape_is_refused(tmp_path):
    tensors = {
        f"{KOHYA_CONV}.lora_down.weight": numbers(2, 6, 1, 1),
        f"{KOHYA_CONV}.lora_up.weight": numbers(4, 2, 1, 1),
        f"{KOHYA_CONV}.lora_mid.weight": numbers(2, 3, 3, 3),
    }
    with pytest.raises(InvalidAdapter, match=r"\(r, r, kh, kw\)"):
        read(tmp_path, tensors)


def test_scales_per_input_are_refused_with_the_reason(tmp_path):
    tensors = kohya() | {f"{KOHYA_Q}.dora_scale": numbers(1, 6)}
    with pytest.raises(InvalidAdapter, match="per input"):
        read(tmp_path, tensors)


@pytest.mark.parametrize("role", ["lora_up.weight", "lora_down.weight"])
def test_a_missing_partner_is_named(tmp_path, role):
    tensors = kohya()
    del tensors[f"{KOHYA_Q}.{role}"]
    with pytest.raises(InvalidAdapter, match=r"missing for 'unet\.down_blocks"):
        read(tmp_path, tensors)


@pytest.mark.parametrize(
    "tails",
    [
        {"hada_w1_a": (4, 2), "hada_w1_b": (2, 6), "hada_w2_a": (4, 2)},
        {"hada_w1_a": (4, 2), "hada_w1_b": (3, 6), "hada_w2_a": (4, 2), "hada_w2_b": (2, 6)},
        {"hada_w1_a": (4, 2), "hada_w1_b": (2, 6), "hada_w2_a": (5, 2), "hada_w2_b": (2, 6)},
        {"lokr_w1": (2, 2)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (2, 1)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (2, 1), "lokr_w2_b": (2, 3)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (1, 2), "lokr_w2_b": (1, 3), "lokr_t2": (2, 1, 3, 3)},
        {"lokr_w1": (2,), "lokr_w2": (2, 3)},
        {"lokr_w1": (4096, 1), "lokr_w2": (4096, 1)},
        {"lora_down.weight": (2, 6), "lora_up.weight": (4, 2), "alpha": (2,)},
        {"lora_down.weight": (2, 6), "lora_up.weight": (4, 2), "dora_scale": (3, 1)},
        {"lora_down.weight": (2, 6), "hada_w1_a": (4, 2)},
    ],
)
def test_factors_that_do_not_belong_together_are_refused(tmp_path, tails):
    tensors = {f"{KOHYA_Q}.{tail}": np.ones(shape, np.float32) for tail, shape in tails.items()}
    with pytest.raises(InvalidAdapter, match=r"down_blocks\.0"):
        read(tmp_path, tensors)


def test_not_a_number_is_refused_in_every_role(tmp_path):
    for role in ("lora_down.weight", "alpha"):
        tensors = kohya(alpha=1)
        tensors[f"{KOHYA_Q}.{role}"] = np.full_like(tensors[f"{KOHYA_Q}.{role}"], np.nan)
        with pytest.raises(InvalidAdapter, match="NaN"):
            read(tmp_path, tensors)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lora_unet_double_blocks_0_img_attn_new.lora_down.weight", "img_attn_new"),
        ("lora_unet_down_blocks_0_something_new.lora_down.weight", "something_new"),
        (f"{KOHYA_Q}.diff", "whole update of"),
        ("text_model.final.layer_norm.diff", "whole weights"),
        (f"{KOHYA_Q}.oft_blocks", "OFT"),
        ("bundle_emb.word.string_to_param.*", "textual inversions"),
    ],
)
def test_names_that_mean_nothing_are_told_never_dropped(tmp_path, key, hint):
    with pytest.raises(InvalidAdapter, match=hint):
        read(tmp_path, kohya() | {key: numbers(2, 6)})


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("unet:0:down", "numbered"),
        ("diffusion_model.blocks.0.q.diff", "whole weights"),
        ("something", "'something'"),
    ],
)
def test_files_of_no_dialect_say_what_they_are(tmp_path, key, hint):
    with pytest.raises(InvalidAdapter, match=hint):
        read(tmp_path, {key: numbers(2, 6)})


def test_the_same_module_named_twice_is_refused(tmp_path):
    twice = KOHYA_Q.replace("lora_unet_", "lora_unet_unet_")
    with pytest.raises(InvalidAdapter, match="twice"):
        read(tmp_path, kohya() | kohya(twice))


def test_a_name_is_made_of_known_words_or_of_nothing():
    assert dotted("down_blocks_0_attentions_1_transformer_blocks_0_ff_net_0_proj") == (
        "down_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj"
    )
    assert dotted("up_blocks_1_resnets_2_time_emb_proj") == "up_blocks.1.resnets.2.time_emb_proj"
    assert dotted("output_blocks_8_2_conv") == "up_blocks.2.upsamplers.0.conv"
    assert [dotted(name) for name in ("", "0_conv", "down_blocks_0_conv_x", "down")] == [None] * 4


def test_a_card_is_filled_from_the_header_where_it_says_nothing(tmp_path):
    tags = {"10_set": {r"red fox \(animal\)": 40, "forest": 12}, "5_set": {"forest": 3}}
    header = {"ss_output_name": "fox", "ss_tag_frequency": json.dumps(tags)}
    card = read(tmp_path / "a", kohya(), metadata=header).adapter.card
    assert (card.title, card.trigger_words) == ("fox", ("red fox (animal)",))
    spec = {
        "modelspec.title": "Red\nFox",
        "modelspec.trigger_phrase": "fox, red fur",
        "modelspec.license": "mit",
    }
    card = read(tmp_path / "b", kohya(), metadata=header | spec).adapter.card
    assert (card.title, card.trigger_words, card.licence) == ("Red Fox", ("fox", "red fur"), "mit")
    (tmp_path / "b" / "README.md").write_text("---\ntitle: Mine\ninstance_prompt: xyz\n---\n")
    card = load(tmp_path / "b").adapter.card
    assert (card.title, card.trigger_words, card.licence) == ("Mine", ("xyz",), "mit")
    assert read(tmp_path / "c", kohya()).adapter.card.title == "my-file"


@pytest.mark.parametrize("tags", ["[", "[1]", '{"a": 1}', '{"a": {"b": "c", "d": -1}}', "9" * 5000])
def test_tags_that_are_no_tags_are_no_error(tmp_path, tags):
    loaded = read(tmp_path, kohya(), metadata={"ss_tag_frequency": tags})
    assert loaded.adapter.card.trigger_words == ()


def small(**more):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    factors = {
        f"unet.{Q}": LoraFactors(normal(3, 6), normal(4, 3), 2.0, "unet"),
        f"unet.{CONV}": LoraFactors(normal(2, 54), normal(4, 2), 0.5, "unet", "conv", (6, 3, 3)),
    }
    return Adapter(factors | more, AdapterCard(title="Fox", trigger_words=("fox",)))


def test_a_kohya_file_says_what_it_is(tmp_path):
    text = "text_encoder.text_model.encoder.layers.0.mlp.fc1"
    module = LoraFactors(numbers(3, 6), numbers(4, 3), 1.0, "text_encoder")
    facts = {"family": "sdxl", "date": "2026-01-02", "merged_from": "a, b", "recipe": '{"x": 1}'}
    path = export(small(**{text: module}), "kohya", tmp_path / "fox.safetensors", facts)
    header, tensors = read_header(path), load_file(path)
    te = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    assert {key.split(".")[0] for key in tensors} == {KOHYA_Q, KOHYA_CONV, te}
    assert tensors[f"{KOHYA_CONV}.lora_down.weight"].shape == (2, 6, 3, 3)
    assert tensors[f"{KOHYA_CONV}.lora_up.weight"].shape == (4, 2, 1, 1)
    alphas = [tensors[f"{stem}.alpha"] for stem in (KOHYA_Q, KOHYA_CONV, te)]
    assert [(a.shape, float(a)) for a in alphas] == [((), 3.0)] * 3
    assert {t.dtype.name for k, t in tensors.items() if "alpha" not in k} == {"float16"}
    expected = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.title": "Fox",
        "modelspec.date": "2026-01-02",
        "modelspec.merged_from": "a, b",
        "modelspec.trigger_phrase": "fox",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "3",
        "ss_network_alpha": "3",
        "lora_studio.recipe": '{"x": 1}',
    }
    assert expected.items() <= header.metadata.items()
    assert load_adapter(path).card.title == "Fox"


def test_a_diffusers_file_has_one_rank_and_no_alpha(tmp_path):
    path = export(small(), "diffusers", tmp_path / "fox.safetensors")
    tensors = load_file(path)
    assert tensors[f"unet.{Q}.lora_A.weight"].shape == (3, 6)
    assert tensors[f"unet.{CONV}.lora_A.weight"].shape == (3, 6, 3, 3)
    assert not any("alpha" in key for key in tensors)
    assert "lora_adapter_metadata" not in read_header(path).metadata


def test_factors_that_float16_cannot_hold_stay_float32(tmp_path):
    big = LoraFactors(numbers(1, 6) * 1e7, numbers(4, 1) * 1e7, 1.0, "unet")
    tiny = LoraFactors(numbers(1, 6) * 1e-9, numbers(4, 1) * 1e3, 1.0, "unet")
    adapter = Adapter({f"unet.{Q}": big, f"unet.{CONV}": tiny})
    path = export(adapter, "kohya", tmp_path / "big.safetensors")
    tensors = load_file(path)
    assert tensors[f"{KOHYA_Q}.lora_up.weight"].dtype == np.float32
    assert tensors[f"{KOHYA_CONV}.lora_up.weight"].dtype == np.float16
    with limited(OURS):
        assert distance(deltas(load_adapter(path)), deltas(adapter)) < 1e-3
    with pytest.raises(InvalidAdapter, match="diverged") as refused:
        load_adapter(path)
    assert refused.value.refusal == "values"


def test_what_does_not_read_back_is_not_handed_out(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "load_adapter", lambda path: small().scaled(1.01))
    with pytest.raises(LoraStudioError, match="does not read back"):
        export(small(), "kohya", tmp_path / "fox.safetensors")
    assert not (tmp_path / "fox.safetensors").exists()


def test_a_format_that_cannot_say_an_adapter_says_so(tmp_path):
    text = Adapter({"model.layers.0.q_proj": LoraFactors(numbers(1, 6), numbers(4, 1))})
    for dialect in ("kohya", "diffusers"):
        with pytest.raises(InvalidRequest, match="for PEFT"):
            export(text, dialect, tmp_path / "x.safetensors")
    with pytest.raises(NotFound, match="kohya"):
        export(text, "koyha", tmp_path / "x.safetensors")
