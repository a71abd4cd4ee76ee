from lora_studio.adapter import AdapterCard
from lora_studio.formats import card


def test_a_card_survives_its_readme():
    whole = AdapterCard(
        title="Past tense: 'quoted' — é",
        description="Rewrites a sentence in the past.",
        tags=("plain", "english"),
        licence="apache-2.0",
        base_model="base",
        contributor="ada",
        trained="120 steps",
        samples=("Put this in the past: he eats.", "past tense: - x: y"),
        parents=("abc",),
        recipe="r1",
    )
    assert card.parse(card.render(whole)) == whole


def test_a_title_may_come_from_the_heading():
    found = card.parse("---\nlicense: mit\n---\n# Heading\n\nSome text\nmore.\n\n## Other\n\nno")
    assert (found.title, found.description) == ("Heading", "Some text more.")


def test_broken_front_matter_is_no_error():
    assert card.parse("---\n: [\n---\n# T\n").title == "T"
    assert card.parse("no front matter at all").title == ""
    assert card.parse("---\nbase_model: [a, b]\ntags: x\n---\n").base_model == "a"
