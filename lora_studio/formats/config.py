"""How a file's factors are scaled: alpha beside the tensors, in adapter_config.json, or in the
header. Known fields only; patterns are matched as literal module names and never compiled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any

from lora_studio.errors import InvalidAdapter
from lora_studio.formats import other_methods, tuners
from lora_studio.formats.setting import Option
from lora_studio.limits import limits

CONFIG = "adapter_config.json"
HEADER = "lora_adapter_metadata"
MAX_OPTION = 2.0**53
METHODS = ("LORA", "LOHA", "LOKR")


@dataclass(frozen=True)
class Pattern:
    """A module name (whole if `anchored`, else perhaps its end) and the value it is given."""

    name: str
    anchored: bool
    value: float

    def covers(self, path: str, component: str) -> bool:
        if path in (self.name, f"{component}.{self.name}"):
            return True
        return not self.anchored and path.endswith(f".{self.name}")


@dataclass(frozen=True)
class AdapterConfig:
    """The fields of a configuration that are read.

    Args:
        options: those of PEFT's other methods and of MLX.
        kind: "MLX", the `peft_type` of such a method, or "" for LoRA, LoHa and LoKr.
    """

    rank: float | None = None
    alpha: float | None = None
    rslora: bool = False
    rank_pattern: tuple[Pattern, ...] = ()
    alpha_pattern: tuple[Pattern, ...] = ()
    base_model: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    kind: str = ""

    def scaling(self, component: str, path: str, rank: int | None, alpha: float | None) -> float:
        """Scaling of one module.

        Args:
            path: as the file names it, with its component or without.
            rank: of its factors; None where they do not say (both factors of LoKr whole).
            alpha: that of the file itself, which wins; 0 means the rank, as kohya's scripts do.
        """
        if rank is None and alpha is None:
            whole = _lookup(self.rank_pattern, component, path, self.rank)
            rank = None if whole is None else int(whole)
        if rank is None:
            return 1.0
        if alpha is not None:
            return alpha / rank if alpha else 1.0
        chosen = _lookup(self.alpha_pattern, component, path, self.alpha)
        if chosen is None:
            return 1.0
        return chosen / (sqrt(rank) if self.rslora else rank)


@dataclass(frozen=True)
class Scales:
    """Which configuration counts for which component of a file."""

    common: AdapterConfig | None = None
    by_component: Mapping[str, AdapterConfig] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        return self.common is not None or bool(self.by_component)

    def scaling(self, component: str, path: str, rank: int | None, alpha: float | None) -> float:
        config = self.common or self.by_component.get(component) or AdapterConfig()
        return config.scaling(component, path, rank, alpha)


def read_config(text: str) -> AdapterConfig:
    """Known fields of an adapter_config.json.

    Raises:
        InvalidAdapter: not JSON, another PEFT type, or values out of range.
    """
    data = _object(text, CONFIG)
    if "peft_type" not in data and ("lora_parameters" in data or "fine_tune_type" in data):
        return _mlx(data)
    kind = str(data.get("peft_type", "LORA")).upper()
    if kind in tuners.OPTIONS:
        names = ("fan_in_fan_out", *tuners.OPTIONS[kind])
        return AdapterConfig(base_model=_base(data), options=_options(data, names), kind=kind)
    if kind not in METHODS:
        raise other_methods.refuse(kind)
    if kind == "LORA":
        other_methods.refuse_unlike_lora(data)
    alpha = "lora_alpha" if kind == "LORA" else "alpha"
    return _config(data, alpha, CONFIG, ranks=kind == "LOKR")


def read_header_config(metadata: Mapping[str, str]) -> dict[str, AdapterConfig]:
    """Component -> configuration, from what diffusers writes into the header; {} if it did not."""
    if HEADER not in metadata:
        return {}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in _object(metadata[HEADER], HEADER).items():
        component, _, name_of_field = str(name).partition(".")
        parts.setdefault(component, {})[name_of_field] = value
    return {name: _config(data, "lora_alpha", HEADER) for name, data in parts.items()}


def _object(text: str, name: str) -> dict[str, Any]:
    """A JSON object, refused if it is large, deep, names a field twice, or holds NaN."""
    cap = limits().config_bytes
    if len(text) > cap:
        raise InvalidAdapter(
            f"{name} is over {cap // 1024} KiB; a real one is about one.", "config"
        )

    def constant(value: str) -> float:
        raise InvalidAdapter(f"{name} holds {value}, which is no number.", "config-values")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise InvalidAdapter(f"{name} names a field twice.", "config")
        return dict(pairs)

    try:
        data = json.loads(text, parse_constant=constant, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise InvalidAdapter(f"{name} is not valid JSON ({reason}).", "config") from error
    if not isinstance(data, dict):
        raise InvalidAdapter(f"{name} is not a JSON object.", "config")
    if _depth(data) > limits().config_depth:
        raise InvalidAdapter(f"{name} is nested deeper than any real one.", "config")
    return data


def _depth(value: Any) -> int:
    """How many objects and lists lie in each other."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [v for item in level for v in (item.values() if isinstance(item, dict) else item)]
    return depth


