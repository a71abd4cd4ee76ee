"""Everything the page does, from a script: search, compose on the base model, compare, export."""

from lora_studio import Studio

with Studio.open() as studio:
    hits = studio.retrieve_adapters("turn the sentence into past tense", k=3).result()["hits"]
    sources = [{"id": hit["id"], "weight": 1.0} for hit in hits]
    recipe = {"sources": sources, "compose": {"method": "preset"}}
    made = studio.compose_adapter(recipe, title="My first composition").result()
    print(*made["notes"], sep="\n")
    columns = [{"kind": "adapter", "id": made["adapter_id"]}, {"kind": "random"}]
    rates = studio.run_tests(columns, [hit["id"] for hit in hits], n=20).result()["rows"]
    for row in rates:
        print(f"{row['title']:40} {row['suite']:24} {row['correct']}/{row['n']}")
    print(studio.export_adapter(made["adapter_id"]))
