"""What the documents promise: the generated table, the notebook's lines, the examples, the card."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lora_studio.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(command, cwd, **env):
    return subprocess.run(
        command,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


def test_the_method_table_is_the_registry_s():
    script = [sys.executable, str(ROOT / "scripts" / "readme_tables.py"), "--check"]
    done = run(script, ROOT)
    assert done.returncode == 0, done.stderr


def test_the_notebook_of_the_readme_runs(tmp_path):
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    done = run([sys.executable, "-c", code], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "merged-adapter" / "adapter_config.json").is_file()


@pytest.mark.parametrize("name", [p.name for p in sorted((ROOT / "examples").glob("*.py"))])
def test_an_example_runs(name, tmp_path):
    script = [sys.executable, str(ROOT / "examples" / name)]
    done = run(script, tmp_path, LORA_STUDIO_DATA=str(tmp_path / "data"), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr


def test_files_that_documents_name_exist():
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", text):
            assert (ROOT / target).exists(), target


def test_the_space_card_starts_the_app_with_a_gradio_it_allows():
    card = yaml.safe_load(README.split("---")[1])
    assert (ROOT / card["app_file"]).is_file()
    requirement = re.search(r"gradio>=([\d.]+)", (ROOT / "requirements.txt").read_text())
    wanted = tuple(map(int, requirement.group(1).split(".")))
    assert tuple(map(int, card["sdk_version"].split("."))) >= wanted


def test_shipped_files_are_small_enough_for_a_space():
    files = [p for p in (ROOT / "assets").rglob("*") if p.is_file()]
    assert max(p.stat().st_size for p in files) < 10_000_000
    assert sum(p.stat().st_size for p in files) < 40_000_000
    assert Settings().demo_base_dir.is_dir()
