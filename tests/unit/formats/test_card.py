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


def test_the_card_that_peft_writes_by_itself_says_nothing():
    stock = (
        "---\ntags: [base_model:adapter:x, lora, transformers, mine]\n---\n"
        "# Model Card for Model ID\n\n<!-- A quick summary\nof it. -->\n\n## Model Details\n"
    )
    found = card.parse(stock)
    assert (found.title, found.description, found.tags) == ("", "", ("mine",))


def test_aliases_in_front_matter_do_not_grow():
    levels = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    found = card.parse("---\n" + "\n".join(levels) + "\ntitle: *a39\ntags: *a39\n---\n# T\n")
    assert (found.title, found.tags) == ("", ())
