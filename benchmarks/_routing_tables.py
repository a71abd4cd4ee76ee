"""How the measurements of routing.py are written down: targets first, then every scenario."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

from lora_studio.evaluation.contest import BASE, BEST, PERFECT, Outcome
from lora_studio.evaluation.protocol import Scenario
from lora_studio.evaluation.statistics import Estimate, difference, ratio

Found = Sequence[tuple[Scenario, Sequence[Outcome]]]
ROUTER = "Selection (routed)"
"""The rule the targets are about: selection by retrieval."""
MIXTURE = "Mixture (routed)"
ROUTERS = tuple(
    f"{name} (routed)"
    for name in ("RouterLoRA", "Arrow", "Self-activated ranks", "SMoRA gate", "MeteoRA gate")
)
PARTS = "the two it needs, summed"


def share(found: Estimate) -> str:
    """A share with its interval."""
    return f"{found.value:.3f} ({found.low:.3f}–{found.high:.3f})"


def table(scenario: Scenario, outcomes: Sequence[Outcome]) -> str:
    """Markdown: a row per way to answer."""
    named = {one.label: one for one in outcomes}
    perfect, best = named.get(PERFECT), named[BEST]
    lines = [
        "| | exact match | of perfect selection | ahead of best single (p) | rank kept | MB kept "
        "| ms a prompt |",
        "|---" * 7 + "|",
    ]
    for one in outcomes:
        if not one.values:
            lines.append(f"| {one.label} | refused | | | | | |")
            continue
        of = ratio(one.values, perfect.values) if perfect else None
        gap = one.against(best)
        ahead = (
            ""
            if one is best
            else f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}; {p(gap.p)})"
        )
        kept = f"{one.rank} | {one.size / 1e6:.2f}" if one.rank else "0 | 0"
        whole = share(of) if of and not math.isnan(of.value) else ""
        lines.append(
            f"| {one.label} | {share(one.estimate())} | {whole} | {ahead} | {kept} "
            f"| {1000 * one.seconds:.1f} |"
        )
    return "\n".join(lines)


def p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def wordings(
    scenario: Scenario, outcomes: Sequence[Outcome]
) -> Iterator[tuple[str, str, Estimate]]:
    """(wording, prompts and shares, selection over perfect selection)."""
    named = {one.label: one for one in outcomes}
    routed, perfect = named[ROUTER], named[PERFECT]
    for kind in ("full", "paraphrased", "terse"):
        at = [i for i, case in enumerate(scenario.cases) if case.wording == kind]
        if not at:
            continue
        of = ratio([routed.values[i] for i in at], [perfect.values[i] for i in at])
        said = (
            f"| {kind} | {len(at)} | {share(routed.estimate(at))} | {share(perfect.estimate(at))} |"
        )
        yield kind, said, of


def targets(found: Found) -> str:
    """What was aimed at, and what came of it."""
    lines = ["| aim | measured | reached |", "|---|---|---|"]
    lines += [f"| {aim} | {said} | {'yes' if good else 'no'} |" for aim, said, good in _aims(found)]
    return "\n".join(lines)


def _aims(found: Found) -> Iterator[tuple[str, str, bool]]:
    by_key = {scenario.key: (scenario, {o.label: o for o in outcomes if o.values})
              for scenario, outcomes in found}  # fmt: skip
    stream = by_key.get("stream")
    if stream:
        for kind, _, of in wordings(stream[0], list(stream[1].values())):
            if kind != "full":
                aim = f"selection at 98 % of perfect selection or more, {kind} prompts"
                yield aim, share(of), of.value >= 0.98
        yield from _above_merges(stream[1])
        yield from _noise(by_key, stream[1])
    if "masked" in by_key:
        ways = by_key["masked"][1]
        gap = ways[ROUTER].against(ways[BEST])
        said = f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}; {p(gap.p)})"
        aim = "own adapter masked, a relative exists: selection above the best single adapter"
        yield aim, said, gap.low > 0
    for key, (scenario, ways) in by_key.items():
        if key.startswith("chained"):
            routes = [one for one in ways.values() if one.kind == "routing"]
            top = max(routes, key=lambda one: one.estimate().value)
            gap = top.against(ways[BASE])
            aim = f"{scenario.title}: a routing rule above the base model"
            said = (
                f"{top.label}, the best of {len(routes)}, {share(top.estimate())}; "
                f"base {share(ways[BASE].estimate())}; "
                f"{PARTS} {share(ways[PARTS].estimate())}"
            )
            yield aim, said, gap.low > 0


def _above_merges(ways: dict[str, Outcome]) -> Iterator[tuple[str, str, bool]]:
    merges = [one for one in ways.values() if one.kind == "merging"]
    if merges:
        top = max(merges, key=lambda one: one.estimate().value)
        gap = ways[ROUTER].against(top)
        said = (
            f"{share(ways[ROUTER].estimate())} against {share(top.estimate())} of the best of "
            f"{len(merges)}, {top.label}"
        )
        yield "mixed stream: selection above every static merge", said, gap.low > 0


def _noise(by_key: dict, clean: dict[str, Outcome]) -> Iterator[tuple[str, str, bool]]:
    for key in ("noise", "duplicates", "liars"):
        if key in by_key:
            scenario, ways = by_key[key]
            before, after = clean[ROUTER].estimate(), ways[ROUTER].estimate()
            gap = ways[ROUTER].against(clean[ROUTER])
            said = f"{share(before)} before, {share(after)} after; {gap.value:+.3f}, {p(gap.p)}"
            aim = f"{scenario.title}: selection unchanged within its interval"
            yield aim, said, before.low <= after.value <= before.high


def document(found: Found, prompts: int, fitted: Collection[str]) -> str:
    """The whole page, as Markdown.

    Args:
        fitted: names of the adapters that RouterLoRA was fitted on.
    """
    pieces = [HEAD.format(prompts=prompts), "## What was aimed at", targets(found)]
    for scenario, outcomes in found:
        count = f"{len(scenario.cases)} prompts, {len(scenario.pool)} adapters in the pool."
        pieces += [f"## {scenario.title}", f"{scenario.about} {count}", table(scenario, outcomes)]
        if scenario.key == "stream":
            said = [f"{line} {share(of)} |" for _, line, of in wordings(scenario, outcomes)]
            pieces += [
                "By how the prompt is worded:",
                "\n".join([WORDING, "|---" * 5 + "|", *said]),
                "Right answers, where selection and perfect selection differ:",
                by_task(scenario, outcomes),
                "Token routers against Mixture, which hears the same three adapters evenly, by "
                "whether RouterLoRA was fitted on the prompt's own adapter:",
                against_mixture(scenario, outcomes, fitted),
            ]
    return "\n\n".join(pieces) + "\n"


def against_mixture(
    scenario: Scenario, outcomes: Sequence[Outcome], fitted: Collection[str]
) -> str:
    """Markdown: token routers and mixture on the same prompts, with the paired difference."""
    named = {one.label: one for one in outcomes if one.values}
    mixture = named[MIXTURE]
    places = range(len(scenario.cases))
    known = [i for i in places if scenario.cases[i].own in fitted]
    parts = {
        "all": list(places),
        "fitted on": known,
        "not fitted on": [i for i in places if i not in set(known)],
    }
    lines = ["| | own adapter | prompts | exact match | Mixture | ahead (p) |", "|---" * 6 + "|"]
    for label in ROUTERS:
        for part, at in parts.items():
            if label not in named or not at:
                continue
            one = named[label]
            gap = difference([one.values[i] for i in at], [mixture.values[i] for i in at])
            ahead = f"{gap.value:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}; {p(gap.p)})"
            lines.append(
                f"| {label} | {part} | {len(at)} | {share(one.estimate(at))} "
                f"| {share(mixture.estimate(at))} | {ahead} |"
            )
    return "\n".join(lines)


def by_task(scenario: Scenario, outcomes: Sequence[Outcome]) -> str:
    """Markdown: where selection loses what perfect selection has, worst first."""
    named = {one.label: one for one in outcomes}
    routed, perfect = named[ROUTER], named[PERFECT]
    found: list[tuple[int, str]] = []
    for task in sorted({case.task for case in scenario.cases}):
        at = [i for i, case in enumerate(scenario.cases) if case.task == task]
        right, of = (int(sum(one.values[i] for i in at)) for one in (routed, perfect))
        found.append((right - of, f"| {task} | {len(at)} | {right} | {of} |"))
    lines = [line for gap, line in sorted(found) if gap]
    return "\n".join(
        ["| task | prompts | selection | perfect selection |", "|---" * 4 + "|", *lines]
    )


WORDING = "| wording | prompts | selection | perfect selection | of perfect |"
HEAD = """# Routing, measured

Written by `python benchmarks/routing.py --write`: the protocol of LoraRetriever (arXiv 2402.09997)
and RAMoLE (2406.16989) on the demo's adapters. Exact match by teacher forcing on up to {prompts}
held-out prompts of each task, which is what greedy decoding would write. Intervals are 95 %:
Wilson's of a share, a paired bootstrap over prompts of a difference or a ratio (which has no width
where all prompts agree); p is McNemar's exact test. They cover the choice of prompts, not of
training seeds.

One prompt in four, by its hash, is only there to choose by (the best single adapter) and is never
reported on; strengths of merges are chosen on sample inputs of the sources. The best single adapter
is one for all prompts; where it is masked, the next best answers. Perfect selection is the own
adapter, also where it is masked for others. Rank and MB (16 bits) are of what has to be kept; ms a
prompt is the time of the batches a prompt was in, on one thread of a CPU that others used too,
without embedding it; what two ways ask alike is asked once. A prompt is worded in full (as the
first paraphrase of its task), tersely (two words at most beside the input), or paraphrased. Merges
are at twice the rank of the largest source where a rank can be chosen."""
