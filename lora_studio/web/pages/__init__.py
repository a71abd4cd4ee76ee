"""The tabs, in order. A page is a module with `build(page)` and one entry here."""

from lora_studio.web.pages import compare, compose, gallery, leaderboard, map

PAGES = [
    ("Gallery", gallery.build),
    ("Map", map.build),
    ("Compose", compose.build),
    ("Compare", compare.build),
    ("Leaderboard", leaderboard.build),
]
