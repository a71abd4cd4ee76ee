"""What would come of a merge, said before it is made, from statistics of the adapters alone."""

from lora_studio.composition.verdict.controls import random_adapter
from lora_studio.composition.verdict.joint import join
from lora_studio.composition.verdict.verdict import Verdict, Wanted, by_id, verdict, warm

__all__ = ["Verdict", "Wanted", "by_id", "join", "random_adapter", "verdict", "warm"]
