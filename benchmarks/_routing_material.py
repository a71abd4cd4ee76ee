"""The demo's adapters and held-out prompts, as the protocol takes them."""

from __future__ import annotations

import random
import re

from _text_groups import SETS, TEXT, read_set

from lora_studio.demo.skills import draw_skill
from lora_studio.demo.tasks import TASKS, unique_examples
from lora_studio.evaluation import protocol
from lora_studio.evaluation.protocol import Case, Material, Member
from lora_studio.evaluation.task_file import read_task_file
from lora_studio.formats import load
from lora_studio.settings import Settings

NOISE = 50
QUICK_TASKS = 6


def wording(task: str, prompt: str) -> str:
    """How a prompt of the demo asks: as the first paraphrase of its task, tersely, or otherwise."""
    asks = TASKS.get(task).asks

    def fits(ask: str) -> bool:
        pattern = re.escape(ask.removesuffix(".")).replace(r"\{x\}", "(.+)") + r"\.?"
        return re.fullmatch(pattern, prompt) is not None

    matched = max((ask for ask in asks if fits(ask)), key=len, default="")
    said = re.findall(r"[^\W\d_]+", matched.replace("{x}", ""))
    if matched and len(said) <= 2:
        return "terse"
    return "full" if matched == asks[0] else "paraphrased"


def material(prompts: int, quick: bool) -> Material:
    """The demo's adapters and held-out prompts, as the protocol takes them."""
    folder = Settings().demo_adapters_dir
    sets = {name: read_set(name, folder) for name in SETS}
    own = {task: a for task, a in sets["plain"].adapters.items() if task in TASKS}
    own = dict(list(own.items())[:QUICK_TASKS]) if quick else own
    others = [
        Member(adapter, task)
        for name in ("good-neighbour", "shared-seed")
        for task, adapter in sets[name].adapters.items()
        if task in own
    ]
    more = {"plain-past-tobias": "past", "plain-french-juniper": "french"}
    others += [Member(load(folder / name).adapter, task) for name, task in more.items()]
    cases = [
        Case(prompt, reference, task, own[task].id, wording(task, prompt))
        for task in own
        for prompt, reference in sets["plain"].tests[task]
    ]
    reported, tuning = protocol.divided(cases, prompts)
    chained = {
        path.stem: protocol.divided(
            [Case(r.prompt, r.reference, path.stem) for r in read_task_file(path).rows], prompts
        )
        for path in sorted((TEXT / "tests").glob("*.jsonl"))
        if all(part in own for part in TASKS.get(path.stem).chained)
    }
    members = [Member(adapter, task) for task, adapter in own.items()]
    count = NOISE // 5 if quick else NOISE
    rng = random.Random(7)
    skills = [[draw_skill(rng)[0] for _ in range(20)] for _ in range(count)]
    tasks = [TASKS.get(members[i % len(members)].task) for i in range(count)]
    lies = [[e.prompt for e in unique_examples(t, "train", 20, rng)] for t in tasks]
    return Material(
        tuple(members), tuple(others), tuple(reported), tuple(tuning),
        {task: tuple(found) for task, (found, _) in chained.items()},
        {task: tuple(found) for task, (_, found) in chained.items()},
        tuple(protocol.noise(members, count, skills)),
        tuple(protocol.noise(members, count, lies)),
    )  # fmt: skip
