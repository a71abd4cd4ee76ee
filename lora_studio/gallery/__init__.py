"""The searchable collection of adapters: what is stored, how it survives, how it is found."""

from lora_studio.gallery.entry import Entry, Hit, SearchResult
from lora_studio.gallery.gallery import Gallery

__all__ = ["Entry", "Gallery", "Hit", "SearchResult"]
