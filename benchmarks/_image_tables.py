"""How the measurements of image_composition.py are written down."""

from __future__ import annotations

from collections.abc import Sequence

from lora_studio.evaluation.metrics import Rate


def cell(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.rate:.2f} ({low:.2f}–{high:.2f})"


def scores(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Rate]]]) -> str:
    """Markdown; the best composition is bold."""
    made = [found[2].rate for label, found in rows if not _control(label)]
    best = max(made, default=0.0)
    lines = [f"## {title[0].upper()}{title[1:]}", ""]
    lines += ["| | " + " | ".join(columns) + " |", "|---|---|---|---|"]
    for label, found in rows:
        cells = [cell(rate) for rate in found]
        if not _control(label) and found[2].rate == best > 0:
            cells[2] = f"**{cells[2]}**"
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _control(label: str) -> bool:
    return label == "base model" or label.endswith(" alone")


DOCUMENT = """# Compositions of the image demo's adapters, measured

Written by `python benchmarks/image_composition.py --write`. {images} pictures for each line, of
{steps} steps, with 95 % Wilson intervals; all lines of a table share prompts and noise, so
differences between lines are surer than their intervals say. *object* and *style*: the classifier
sees the one that the prompt asks for; *left* and *right*: it sees the object asked for there, in
its colour; *both*: in the same picture. Of three adapters each prompt asks for two, so that the
third has to keep out of the way; K-LoRA takes two adapters, and CLoRA prompts that name all, so
they are not in that table. In bold the best composition of a table. The gate of gated fusion was
fitted on other adapters than these.

{groups}

## Cost of one picture

`python benchmarks/image_cost.py`: least processor time of several runs on one thread ({device}),
text encoding and VAE included. Passes are those whose predictions are used; CLoRA's guided steps
run the denoiser forward and back besides.

{costs}
"""
