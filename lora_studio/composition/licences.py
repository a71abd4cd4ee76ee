"""What the licences of several adapters leave to what is made of them: a small arithmetic over the
names in their cards. It knows a few dozen names and no law; it never knows the base model's terms.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Trait = Literal["attribution", "share_alike", "non_commercial", "no_derivatives", "use_limits"]
Outcome = Literal[
    "permissive",
    "use_limits",
    "share_alike",
    "non_commercial",
    "at_odds",
    "no_derivatives",
    "unknown",
]


def _asks(*asked: Trait) -> frozenset[Trait]:
    return frozenset(asked)


_FREE = "cc0-1.0 unlicense wtfpl 0bsd pddl"
_NAMED = (
    "mit apache-2.0 bsd bsd-2-clause bsd-3-clause isc zlib artistic-2.0 ms-pl afl-3.0 ecl-2.0 "
    "bsl-1.0 cdla-permissive-1.0 cdla-permissive-2.0 odc-by"
)
_ALIKE = (
    "gpl gpl-2.0 gpl-3.0 agpl-3.0 lgpl lgpl-2.1 lgpl-3.0 mpl-2.0 eupl-1.1 eupl-1.2 osl-3.0 odbl "
    "cdla-sharing-1.0"
)
_LIMITED = (
    "openrail openrail++ creativeml-openrail-m bigscience-openrail-m bigscience-bloom-rail-1.0 "
    "bigcode-openrail-m llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma"
)
KNOWN: dict[str, frozenset[Trait]] = {
    **dict.fromkeys(_FREE.split(), _asks()),
    **dict.fromkeys(_NAMED.split(), _asks("attribution")),
    **dict.fromkeys(_ALIKE.split(), _asks("attribution", "share_alike")),
    **dict.fromkeys(_LIMITED.split(), _asks("attribution", "use_limits")),
}
_CREATIVE = re.compile(r"cc-by((?:-(?:nc|sa|nd))*)(?:-\d\.\d)?")
_PARTS: dict[str, Trait] = {"nc": "non_commercial", "sa": "share_alike", "nd": "no_derivatives"}

WORDS: dict[Outcome, str] = {
    "permissive": "No source asks for more than to be named.",
    "use_limits": "Shareable, with the limits on use that come with",
    "share_alike": "Shareable under the same licence only, because of",
    "non_commercial": "Not for commercial use, because of",
    "at_odds": "One shared result cannot keep these licences together:",
    "no_derivatives": "Not to be shared once changed, because of",
    "unknown": "Not known, because the card names no licence known here:",
}


@dataclass(frozen=True)
class Licensed:
    """A source and its licence, as its card has it."""

    title: str
    licence: str


def traits(licence: str) -> frozenset[Trait] | None:
    """What a licence asks for; None for one that is not known, or none."""
    name = "-".join(licence.strip().lower().replace("_", "-").split())
    if name in KNOWN:
        return KNOWN[name]
    found = _CREATIVE.fullmatch(name)
    if not found:
        return None
    parts: list[Trait] = [_PARTS[part] for part in found[1].split("-") if part]
    return _asks("attribution", *parts)


def outcome(sources: Sequence[Licensed]) -> dict[str, Any]:
    """What several licences leave together, as JSON: {outcome, sentence, because: titles of the
    sources that cause it, sources: [{title, licence, traits}]}.

    The strictest decides: unknown, then no derivatives, then two share-alike licences or one with a
    ban on commerce beside another licence's share-alike, then non-commercial, and so on.
    """
    found = [(source, traits(source.licence)) for source in sources]
    name, because = _strictest(found)
    titles = [source.title for source in because]
    sentence = WORDS[name] if name == "permissive" else f"{WORDS[name]} {_listed(titles)}."
    return {
        "outcome": name,
        "sentence": sentence,
        "because": titles,
        "sources": [
            {"title": s.title, "licence": s.licence, "traits": sorted(t) if t is not None else None}
            for s, t in found
        ],
    }


_Found = Sequence[tuple[Licensed, frozenset[Trait] | None]]


def _strictest(found: _Found) -> tuple[Outcome, list[Licensed]]:
    unknown = [source for source, asks in found if asks is None]
    if unknown:
        return "unknown", unknown

    def asking(trait: Trait) -> list[Licensed]:
        return [source for source, asks in found if asks and trait in asks]

    if closed := asking("no_derivatives"):
        return "no_derivatives", closed
    alike, unsold = asking("share_alike"), asking("non_commercial")
    names = {source.licence.strip().lower() for source in alike}
    both = [source for source in unsold if source in alike]
    if len(names) > 1 or (alike and len(unsold) > len(both)):
        return "at_odds", [*alike, *(s for s in unsold if s not in alike)]
    if unsold:
        return "non_commercial", unsold
    if alike:
        return "share_alike", alike
    if limited := asking("use_limits"):
        return "use_limits", limited
    return "permissive", []


def _listed(titles: Sequence[str]) -> str:
    quoted = [f"‘{title}’" for title in titles]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
