"""mergekit's YAML, read and written without mergekit; what does not map is named."""

from lora_studio.composition.mergekit.reading import Imported, is_mergekit, read_mergekit
from lora_studio.composition.mergekit.writing import write_mergekit

__all__ = ["Imported", "is_mergekit", "read_mergekit", "write_mergekit"]
