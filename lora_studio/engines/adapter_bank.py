"""Adapters resident beside a base model, and the hooks that add each row's own update to the
output of a module. Base weights are read, never written."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lora_studio.adapter import Adapter, LoraFactors
from lora_studio.engines.row_factors import ModuleRows, Pair, RowFactors, combine
from lora_studio.engines.rows import RowPlan
from lora_studio.errors import IncompatibleAdapters, LoraStudioError, NotFound

log = logging.getLogger(__name__)

CPU_BYTES = 1 << 30
GPU_SHARE = 0.15


def module_dims(module: nn.Module) -> tuple[int, int] | None:
    """(d_in, d_out) of a module that can carry an adapter, or None."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if isinstance(module, Conv1D):
        return int(module.weight.shape[0]), int(module.weight.shape[1])
    return None


def adaptable_modules(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Name -> (d_in, d_out) of every module of the model that can carry an adapter."""
    dims = ((name, module_dims(module)) for name, module in model.named_modules())
    return {name: pair for name, pair in dims if pair is not None}


class AdapterBank:
    """Holds adapters in the model's compute type on its device, the least used leaving first.

    Args:
        model: a transformers model in eval mode.
        max_bytes: bytes of resident factors; None is 1 GiB on CPU, 15 % of a GPU's memory.
    """

    def __init__(self, model: nn.Module, max_bytes: int | None = None) -> None:
        self.model = model
        self.max_bytes = max_bytes if max_bytes is not None else _default_bytes(model)
        self._resident: OrderedDict[str, dict[str, Pair]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._hooks: dict[str, Any] = {}
        self._active: RowFactors | None = None

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
        size = sum(t.numel() * t.element_size() for pair in pairs.values() for t in pair)
        self._evict(self.max_bytes - size, {*keep, adapter_id})
        self._resident[adapter_id] = pairs
        self._resident.move_to_end(adapter_id)
        self._sizes[adapter_id] = size
        for name in pairs:
            if name not in self._hooks:
                module = self.model.get_submodule(name)
                self._hooks[name] = module.register_forward_hook(self._hook(name))

    def remove(self, adapter_id: str) -> None:
        """Drops an adapter; unknown ids are ignored."""
        self._resident.pop(adapter_id, None)
        self._sizes.pop(adapter_id, None)

    def close(self) -> None:
        """Takes every hook off the model and forgets all adapters."""
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
        modules: dict[str, ModuleRows] = {}
        for name in names:
            pieces = [self._piece(plan, name) for plan in unique]
            if any(piece is not None for piece in pieces):
                modules[name] = ModuleRows.stack(pieces, index)
        return RowFactors(tuple(plans), modules)

    def row_bytes(self, plan: RowPlan) -> int:
        """Bytes one row of this plan takes in a gathered batch."""
        return sum(self._sizes.get(adapter_id, 0) for adapter_id in plan.ids)

    @contextmanager
    def active(self, factors: RowFactors) -> Iterator[None]:
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

    def _piece(self, plan: RowPlan, name: str) -> Pair | None:
        terms = [
            (self._resident[adapter_id][name], weight)
            for adapter_id, weight in plan.terms
            if weight != 0.0 and name in self._resident[adapter_id]
        ]
        return combine(terms, plan.fuse) if terms else None

    def _hook(self, name: str) -> Callable[..., Tensor | None]:
        def add_rows(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
            rows = self._active.modules.get(name) if self._active else None
            if rows is None:
                return None
            x = args[0]
            if not rows.shared and (x.ndim != 3 or x.shape[0] != len(rows.ranks)):
                raise LoraStudioError(
                    f"Module '{name}' mixes the rows of a batch (input {tuple(x.shape)}), so rows "
                    "with different adapters cannot run together. Run them one at a time."
                )
            return rows.add_to(x, out)

        return add_rows

    def _to_device(self, name: str, factors: LoraFactors) -> Pair:
        weight = self.model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        dtype = weight.dtype if weight.is_floating_point() else _float_type(self.model)
        folded = factors.folded()

        def move(values: np.ndarray) -> Tensor:
            tensor = torch.from_numpy(np.array(values, dtype=np.float32))
            return tensor.to(device=weight.device, dtype=dtype)

        return move(folded.A), move(folded.B)

    def _evict(self, room: int, keep: set[str]) -> None:
        for adapter_id in list(self._resident):
            if self.bytes <= room:
                return
            if adapter_id not in keep:
                self.remove(adapter_id)
        if self.bytes > room:
            log.warning("adapters of one job need more than the bank's %d bytes", self.max_bytes)

    def _check(self, adapter: Adapter) -> None:
        modules = dict(self.model.named_modules())
        title = adapter.card.title or "This adapter"
        absent = [name for name in adapter.factors if name not in modules]
        if absent:
            raise IncompatibleAdapters(
                f"{title} names modules that this base model lacks: {_listing(absent)}. It was "
                "trained for another base; choose that one, or an adapter made for this one."
            )
        for name, factors in adapter.factors.items():
            dims = module_dims(modules[name])
            if factors.kind != "linear" or dims is None:
                kind = type(modules[name]).__name__
                raise IncompatibleAdapters(
                    f"{title} adapts '{name}' ({kind}); text generation runs adapters on linear "
                    "layers only. Use an adapter without embedding or convolution modules."
                )
            if factors.magnitude is not None:
                raise IncompatibleAdapters(
                    f"{title} is a DoRA adapter ('{name}' has a magnitude); it cannot share a "
                    "batch. Convert it to plain LoRA first."
                )
            if dims != (factors.d_in, factors.d_out):
                raise IncompatibleAdapters(
                    f"{title} has shape ({factors.d_in} -> {factors.d_out}) in '{name}', but the "
                    f"base model has ({dims[0]} -> {dims[1]}). Choose the base it was trained on."
                )


def _listing(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _float_type(model: nn.Module) -> torch.dtype:
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def _default_bytes(model: nn.Module) -> int:
    device = next(model.parameters()).device
    if device.type != "cuda":
        return CPU_BYTES
    return int(torch.cuda.get_device_properties(device).total_memory * GPU_SHARE)
