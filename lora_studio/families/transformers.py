"""Telling which transformer an adapter was trained on: by the names of its modules, then the width
of its attention, then how many blocks it has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from lora_studio.adapter import LoraFactors
from lora_studio.families.guess import Guess
from lora_studio.families.known import KNOWN, Known


def guess_transformer(factors: Mapping[str, LoraFactors], said: str) -> Guess:
    """The family, and every step that led to it.

    Args:
        factors: those of the transformer alone.
        said: the family the file's header speaks of, which decides where the weights leave several.
    """
    modules = {name.partition(".")[2]: module for name, module in factors.items()}
    named = [known for known in KNOWN if known.modules and _has_all(known.modules, modules)]
    if not named:
        known = frozenset().union(*(k.modules for k in KNOWN))
        strange = next((n for n in modules if not _has_all(known, (n,))), next(iter(modules)))
        return Guess("", (f"No transformer known here has all its modules, such as '{strange}'.",))
    steps = [f"Its modules are named as in {_either(named)}."]
    wide = {m.d_in for name, m in modules.items() if name.endswith((".to_q", ".to_k"))}
    fitting = [known for known in named if wide <= set(known.widths)]
    if wide:
        which = f"as in {_either(fitting)}" if fitting else "like no known model's"
        steps.append(f"Its attention is {'/'.join(map(str, sorted(wide)))} wide, {which}.")
    deep = [known for known in fitting if not _too_deep(known, modules)]
    if fitting and len(deep) < len(fitting):
        short = [known for known in fitting if known not in deep]
        steps.append(f"It has more blocks than {_either(short)}.")
    return Guess(*_choose(deep, said, steps))


def _choose(fitting: list[Known], said: str, steps: list[str]) -> tuple[str, tuple[str, ...]]:
    names = [known.name for known in fitting]
    if said in names:
        return said, (*steps, f"The header says that it is {KNOWN.get(said).title}.")
    alone = [known for known in fitting if known.twin not in names]
    if len(alone) > 1:
        return "", (*steps, f"Nothing tells which of them: {_either(alone)}.")
    if len(fitting) > 1:
        steps = [*steps, f"Most such adapters are for {alone[0].title}."]
    return (alone[0].name if alone else ""), tuple(steps)


def _has_all(known: frozenset[str], modules: Iterable[str]) -> bool:
    return all(name in known or _blockless(name) in known for name in modules)


def _blockless(name: str) -> str:
    """A module's name with "{}" for the first number in it."""
    parts = name.split(".")
    index = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return name if index is None else ".".join([*parts[:index], "{}", *parts[index + 1 :]])


def _too_deep(known: Known, modules: Iterable[str]) -> bool:
    return any(number >= known.blocks.get(stack, number + 1) for stack, number in _stacks(modules))


def _stacks(modules: Iterable[str]) -> Iterator[tuple[str, int]]:
    for name in modules:
        stack, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        if number.isdecimal() and len(number) < 5:
            yield stack, int(number)


def _either(known: list[Known]) -> str:
    titles = [one.title for one in known]
    return " or ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))
