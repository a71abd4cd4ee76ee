"""Adapters resident beside a base model, and the hooks that add each row's own update to the
output of a module. Base weights are read, never written."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.composition.gate import Gate
from lora_studio.composition.schedule import Strength
from lora_studio.engines.grouped_rows import GroupedRows, Piece, Update, behind, weighted
from lora_studio.engines.router_parts import Held, RouterParts
from lora_studio.engines.row_factors import ModuleRows, Pair, RowFactors, combine
from lora_studio.engines.rows import RowPlan
from lora_studio.errors import IncompatibleAdapters, NotFound

log = logging.getLogger(__name__)

CPU_BYTES = 1 << 30
GPU_SHARE = 0.15


def module_dims(module: nn.Module) -> tuple[int, int] | None:
    """(d_in, d_out) of a module that can carry an adapter, or None; a convolution's d_in counts
    every value under its kernel."""
    if isinstance(module, nn.Conv2d) and module.groups == 1 and module.padding_mode == "zeros":
        height, width = module.kernel_size
        return module.in_channels * height * width, module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


def adaptable_modules(modules: Mapping[str, nn.Module]) -> dict[str, tuple[int, int]]:
    """Name -> (d_in, d_out) of every module that can carry an adapter."""
    dims = ((name, module_dims(module)) for name, module in modules.items())
    return {name: pair for name, pair in dims if pair is not None}


class AdapterBank:
    """Holds adapters in the model's compute type on its device, the least used leaving first.

    Args:
        modules: name -> module, under the names that adapters use; all in eval mode.
        max_bytes: bytes of resident factors; None is 1 GiB on CPU, 15 % of a GPU's memory.
        batched: whether rows of one batch may mix any adapters, so that DoRA and convolutions,
            which need rows of one plan side by side, are refused.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        max_bytes: int | None = None,
        *,
        batched: bool = True,
    ) -> None:
        self.modules = modules
        self.batched = batched
        weights = [p for m in modules.values() for p in m.parameters(recurse=False)]
        self._dtype = next((p.dtype for p in weights if p.is_floating_point()), torch.float32)
        device = weights[0].device if weights else torch.device("cpu")
        self.max_bytes = max_bytes if max_bytes is not None else _default_bytes(device)
        self._resident: OrderedDict[str, dict[str, Piece]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._hooks: dict[str, Any] = {}
        self._active: RowFactors | GroupedRows | None = None
        self.routers = RouterParts()

    @property
    def ids(self) -> list[str]:
        """Resident adapters, the least recently used first."""
        return list(self._resident)

    @property
    def bytes(self) -> int:
        """Bytes of all resident factors."""
        return sum(self._sizes.values())

    def has(self, adapter_id: str) -> bool:
        """Whether the adapter is resident; counts as a use."""
        if adapter_id not in self._resident:
            return False
        self._resident.move_to_end(adapter_id)
        return True

    def add(self, adapter_id: str, adapter: Adapter, keep: Collection[str] = ()) -> None:
        """Makes an adapter resident and evicts the least used others, never those in `keep`.

        Raises:
            IncompatibleAdapters: modules the model lacks, or other shapes; they are listed.
        """
        self._check(adapter)
        pairs = {name: self._to_device(name, f) for name, f in adapter.factors.items()}
        size = sum(piece.bytes for piece in pairs.values())
        self._evict(self.max_bytes - size, {*keep, adapter_id})
        self._resident[adapter_id] = pairs
        self._resident.move_to_end(adapter_id)
        self._sizes[adapter_id] = size
        for name in pairs:
            if name not in self._hooks:
                module = self.modules[name]
                self._hooks[name] = module.register_forward_hook(self._hook(name))

    def remove(self, adapter_id: str) -> None:
        """Drops an adapter; unknown ids are ignored."""
        self._resident.pop(adapter_id, None)
        self._sizes.pop(adapter_id, None)
        self.routers.forget(adapter_id)

    @contextmanager
    def guests(self, adapters: Mapping[str, Adapter]) -> Iterator[dict[str, str]]:
        """Within, adapters are resident under ids of their own: key -> that id."""
        names = {key: f"guest-{key}" for key in adapters}
        try:
            for key, adapter in adapters.items():
                self.add(names[key], adapter, keep=names.values())
            yield names
        finally:
            for name in names.values():
                self.remove(name)

    def close(self) -> None:
        """Takes every hook off the modules and forgets all adapters."""
        for handle in self._hooks.values():
            handle.remove()
        self._hooks.clear()
        self._resident.clear()
        self._sizes.clear()
        self._active = None

    def gather(self, plans: Sequence[RowPlan]) -> RowFactors:
        """Padded factors of the rows; equal plans are combined once."""
        missing = sorted({i for plan in plans for i in plan.ids} - self._resident.keys())
        if missing:
            raise NotFound(f"Adapters not loaded in the engine: {', '.join(missing)}. Add them.")
        unique = list(dict.fromkeys(plans))
        index = [unique.index(plan) for plan in plans]
        names = dict.fromkeys(n for p in unique for i in p.ids for n in self._resident[i])
        weights = {plan: self.routers.fitted(plan) for plan in unique}
        modules: dict[str, ModuleRows] = {}
        for name in names:
            held = [self._held(plan, name) for plan in unique]
            if any(held):
                both = list(zip(unique, held, strict=True))
                pieces = [_combined(plan, terms) for plan, terms in both]
                routings = [self.routers.of(p, name, terms, weights[p]) for p, terms in both]
                modules[name] = ModuleRows.stack(pieces, index, routings)
        return RowFactors(tuple(plans), modules)

    def pieces(
        self, weights: Mapping[str, Strength], prefixes: Sequence[str], gate: Gate | None = None
    ) -> dict[str, Update]:
        """Module name -> the weighted update of several adapters, for `GroupedRows`.

        Args:
            weights: adapter id -> weight, or module name -> weight (missing = 0).
            prefixes: only modules of these components ("unet.").
            gate: lets part of each update pass in the modules that it knows.

        Raises:
            NotFound: an adapter is not resident.
        """
        found: dict[str, list[tuple[Piece, float]]] = {}
        for adapter_id, strength in weights.items():
            if adapter_id not in self._resident:
                raise NotFound(f"Adapters not loaded in the engine: {adapter_id}. Add them.")
            for name, piece in self._resident[adapter_id].items():
                weight = strength if isinstance(strength, int | float) else strength.get(name, 0.0)
                if weight and name.startswith(tuple(prefixes)):
                    found.setdefault(name, []).append((piece, float(weight)))
        gated = gate.modules if gate else {}
        return {
            name: behind(several, gated[name]) if name in gated else weighted(several)
            for name, several in found.items()
        }

    def touches(self, adapter_id: str, prefixes: Sequence[str]) -> bool:
        """Whether a resident adapter has modules of these components."""
        return any(name.startswith(tuple(prefixes)) for name in self._resident[adapter_id])

    def row_bytes(self, plan: RowPlan) -> int:
        """Bytes one row of this plan takes in a gathered batch."""
        return sum(self._sizes.get(adapter_id, 0) for adapter_id in plan.ids)

    @contextmanager
    def active(self, factors: RowFactors | GroupedRows) -> Iterator[None]:
        """Within, a forward pass over exactly these rows carries their updates."""
        before, self._active = self._active, factors
        try:
            yield
        finally:
            self._active = before

    @contextmanager
    def rows(self, plans: Sequence[RowPlan]) -> Iterator[RowFactors]:
        """Gathers and activates in one go."""
        factors = self.gather(plans)
        with self.active(factors):
            yield factors

    def _held(self, plan: RowPlan, name: str) -> list[Held]:
        """The terms of a plan that act in a module."""
        return [
            (place, adapter_id, self._resident[adapter_id][name][:2], weight)
            for place, (adapter_id, weight) in enumerate(plan.terms)
            if weight != 0.0 and name in self._resident[adapter_id]
        ]

    def _hook(self, name: str) -> Callable[..., Tensor | None]:
        def add_rows(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            if self._active is None:
                return None
            return self._active.add(name, module, args[0], out)

        return add_rows

    def _to_device(self, name: str, factors: LoraFactors) -> Piece:
        weight = self.modules[name].weight
        assert isinstance(weight, Tensor)
        dtype = weight.dtype if weight.is_floating_point() else self._dtype
        folded = factors.folded()

        def move(values: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(np.array(values, dtype=np.float32))
            return tensor.to(device=weight.device)

        a, b = move(folded.A), move(folded.B)
        if factors.magnitude is None:
            return Piece(a.to(dtype), b.to(dtype))
        whole = weight.float().flatten(1) + b @ a  # (d_out, d_in)
        gain = move(factors.magnitude) / whole.norm(dim=1)  # (d_out,)
        return Piece(a.to(dtype), (gain[:, None] * b).to(dtype), (gain - 1).to(dtype))

    def _evict(self, room: int, keep: set[str]) -> None:
        for adapter_id in list(self._resident):
            if self.bytes <= room:
                return
            if adapter_id not in keep:
                self.remove(adapter_id)
        if self.bytes > room:
            log.warning("adapters of one job need more than the bank's %d bytes", self.max_bytes)

    def _check(self, adapter: Adapter) -> None:
        title = adapter.card.title or "This adapter"
        absent = [name for name in adapter.factors if name not in self.modules]
        if absent:
            raise IncompatibleAdapters(
                f"{title} names modules that this base model lacks: {_listing(absent)}. It was "
                "trained for another base; choose that one, or an adapter made for this one."
            )
        for name, factors in adapter.factors.items():
            module = self.modules[name]
            dims = module_dims(module)
            conv = isinstance(module, nn.Conv2d)
            if factors.kind == "embedding" or dims is None or (conv and self.batched):
                raise IncompatibleAdapters(
                    f"{title} adapts '{name}' ({type(module).__name__}), where adapters are not "
                    "run. Use an adapter of linear layers (and convolutions of image models)."
                )
            if factors.magnitude is not None and self.batched:
                raise IncompatibleAdapters(
                    f"{title} is a DoRA adapter ('{name}' has a magnitude); it cannot share a "
                    "batch. Convert it to plain LoRA first."
                )
            if dims != (factors.d_in, factors.d_out):
                raise IncompatibleAdapters(
                    f"{title} has shape ({factors.d_in} -> {factors.d_out}) in '{name}', but the "
                    f"base model has ({dims[0]} -> {dims[1]}). Choose the base it was trained on."
                )


def _combined(plan: RowPlan, terms: Sequence[Held]) -> Pair | None:
    return combine([(pair, weight) for *_, pair, weight in terms], plan.fuse) if terms else None


def _listing(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _default_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return CPU_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory * GPU_SHARE)
