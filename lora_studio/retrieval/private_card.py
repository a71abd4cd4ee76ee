"""`lora-studio card`: an adapter's place in the search, computed where its samples are and stay.

Only the folder's README.md is read and written; nothing is sent anywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lora_studio.errors import InvalidRequest
from lora_studio.formats import card as cards
from lora_studio.retrieval.centroids import Centroid, of_samples
from lora_studio.retrieval.embed import load_embedder
from lora_studio.settings import MINILM

README = "README.md"


def write_private_card(
    folder: Path, samples: Path | None = None, embedder: str = MINILM
) -> Centroid:
    """Puts the centroid of an adapter's samples into its README.md and takes the samples out.

    Args:
        folder: of the adapter.
        samples: a text file, one sample a line; without it, the samples in the README.md itself
            (`widget` in its front matter).
        embedder: the one of the studio that the adapter will be uploaded to.

    Raises:
        InvalidRequest: there is no such folder or file, or no sample in it.
    """
    if not folder.is_dir():
        raise InvalidRequest(f"There is no folder at {folder}.")
    readme = folder / README
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    card = cards.parse(text)
    found = of_samples(_lines(samples) if samples else card.samples, load_embedder(embedder))
    whole = replace(card, samples=(), centroid=found.to_text())
    readme.write_text(cards.render(whole, _rest(text)), encoding="utf-8")
    return found


def _lines(file: Path) -> tuple[str, ...]:
    try:
        return tuple(file.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The samples at {file} cannot be read ({error}).") from error


def _rest(text: str) -> str:
    """What stands in a README.md below its title and first paragraph."""
    body = text.partition("\n---")[2] if text.startswith("---") else text
    heading = body.find("\n## ")
    return body[heading:].strip() if heading >= 0 else ""
