"""mergekit's YAML, read and written without mergekit; what does not map is named."""

from lora_studio.composition.mergekit.reading import Imported, is_mergekit, read_mergekit
from lora_studio.composition.mergekit.writing import write_mergekit
from lora_studio.composition.recipe import Recipe, load_yaml

__all__ = ["Imported", "is_mergekit", "read_any", "read_mergekit", "write_mergekit"]


def read_any(text: str) -> Imported:
    """The recipe of a text that is one, in YAML or JSON, or that is meant for mergekit.

    Raises:
        InvalidRequest: it is neither, or wrong.
    """
    data = load_yaml(text)
    return read_mergekit(data) if is_mergekit(data) else Imported(Recipe.from_dict(data), ())
