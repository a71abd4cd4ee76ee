"""A method is one annotated function under a decorator; its signature is the whole declaration.

Keyword-only parameters, annotated with `Range` or `Literal`, become the sliders of the page, the
options of the command line and the fields of a recipe.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from lora_studio.adapter import Adapter, Modality
from lora_studio.composition.gate import Gate
from lora_studio.composition.plan import Plan
from lora_studio.composition.probe import ModelProbe
from lora_studio.errors import InvalidRequest
from lora_studio.registry import Registry

MethodKind = Literal["merging", "routing", "denoising"]
MethodModality = Literal["text", "image", "both"]
MODALITIES: Mapping[MethodKind, MethodModality] = {
    "merging": "both",
    "routing": "text",
    "denoising": "image",
}
MethodGroup = Literal["", "peft", "updates", "shared_space", "directions", "averages"]
"""Where a merge stands in the menu; "" is among the first."""
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Range:
    """Annotation of a number: closed range, step of its slider, one line of help, `Param.when`."""

    low: float
    high: float
    step: float
    help: str = ""
    when: tuple[str, ...] = ()


@dataclass(frozen=True)
class Help:
    """Annotation of a choice or a switch: one line of help."""

    help: str


@dataclass(frozen=True)
class Param:
    """One parameter of a method, as the page and the command line show it.

    Args:
        when: (name, value, ...): it matters only while the choice of that name is one of the
            values, and the page shows it only then; empty = always.
    """

    name: str
    title: str
    type: Literal["float", "int", "choice", "bool"]
    default: Any
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""
    when: tuple[str, ...] = ()

    def check(self, value: Any) -> Any:
        """The value in its type; raises InvalidRequest with what is allowed."""
        if self.type == "choice":
            if value not in self.choices:
                raise InvalidRequest(
                    f"{self.name} is {value!r}; choose one of {', '.join(self.choices)}."
                )
            return value
        if self.type == "bool":
            if not isinstance(value, bool):
                raise InvalidRequest(f"{self.name} is {value!r}; expected true or false.")
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        low, high = self.min or 0, self.max or 0
        if not number or not low <= value <= high or (self.type == "int" and value != int(value)):
            kind = "a whole number" if self.type == "int" else "a number"
            raise InvalidRequest(
                f"{self.name} is {value!r}; expected {kind} from {self.min} to {self.max}."
            )
        return int(value) if self.type == "int" else float(value)


def no_progress(fraction: float, message: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Inputs:
    """What every method is given besides its parameters.

    Args:
        adapters: at least one, all of one base model.
        weights: one per adapter; may be negative or zero.
        seed: of every random choice.
        ids: one per adapter, to name it in a plan that is carried out at run time.
        probe: access to the running base model, where there is one.
        progress: called with (fraction, message); may raise to cancel.
        family: of the base model ("sd1", "sdxl", "flux", ...); "" if it is not known.
        regions: one per adapter, as `Source.region`; empty where none has one.
        gate: the gate fitted for the base model, if there is one.
        stream: whether a merge may leave its modules to be made as they are written; else the
            whole result is in memory.
    """

    adapters: Sequence[Adapter]
    weights: Sequence[float]
    seed: int = 0
    ids: Sequence[str] = ()
    probe: ModelProbe | None = None
    progress: Progress = field(default=no_progress)
    family: str = ""
    regions: Sequence[Mapping[str, Any]] = ()
    gate: Gate | None = None
    stream: bool = False

    @property
    def modality(self) -> Modality:
        """What the adapters are for; all are for the same."""
        return self.adapters[0].modality


@dataclass(frozen=True)
class Method:
    """A registered way to compose.

    Args:
        modality: what the base model makes.
        families: families of image models it is made for; empty is every one.
        uses_regions: whether `Inputs.regions` matter to it.
        uses_gate: whether it needs `Inputs.gate`.
        needs_samples: whether it always tries things on the base model and the sources' samples.
        group: of the menu.
        in_model: whether who acts is decided inside the model while it runs, so that no file that
            is taken away can carry it out.
    """

    name: str
    title: str
    kind: MethodKind
    summary: str
    paper: str
    params: tuple[Param, ...]
    uses_model: bool
    modality: MethodModality
    families: tuple[str, ...]
    function: Callable[..., Plan]
    uses_regions: bool = False
    uses_gate: bool = False
    needs_samples: bool = False
    group: MethodGroup = ""
    in_model: bool = False

    def checked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters with defaults filled in.

        Raises:
            InvalidRequest: an unknown name or a value out of range.
        """
        known = {p.name: p for p in self.params}
        strangers = values.keys() - known.keys()
        if strangers:
            names = ", ".join(known) or "none"
            raise InvalidRequest(
                f"{self.name} has no parameter '{min(strangers)}'. Its parameters: {names}."
            )
        return {name: p.check(values.get(name, p.default)) for name, p in known.items()}

    def refuse(self, modality: str, family: str = "") -> None:
        """Raises InvalidRequest where it is not made for such a base model, with the reason."""
        if self.modality not in ("both", modality):
            raise InvalidRequest(
                f"{self.title} is for {self.modality} models, and this composition is for "
                f"{modality}. Choose a merge, or a method for {modality} models."
            )
        if family and self.families and family not in self.families:
            raise InvalidRequest(
                f"{self.title} is made for {' and '.join(self.families)}, and this base model is "
                f"of the family {family}. Choose another method."
            )

    def tunes(self, values: Mapping[str, Any]) -> bool:
        """Whether these parameters ask for tries on the base model (`Inputs.probe`)."""
        return self.uses_model and (self.needs_samples or bool(values.get("auto_scale")))

    def __call__(self, inputs: Inputs, **values: Any) -> Plan:
        self.refuse(inputs.modality, inputs.family)
        return self.function(inputs, **self.checked(values))


