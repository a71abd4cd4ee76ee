"""The studio: gallery, workers, and every action of the product under one name each."""

from lora_studio.studio.facade import Studio
from lora_studio.studio.flow import Flow

__all__ = ["Flow", "Studio"]
