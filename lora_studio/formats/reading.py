"""From the tensors of a file to LoRA factors: picks the dialect and the scaling of each module,
and refuses by name whatever is left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from lora_studio.adapter import LoraFactors
from lora_studio.errors import InvalidAdapter
from lora_studio.formats import (
    attention_processor,
    cloneofsimo,
    diffusers,
    glora,
    kohya,
    mlx,
    original,
    peft,
    peft_tuner,
    tuners,
    whole,
    xlabs,
)
from lora_studio.formats.config import Scales
from lora_studio.formats.control import refuse_wider_inputs
from lora_studio.formats.cuts import divide
from lora_studio.formats.dialect import Dialect, Place
from lora_studio.formats.parts import Part, alpha_of, read_part, to_factors
from lora_studio.formats.setting import Option, Setting, Shapes
from lora_studio.limits import limits

DIALECTS: tuple[Dialect, ...] = tuple(
    cast(Dialect, module)
    for module in (
        peft,
        diffusers,
        attention_processor,
        kohya,
        original,
        xlabs,
        peft_tuner,
        mlx,
        cloneofsimo,
    )
)
_HINTS = {
    "query_norm.scale": "This is a control adapter for Flux.1, which also replaces norm layers",
    "oft_": "This is an OFT adapter",
    "on_input": "This is an IA³ adapter",
    "w_norm": "The file also replaces norm layers",
    ".diff": "The file replaces whole weights",
    ".a1.weight": "This is a GLoRA adapter",
    "bundle_emb": "The file also holds textual inversions",
    "modules_to_save": "The file replaces whole weights",
}


@dataclass(frozen=True)
class Reading:
    """What came of a file's tensors.

    Args:
        factors: by canonical path.
        source_format: the name of the dialect.
        report: what was converted or left out, as sentences.
        ranks: the rank by which the file's alpha was divided, of each module that has one.
    """

    factors: dict[str, LoraFactors]
    source_format: str
    report: list[str]
    ranks: dict[str, int]


def pick(keys: Collection[str], metadata: Mapping[str, str]) -> Dialect:
    """The dialect of a file; raises InvalidAdapter if none matches."""
    found = next((d for d in DIALECTS if d.matches(keys, metadata)), None)
    if found is None:
        raise InvalidAdapter(
            f"The tensor names are none that are read{_hint(keys)}. The file starts with "
            f"'{next(iter(sorted(keys)), '')[:80]}'. Files of PEFT, diffusers, kohya, LyCORIS, "
            "ComfyUI, ai-toolkit, OneTrainer, XLabs and MLX (LoRA, LoCon, LoHa, LoKr, DoRA) can be "
            "uploaded; convert it to one of them.",
            "unknown-names",
        )
    return found


def read_factors(
    tensors: Iterable[tuple[str, np.ndarray]],
    places: Mapping[str, Place | None],
    scales: Scales,
    dialect: str,
    options: Mapping[str, Option] | None = None,
    shapes: Shapes | None = None,
) -> Reading:
    """Module -> factors with the file's scaling; LoHa, LoKr, Tucker cores and the like as LoRA.

    Args:
        options: known fields of the configuration; `shapes`: sizes of the base model's weights.

    Raises:
        InvalidAdapter: tensors that belong to no module, a factor without its partner, or ranks
            that do not agree; the names are listed.
    """
    _refuse_strangers([key for key, place in places.items() if place is None])
    found, homes = _gather(tensors, places)
    setting = Setting(options or {}, found.pop("", {}), shapes or {}, tuple(sorted(found)))
    if not found and (reason := tuners.alone(setting.shared)):
        raise InvalidAdapter(reason)
    if not found:
        raise InvalidAdapter(
            "The file holds no LoRA factors (lora_A / lora_B tensors).", "unknown-names"
        )
    _refuse_lonely(found, dialect)
    factors: dict[str, LoraFactors] = {}
    parts: dict[str, Part] = {}
    for path in sorted(found):
        part, home = read_part(path, found[path], setting), homes[path]
        alpha = alpha_of(path, found[path])
        scaling = part.scaling
        if scaling is None:
            scaling = scales.scaling(home.component, home.spelled, part.rank, alpha)
        module = to_factors(path, part, found[path], scaling)
        module = replace(module, component=home.component)
        for name, piece in divide(path, module, home.cut).items():
            if name in factors:
                raise InvalidAdapter(f"The file names '{name}' twice, once in '{home.spelled}'.")
            factors[name], parts[name] = piece, part
            _check_size(name, factors)
    refuse_wider_inputs(factors)
    payload = next((p.payload for p in parts.values() if p.payload != "LoRA"), "")
    report = [*_conversions(parts, factors), *_divisions(homes), *_left_aside(places)]
    ranks = {p: part.rank for p, part in parts.items() if part.rank and part.scaling is None}
    return Reading(factors, f"{dialect} {payload}".strip(), report, ranks)


def _gather(
    tensors: Iterable[tuple[str, np.ndarray]], places: Mapping[str, Place | None]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, Place]]:
    """(module -> role -> tensor, module -> a place of it), without what is set aside."""
    found: dict[str, dict[str, np.ndarray]] = {}
    homes: dict[str, Place] = {}
    for key, tensor in tensors:
        place = places[key]
        assert place is not None
        if place.role == "aside":
            continue
        if place.role in found.setdefault(place.path, {}):
            raise InvalidAdapter(f"The file names '{place.path}' twice, once as '{key}'.")
        found[place.path][place.role] = tensor
        homes[place.path] = place
    return found, homes


def _refuse_strangers(keys: list[str]) -> None:
    if not keys:
        return
    raise InvalidAdapter(
        f"{len(keys)} tensors are not LoRA factors of a module that is known, such as "
        f"{_some(keys)}{_hint(keys)}. Adapters that replace whole weights (modules_to_save) cannot "
        "be composed; save without them.",
        "leftover-tensors",
    )


def _refuse_lonely(found: Mapping[str, Mapping[str, np.ndarray]], dialect: str) -> None:
    plain = (
        [] if dialect != peft_tuner.NAME else [p for p, r in found.items() if not tuners.kind(r)]
    )
    if plain:
        raise InvalidAdapter(f"The file's other modules have more tensors than {_some(plain)}.")
    pairs = (("A", "B"), ("embedding_A", "embedding_B"), ("mlx_a", "mlx_b"))
    lonely = [
        path
        for path, roles in found.items()
        if not any(role.startswith(("hada_", "lokr_")) for role in roles)
        and not tuners.kind(roles)
        and not any(role in roles for role in (*glora.ROLES, *whole.ROLES))
        and not any(a in roles and b in roles for a, b in pairs)
    ]
    if lonely:
        raise InvalidAdapter(f"lora_A or lora_B is missing for {_some(lonely)}.")


def _check_size(path: str, factors: Mapping[str, LoraFactors]) -> None:
    """Caps on the module at `path`, and on all so far together; LoKr with whole factors can stand
    for far more than its file holds."""
    cap, norm = limits(), factors[path].norm()
    if not norm <= cap.update_norm:
        raise InvalidAdapter(
            f"The update of '{path}' has norm {norm:.3g}, beyond what half precision can hold. The "
            "training run has probably diverged, or its alpha is wrong.",
            "values",
        )
    if sum(m.A.size + m.B.size for m in factors.values()) > cap.values:
        raise InvalidAdapter(
            f"As LoRA this adapter would hold over {cap.values >> 20} million numbers. Resize it "
            "to a lower rank; a LoKr with whole factors needs a larger factor.",
            "caps",
        )


def _conversions(parts: Mapping[str, Part], factors: Mapping[str, LoraFactors]) -> list[str]:
    converted = [path for path, part in parts.items() if part.converted]
    counts = Counter(parts[path].payload for path in converted)
    said: list[str] = []
    for payload, count in sorted(counts.items()):
        rank = max(factors[path].rank for path in converted if parts[path].payload == payload)
        what = _KINDS.get(payload, f"{payload} modules")
        said.append(
            f"{count} {what} became LoRA factors of the same updates, of rank {rank} at most."
        )
    losses = [part.loss for part in parts.values() if part.loss]
    if losses:
        said.append(
            f"Of {len(losses)} modules only the largest directions were kept, which changes their "
            f"updates by {max(losses):.1%} at most."
        )
    return said


def _left_aside(places: Mapping[str, Place | None]) -> list[str]:
    names = sorted(key for key, place in places.items() if place and place.role == "aside")
    if not names:
        return []
    return [
        f"{len(names)} textual inversions ({_some(names)}) lie beside the LoRA and were set aside: "
        "prompts that use these words need them from the original file."
    ]


def _divisions(homes: Mapping[str, Place]) -> list[str]:
    count = sum(bool(home.cut and len(home.cut.paths) > 1) for home in homes.values())
    if not count:
        return []
    return [
        "Matrices of the model's original code that were divided into diffusers' modules, with the "
        f"same updates: {count}."
    ]


_KINDS = {"LoRA": "convolutions with a Tucker core", "full update": "whole updates"}


def _hint(keys: Iterable[str]) -> str:
    found = (hint for key in sorted(keys) for mark, hint in _HINTS.items() if mark in key)
    first = next(found, "")
    return f" ({first})" if first else ""


def _some(names: list[str]) -> str:
    shown = ", ".join(f"'{n[:80]}'" for n in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
