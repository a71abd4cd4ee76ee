"""What licences and trigger words of several adapters come to."""

import pytest

from lora_studio.composition.licences import Licensed, outcome
from lora_studio.composition.triggers import merged_triggers


def of(*licences):
    return outcome([Licensed(f"Source {i}", name) for i, name in enumerate(licences)])


@pytest.mark.parametrize(
    ("licences", "expected", "because"),
    [
        (("mit", "apache-2.0", "CC0 1.0"), "permissive", []),
        (("mit", "cc-by-4.0"), "permissive", []),
        (("mit", "creativeml-openrail-m"), "use_limits", [1]),
        (("mit", "cc-by-sa-4.0"), "share_alike", [1]),
        (("cc-by-nc-4.0", "mit"), "non_commercial", [0]),
        (("cc-by-nc-sa-4.0", "cc-by-4.0"), "non_commercial", [0]),
        (("cc-by-sa-4.0", "cc-by-nc-4.0"), "at_odds", [0, 1]),
        (("gpl-3.0", "cc-by-sa-4.0"), "at_odds", [0, 1]),
        (("cc-by-nd-4.0", "cc-by-nc-4.0"), "no_derivatives", [0]),
        (("mit", "", "other"), "unknown", [1, 2]),
        (("cc-by-nd-4.0", "mine alone"), "unknown", [1]),
    ],
)
def test_the_strictest_licence_decides_and_its_source_is_named(licences, expected, because):
    found = of(*licences)
    assert found["outcome"] == expected
    assert found["because"] == [f"Source {i}" for i in because]
    assert all(title in found["sentence"] for title in found["because"])


def test_a_hostile_licence_name_is_only_text():
    found = of("<img onerror=x>" * 500, "cc-by" + "-nc" * 3000)
    assert found["outcome"] == "unknown"
    assert found["because"] == ["Source 0"]


def test_trigger_words_are_merged_and_collisions_named():
    found = merged_triggers(
        [("A", ["Neon  style", "star"]), ("B", ["neon style", " "]), ("C", ["Star", "star"])]
    )
    assert found["words"] == ["Neon style", "star"]
    assert found["collisions"] == [
        {"word": "Neon style", "sources": ["A", "B"]},
        {"word": "star", "sources": ["A", "C"]},
    ]
