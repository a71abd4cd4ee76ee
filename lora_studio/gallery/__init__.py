"""The searchable collection of adapters: what is stored, how it survives, how it is found."""

from lora_studio.gallery.entry import Entry, Hit, SearchResult, Viewer
from lora_studio.gallery.gallery import Gallery
from lora_studio.gallery.moderated import Allowance

__all__ = ["Allowance", "Entry", "Gallery", "Hit", "SearchResult", "Viewer"]
