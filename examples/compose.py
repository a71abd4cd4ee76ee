"""Compose three adapters of the embedded demo, look at the result, save it for PEFT."""

from lora_studio import compose, load_adapter, save_adapter
from lora_studio.settings import Settings

folder = Settings().demo_adapters_dir
past, french, polite = (
    load_adapter(folder / f"good-neighbour-{t}") for t in ("past", "french", "polite")
)
merged = compose("lego", [past, french, polite], rank=16, gauge="balanced").adapter
for source in (past, french, polite):
    print(f"cosine to {source.card.title}: {merged.cosine(source):.2f}")
print("saved in", save_adapter(merged, "merged-adapter"))
