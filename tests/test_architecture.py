"""The plan of the house, enforced: which floor each module stands on, and where libraries live."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lora_studio"
MAX_LINES = 300

FLOORS = [
    {
        "refusals",
        "limits",
        "errors",
        "settings",
        "hosting",
        "registry",
        "heaps",
        "scratch",
        "supervisor",
        "frames",
        "adapter",
        "lazy_factors",
    },
    {"formats"},
    {"families"},
    {"fitted"},
    {"rank_units", "retrieval"},
    {"composition"},
    {"gallery", "engines"},
    {"evaluation", "training"},
    {"worker"},
    {"compare", "demo"},
    {"studio"},
    {"web", "cli"},
]
HOMES = {
    "transformers": {"engines", "training", "demo", "formats/converters"},
    "diffusers": {"engines", "training", "demo", "formats/converters"},
    "peft": {"engines", "training", "demo", "formats/converters"},
    "sentence_transformers": {"retrieval"},
    "faiss": {"retrieval", "rank_units"},
    "gradio": {"web"},
    "sqlalchemy": {"gallery"},
    "authlib": {"web"},
    "ray": {"worker"},
    "spaces": {"worker"},
}
TORCH_AT_THE_TOP = {"engines", "training", "demo", "evaluation", "worker"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def top(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree, *, everywhere):
    """Absolute names imported, at the top of a module or anywhere in it."""
    nodes = ast.walk(tree) if everywhere else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor they reach for"
            yield node.module


def floor_of(name):
    return next((i for i, names in enumerate(FLOORS) if name in names), None)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_lower_floors_only(path):
    name = top(path)
    if name == "__init__":
        return
    here = floor_of(name)
    assert here is not None, f"'{name}' stands on no floor: add it to FLOORS"
    for imported in imports(ast.parse(path.read_text("utf-8")), everywhere=True):
        parts = imported.split(".")
        if parts[0] != "lora_studio" or len(parts) == 1 or parts[1] == name:
            continue
        there = floor_of(parts[1])
        assert there is not None, imported
        assert there < here or (here == there == 0), f"{name} must not import {imported}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_third_party_packages_stay_at_home(path):
    place = str(path.relative_to(PACKAGE))
    tree = ast.parse(path.read_text("utf-8"))
    for imported in imports(tree, everywhere=True):
        homes = HOMES.get(imported.split(".")[0])
        assert homes is None or any(place.startswith(home) for home in homes), imported
    if top(path) not in TORCH_AT_THE_TOP:
        early = {name.split(".")[0] for name in imports(tree, everywhere=False)}
        assert "torch" not in early, "torch is imported inside functions here"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAX_LINES, "which two axes does it mix?"
    assert not text.strip() or ast.get_docstring(ast.parse(text)), "say what the file decides"


@pytest.mark.parametrize(
    "module",
    ["lora_studio", "lora_studio.gallery", "lora_studio.composition", "lora_studio.studio", "app"],
)
def test_importing_loads_no_heavy_library(module):
    heavy = {"torch", "transformers", "diffusers", "peft", "sentence_transformers"}
    if module != "app":
        heavy.add("gradio")
    code = f"import sys, {module}; print(*({heavy!r} & sys.modules.keys()))"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert out.stdout.split() == []


def test_every_public_name_resolves():
    import lora_studio

    for name in lora_studio.__all__:
        assert getattr(lora_studio, name) is not None
