"""Parameters that several merges share, declared once: what they mean, their ranges and words."""

from __future__ import annotations

from typing import Annotated, Literal

from lora_studio.composition.method import Help, Range

Rank = Annotated[int, Range(0, 512, 1, "Rank of the result; 0 = largest source rank")]
SumRank = Annotated[int, Range(0, 512, 1, "Rank of the result; 0 = sum of source ranks")]
BudgetKind = Literal["fixed", "energy", "sv_ratio", "shared"]
HowRanks = Annotated[
    BudgetKind,
    Help(
        "fixed: rank everywhere; energy, sv_ratio: per module by keep, at most rank if set; "
        "shared: rank on average, most where most is lost"
    ),
]
Keep = Annotated[
    float,
    Range(
        0.5,
        1.0,
        0.01,
        "energy: share kept; sv_ratio: drops below 1 - keep of the largest",
        when=("budget", "energy", "sv_ratio"),
    ),
]
Density = Annotated[float, Range(0.05, 1.0, 0.05, "Share of largest entries kept")]
TiesDensity = Annotated[
    float, Range(0.05, 1.0, 0.05, "Share of largest entries kept", when=("rule", "ties"))
]
KeptAtRandom = Annotated[float, Range(0.05, 1.0, 0.05, "Share of entries kept, drawn at random")]
Votes = Annotated[
    Literal["total", "frequency"],
    Help("Sign of an entry: that of the sum (total), or of most adapters (frequency)"),
]
ElectSigns = Annotated[bool, Help("Average only entries of the majority's sign, as TIES does")]
Scale = Annotated[float, Range(0.0, 4.0, 0.05, "Strength of the whole result")]
AutoScale = Annotated[bool, Help("Choose the strength on sample prompts")]
