"""A composition downloaded as a kohya or diffusers file makes, in another process that knows only
diffusers, the picture that the studio showed."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from lora_studio.composition import Merged, compose
from lora_studio.engines.image import ImageEngine, ImageRow, plain
from lora_studio.formats import export, load_adapter
from lora_studio.settings import DEMO_IMAGE_BASE, Settings

PROMPT = "a red star, sand background, neon style"
SEED = 11
SCRIPT = """
import json, sys
import numpy as np, torch
from diffusers import StableDiffusionPipeline
base, file, out, prompt, seed = sys.argv[1:]
torch.set_num_threads(1)
pipe = StableDiffusionPipeline.from_pretrained(base, local_files_only=True, dtype=torch.float32)
pipe.load_lora_weights(file)
pipe.set_progress_bar_config(disable=True)
made = pipe(prompt, num_inference_steps=20, guidance_scale=4.0, output_type="np",
            generator=torch.Generator().manual_seed(int(seed))).images[0]
np.save(out, (made * 255).round().astype(np.uint8))
print(json.dumps(pipe.get_list_adapters()))
"""


@pytest.fixture(scope="module")
def engine() -> ImageEngine:
    return ImageEngine(DEMO_IMAGE_BASE, "cpu")


@pytest.fixture(scope="module")
def composed():
    folder = Settings().demo_image_adapters_dir
    names = ("good-neighbour-star", "good-neighbour-neon")
    plan = compose("lego", [load_adapter(folder / n) for n in names], rank=16, gauge="balanced")
    assert isinstance(plan, Merged)
    return plan.adapter


@pytest.mark.parametrize("dialect", ["kohya", "diffusers"])
def test_a_download_makes_the_same_picture_in_a_process_of_its_own(
    dialect, engine, composed, tmp_path
):
    file = export(composed, dialect, tmp_path / f"{dialect}.safetensors", {"family": "sd1"})
    engine.bank.add("composed", composed)
    row = ImageRow("x", PROMPT, plain({"composed": 1.0}), SEED)
    bare = ImageRow("y", PROMPT, plain({}), SEED)
    mine, without = (picture.pixels for picture in engine.generate([row, bare]))
    script, out = tmp_path / "alone.py", tmp_path / "theirs.npy"
    script.write_text(SCRIPT)
    base = str(Settings().demo_image_base_dir)
    command = [sys.executable, str(script), base, str(file), str(out), PROMPT, str(SEED)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert set(json.loads(done.stdout.splitlines()[-1])) == {"unet", "text_encoder"}
    theirs = np.load(out)
    apart = np.abs(theirs.astype(int) - mine).mean()
    assert apart < 0.05 * np.abs(without.astype(int) - mine).mean()
    assert apart < 1.0
