"""The shipped image demo: it loads, draws the same picture twice, and is what its report says."""

import json

import numpy as np
import pytest
from PIL import Image

from lora_studio.composition.gate import gate_for
from lora_studio.demo.image import judge_training
from lora_studio.demo.image.build import GATED
from lora_studio.demo.image.config import NAME, demo_folder
from lora_studio.demo.image.judge import HEADS, Judge, half
from lora_studio.demo.image.sampling import load_pipeline, sample
from lora_studio.demo.image.specs import adapter_specs
from lora_studio.formats.card import parse

ROOT = demo_folder()
FOLDERS = sorted(folder for folder in (ROOT / "adapters").iterdir() if folder.is_dir())


@pytest.fixture(scope="module")
def judge():
    return Judge.load(ROOT)


def test_all_files_are_small():
    sizes = {file: file.stat().st_size for file in ROOT.rglob("*") if file.is_file()}
    assert max(sizes.values()) < 10_000_000
    assert sum(sizes.values()) < 20_000_000
    assert (ROOT / "samples.png").stat().st_size < 500_000


def test_the_base_draws_what_is_asked_and_the_same_picture_twice(judge):
    pipeline = load_pipeline(ROOT / "base")
    prompts = ["a red house, sky background", "a blue boat on the left, sand background"]
    first, again = (sample(pipeline, prompts, seed=5) for _ in range(2))
    assert np.array_equal(first, again)
    assert judge(first).labels["object"] == ("house", "boat")
    assert judge(first).labels["position"] == ("middle", "left")


def test_the_base_draws_two_objects_each_in_its_place_and_colour(judge):
    pipeline = load_pipeline(ROOT / "base")
    prompt = "a red house on the left, a blue boat on the right, sky background"
    drawn = sample(pipeline, [prompt] * 4, seed=11)
    for side, thing, colour in (("left", "house", "red"), ("right", "boat", "blue")):
        found = judge(half(drawn, side)).labels
        assert (found["object"].count(thing), found["colour"].count(colour)) >= (3, 3)


def test_the_gate_was_fitted_for_this_base_and_lets_less_pass_than_the_sum():
    gate = gate_for(str(ROOT / "base"))
    modules = {f"unet.{name}" for name, _ in load_pipeline(ROOT / "base").unet.named_modules()}
    assert gate is not None
    assert set(gate.modules) <= modules
    assert gate.facts["after"] < gate.facts["before"]
    assert tuple(gate.facts["adapters"]) == GATED


@pytest.mark.parametrize("head", ["object", "colour"])
def test_the_judge_is_right_on_fresh_halves_of_pairs(judge, head):
    fresh = judge_training.draw_halves(np.random.default_rng(2025), 200)
    right, asked = judge_training.accuracy(judge, fresh)[head]
    assert right / asked >= 0.96


def test_every_taught_word_is_one_token_with_an_input_of_its_own():
    pipeline = load_pipeline(ROOT / "base")
    table = pipeline.text_encoder.get_input_embeddings().weight.detach()
    words = sorted({spec.teaches for spec in adapter_specs()})
    ids = [pipeline.tokenizer(word, add_special_tokens=False).input_ids for word in words]
    assert {len(i) for i in ids} == {1}
    rows = table[[i[0] for i in ids]]
    unit = rows / rows.norm(dim=1, keepdim=True)
    likeness = (unit @ unit.T).fill_diagonal_(0).abs()
    assert likeness.max() < 0.6


def test_the_judge_is_right_on_fresh_pictures(judge):
    fresh = judge_training.draw_judged(np.random.default_rng(2024), 200)
    for head, (right, asked) in judge_training.accuracy(judge, fresh).items():
        assert right / asked >= 0.96, head


def test_the_judge_gives_one_label_and_probabilities_a_picture(judge):
    result = judge(np.zeros((3, 64, 64, 3), np.uint8))
    for head, words in HEADS.items():
        assert len(result.labels[head]) == 3
        assert result.probabilities[head].shape == (3, len(words))
        assert np.allclose(result.probabilities[head].sum(1), 1, atol=1e-5)


def test_every_specified_adapter_is_there():
    assert {folder.name for folder in FOLDERS} == {spec.name for spec in adapter_specs()}
    assert len(FOLDERS) >= 12


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_an_adapter_folder_holds_card_thumbnail_and_one_weight_file(folder):
    names = {file.name for file in folder.iterdir()}
    weights = {name for name in names if name.endswith(".safetensors")}
    assert len(weights) == 1
    assert names - weights <= {"README.md", "thumbnail.png", "adapter_config.json"}
    card = parse((folder / "README.md").read_text(encoding="utf-8"))
    assert card.base_model == NAME
    assert card.trigger_words
    assert card.samples
    assert card.trained
    with Image.open(folder / "thumbnail.png") as thumbnail:
        assert min(thumbnail.size) >= 64


def test_the_report_lists_every_adapter_and_training_recorded_it():
    text = (ROOT / "REPORT.md").read_text(encoding="utf-8")
    facts = json.loads((ROOT / "training.json").read_text(encoding="utf-8"))
    for folder in FOLDERS:
        assert f"| {folder.name} |" in text
        assert facts["adapters"][folder.name]["steps"] > 0