def _config(data: Mapping[str, Any], alpha: str, where: str, ranks: bool = False) -> AdapterConfig:
    """`ranks`: whether the factors' own shapes may leave a rank open."""
    return AdapterConfig(
        rank=_number(data.get("r"), "r", where) if ranks else None,
        alpha=_number(data.get(alpha), alpha, where),
        rslora=bool(data.get("use_rslora")),
        rank_pattern=_patterns(data, "rank_pattern", where) if ranks else (),
        alpha_pattern=_patterns(data, "alpha_pattern", where),
        base_model=_base(data),
    )


def _mlx(data: Mapping[str, Any]) -> AdapterConfig:
    """mlx-lm's fields: `scale` multiplies the factors' product as it stands."""
    kind = data.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise InvalidAdapter(
            f"This is an MLX fine-tuning of type '{str(kind)[:20]}', not a LoRA. Fuse it into its "
            "base model, or train with --fine-tune-type lora.",
            "adapter-type",
        )
    parameters = data.get("lora_parameters")
    options = _options(parameters if isinstance(parameters, dict) else {}, ("scale",))
    return AdapterConfig(base_model=_base(data, "model"), options=options, kind="MLX")


def _base(data: Mapping[str, Any], name: str = "base_model_name_or_path") -> str:
    return str(data.get(name) or "").replace("\\", "/")[:300]


def _options(data: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Option]:
    """The named fields, as far as they are yes, no, or a number of a size that stays exact."""
    found: dict[str, Option] = {}
    for name in names:
        value = data.get(name)
        if isinstance(value, bool):
            found[name] = value
        elif value is not None:
            usual = isinstance(value, int | float) and isfinite(value) and abs(value) <= MAX_OPTION
            if not usual:
                raise InvalidAdapter(
                    f"{name} in {CONFIG} is not a number that can be used.", "config-values"
                )
            found[name] = float(value)
    return found


def _patterns(data: Mapping[str, Any], name: str, where: str) -> tuple[Pattern, ...]:
    patterns = data.get(name) or {}
    if not isinstance(patterns, dict):
        raise InvalidAdapter(f"{name} in {where} is not an object.", "config-values")
    found = ((str(k), _number(v, name, where)) for k, v in patterns.items())
    return tuple(_literal(key, name, value) for key, value in found if value is not None)


def _literal(pattern: str, name: str, value: float) -> Pattern:
    """A pattern of ours or PEFT's as the literal name it stands for; real regexes are refused."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".").replace("\\_", "_")
    if any(c in "*+?()[]{}|\\^$" for c in plain):
        raise InvalidAdapter(
            f"{name} uses the regular expression '{pattern[:60]}'. Save the adapter with "
            "plain module names in rank_pattern and alpha_pattern.",
            "config-values",
        )
    return Pattern(plain, pattern.startswith("^"), value)


def _number(value: Any, name: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidAdapter(f"{name} in {where} is not a number.", "config-values")
    cap = limits().alpha
    if not isfinite(value) or not 0 < value <= cap:
        raise InvalidAdapter(
            f"{name} is {str(value)[:40]}; expected a number above 0 and up to {cap:.0f}.",
            "config-values",
        )
    return float(value)


def _lookup(
    patterns: tuple[Pattern, ...], component: str, path: str, default: float | None
) -> float | None:
    return next((p.value for p in patterns if p.covers(path, component)), default)
