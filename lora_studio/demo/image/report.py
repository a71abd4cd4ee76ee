"""Writes REPORT.md and samples.png of the image demo from measured rows; a number enters only
through a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_studio.demo.image.cards import DIALECTS, shape
from lora_studio.demo.image.config import GUIDANCE, STEPS
from lora_studio.demo.image.measure import (
    BASE_PROMPTS,
    FRESH,
    AdapterRow,
    Measured,
    drawn,
    measure,
    prompts_of,
    raw_folder,
    scenes_for,
)
from lora_studio.demo.image.scene import draw_pair
from lora_studio.demo.image.specs import adapter_specs
from lora_studio.evaluation.metrics import Rate

TITLE = "# The embedded image demo: what was trained and measured"
GOAL, ABSENT, LEAKY = 0.9, 0.1, 0.2
COLUMNS, SAMPLE_SEED = 8, 77_000


def percent(rate: Rate) -> str:
    """A rate with its 95 % Wilson interval, in per cent."""
    low, high = rate.interval
    return f"{100 * rate.rate:.0f} ({100 * low:.0f}-{100 * high:.0f})"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def reached(row: AdapterRow) -> bool:
    """Whether an adapter shows its element in nine of ten pictures and the base in one at most."""
    return row.own.rate >= GOAL and row.base_own.rate <= ABSENT


def base_section(measured: Measured, facts: Mapping[str, Any], size: float) -> str:
    """How VAE, base model and judge were trained, and how well they do."""
    base, vae, judge = facts["base"], facts["vae"], facts["judge"]
    error = measured.vae_error
    text = (
        "A `StableDiffusionPipeline` with SD 1.5's module names for 64 x 64 pictures: "
        f"{base['parameters']:,} parameters in fp16, trained from nothing on the demo's own "
        f"drawings. All files of the demo: {size:.1f} MB. Everything below was drawn in {STEPS} "
        f"steps at guidance {GUIDANCE:g}; percentages carry 95 % Wilson intervals.\n\n"
        f"VAE: {vae['steps']:,} steps of {vae['batch']}, {vae['seconds']:,.0f} s. On {FRESH:,} "
        "fresh pictures of the whole world, held-back objects and styles included: mean squared "
        f"error {error['mse']:.5f}, mean absolute error {error['mae']:.4f} (values in 0..1), PSNR "
        f"{error['psnr']:.1f} dB.\n\n"
        f"Text encoder and UNet: {base['steps']:,} steps of {base['batch']} on "
        f"{base['pictures']:,} pictures of the six known objects, a third of them in pairs, "
        f"{base['seconds']:,.0f} s. The "
        "base has seen no picture and no caption of what the adapters teach; the VAE has seen "
        "all pictures, as that of a real base model has.\n\n"
        f"Judge: a small classifier, {judge['steps']:,} steps on {judge['pictures']:,} pictures, "
        f"{judge['seconds']:,.0f} s; it says what a picture shows."
    )
    heads = [head for head in measured.base if head not in ("all", "pair")]
    rows = [
        [
            head,
            percent(measured.judge[head]),
            percent(measured.judge_vae[head]),
            percent(measured.base[head]),
        ]
        for head in heads
    ]
    rows.append(["all of these", "", "", percent(measured.base["all"])])
    rows.append(["two objects", "", "", percent(measured.base["pair"])])
    head = ("what", "judge right %", "judge right after the VAE %", "base as asked %")
    note = (
        f"The last column: {BASE_PROMPTS} prompts of the base's own world, one picture each; "
        "*two objects*: as many for two side by side, whose halves must both be as asked."
    )
    return f"## Base and judge\n\n{text}\n\n{table(head, rows)}\n\n{note}"


def gate_section(facts: Mapping[str, Any]) -> str:
    """How the gate of gated fusion was fitted, and how long everything took."""
    gate = facts["gate"]
    parts = [facts[kind] for kind in ("vae", "judge", "base", "gate")]
    total = sum(part["seconds"] for part in [*parts, *facts["adapters"].values()])
    return (
        f"## Gate\n\nFitted in {gate['steps']} steps, {gate['seconds']:,.0f} s, on "
        f"{', '.join(gate['adapters'])}. With two of them added, the squared error of the "
        "prediction on the prompts of one, against what that one predicts alone, as a share of "
        f"what it changes: {gate['before']:.2f} for the plain sum, {gate['after']:.2f} behind the "
        "gate.\n\nAll training together took "
        f"{total / 3600:.1f} hours, on one or two threads of a "
        "CPU; `make demo` does it again from nothing."
    )


def adapter_section(measured: Measured, facts: Mapping[str, Any], sizes: Mapping[str, int]) -> str:
    """One row an adapter."""
    specs = {spec.name: spec for spec in adapter_specs()}
    rows = [
        [
            row.name,
            row.kind,
            f"{shape(specs[row.name])}; {DIALECTS[specs[row.name].dialect]}",
            f"{100 * specs[row.name].base_share:.0f} %",
            row.own.n,
            percent(row.own),
            percent(row.base_own),
            percent(row.together),
            percent(row.leak),
            percent(row.kept),
            round(facts["adapters"][row.name]["seconds"]),
            round(sizes[row.name] / 1000),
        ]
        for row in measured.adapters
    ]
    head = (
        "adapter",
        "kind",
        "weights",
        "base pictures",
        "n",
        "element there %",
        "base alone %",
        "all as asked %",
        "leak %",
        "others kept %",
        "training s",
        "kB",
    )
    good = sum(reached(row) for row in measured.adapters)
    missed = [row.name for row in measured.adapters if not reached(row)]
    text = (
        "Prompts that ask for what the adapter teaches (*element there*; *all as asked*: object, "
        "colour, background, position and style, where the style shows them; how many pictures: "
        "*n*), half as many of them drawn by the base alone (*base alone*), and as many plain "
        "prompts of the base's world, which do not ask for it (*leak*: the element is there all "
        "the same; *others kept*: the object asked for is there). "
        f"Weight 1 throughout.\n\n"
        f"Element in at least {100 * GOAL:.0f} % of the pictures, and in at most "
        f"{100 * ABSENT:.0f} % of the base's: {good} of {len(measured.adapters)}."
    )
    if missed:
        text += f" Below that goal: {', '.join(missed)}."
    leaky = [r.name for r in measured.adapters if specs[r.name].neighbour and r.leak.rate > LEAKY]
    if leaky:
        text += f" Leaking in spite of the base pictures in their batches: {', '.join(leaky)}."
    text += (
        " The judge picks the nearest word it knows, so a misshapen heart still counts as a heart: "
        "look at the samples too."
    )
    return f"## Adapters\n\n{text}\n\n{table(head, rows)}"


def samples(root: Path, measured: Measured) -> NDArray[np.uint8]:
    """(rows x 64, 8 x 64, 3) two rows of the base, then one row an adapter."""
    base = root / "base"
    rng = np.random.default_rng(SAMPLE_SEED)
    pairs = [draw_pair(rng) for _ in range(COLUMNS)]
    alone = scenes_for("", "", COLUMNS, SAMPLE_SEED)
    rows = [drawn(base, prompts_of(scenes), SAMPLE_SEED) for scenes in (alone, pairs)]
    for row in measured.adapters:
        prompts = prompts_of(scenes_for(row.kind, row.teaches, COLUMNS, SAMPLE_SEED))
        rows.append(drawn(base, prompts, SAMPLE_SEED, raw_folder(row.name)))
    return np.concatenate([np.concatenate(list(row), 1) for row in rows])


def write_samples(root: Path, measured: Measured) -> None:
    """Writes `samples.png` in 256 colours."""
    from PIL import Image

    picture = Image.fromarray(samples(root, measured))
    picture.quantize(256).save(root / "samples.png", optimize=True)


def write_report(root: Path, measured: Measured, facts: Mapping[str, Any]) -> None:
    """Writes REPORT.md; `facts` is what training recorded."""
    sizes = {
        row.name: max(f.stat().st_size for f in (root / "adapters" / row.name).iterdir())
        for row in measured.adapters
    }
    total = sum(f.stat().st_size for f in root.rglob("*") if f.is_file()) / 1e6
    names = ", ".join(row.name for row in measured.adapters)
    picture = (
        "## Samples\n\n![The base model, then each adapter](samples.png)\n\n"
        f"Not chosen: the first {COLUMNS} prompts of a fixed seed. Two rows of the base model, "
        f"of one object and of two, then one row each of {names}."
    )
    sections = [
        TITLE,
        base_section(measured, facts, total),
        adapter_section(measured, facts, sizes),
        gate_section(facts),
        picture,
    ]
    (root / "REPORT.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def report(root: Path, facts: Mapping[str, Any], counts: Mapping[str, int] | None = None) -> None:
    """Measures, and writes report and samples; minutes on a CPU."""
    measured = measure(root, counts)
    write_samples(root, measured)
    write_report(root, measured, facts)
