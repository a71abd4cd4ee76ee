"""Puts assets/ into the wheel as lora_studio/assets; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lora_studio*"]), "lora_studio.assets"],
    package_dir={"lora_studio.assets": "assets"},
    package_data={
        "lora_studio": ["web/islands/*", "web/*.css", "demo/data/*"],
        "lora_studio.assets": ["**/*"],
    },
)