METHODS: Registry[Method] = Registry("method")


def method(
    name: str,
    *,
    title: str,
    kind: MethodKind,
    paper: str = "",
    uses_model: bool = False,
    modality: MethodModality | None = None,
    families: tuple[str, ...] = (),
    uses_regions: bool = False,
    uses_gate: bool = False,
    needs_samples: bool = False,
    group: MethodGroup = "",
    in_model: bool = False,
) -> Callable[[Callable[..., Plan]], Callable[..., Plan]]:
    """Registers the decorated function as a method; its docstring's first sentence is the summary.

    Args:
        uses_model: whether it can make use of `Inputs.probe`.
        modality: what the base model makes; None follows from the kind (`MODALITIES`).
        families: families of image models it is made for; empty is every one.
        uses_regions, uses_gate: whether it needs `Inputs.regions`, `Inputs.gate`.
        needs_samples: whether it always tries things on `Inputs.probe`.
        group: of the menu.
        in_model: whether who acts is decided inside the running model.
    """

    def register(function: Callable[..., Plan]) -> Callable[..., Plan]:
        summary = (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")
        entry = Method(
            name,
            title,
            kind,
            summary,
            paper,
            _params(function),
            uses_model,
            modality or MODALITIES[kind],
            families,
            function,
            uses_regions,
            uses_gate,
            needs_samples,
            group,
            in_model,
        )
        METHODS.register(name, entry)
        return function

    return register


def _params(function: Callable[..., Plan]) -> tuple[Param, ...]:
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    return tuple(
        _param(p.name, hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY
    )


def _param(name: str, hint: Any, default: Any) -> Param:
    note: Any = None
    if get_origin(hint) is Annotated:
        hint, note = get_args(hint)[:2]
    title, text = name.replace("_", " ").capitalize(), getattr(note, "help", "")
    if get_origin(hint) is Literal:
        choices = tuple(str(v) for v in get_args(hint))
        return Param(name, title, "choice", default, choices=choices, help=text)
    if hint is bool:
        return Param(name, title, "bool", default, help=text)
    if not isinstance(note, Range) or hint not in (int, float):
        raise TypeError(f"parameter '{name}' needs a Range, a Literal or bool")
    kind: Literal["int", "float"] = "int" if hint is int else "float"
    bounds = (note.low, note.high, note.step)
    return Param(name, title, kind, default, *bounds, help=text, when=note.when)
