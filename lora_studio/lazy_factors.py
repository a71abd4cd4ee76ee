"""Factors that are made when they are asked for and kept by nobody, so that an adapter larger than
memory can be merged, scaled and written module by module."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class LazyFactors(Mapping[str, T], Generic[T]):
    """Module name -> what `make` gives for it, anew each time.

    Args:
        names: the modules, sorted.
        make: called from several threads at once.
        threads: how many modules are made at the same time.
        told: called with the number of modules done, in the thread of whoever iterates; may raise.
    """

    names: Sequence[str]
    make: Callable[[str], T]
    threads: int = 1
    told: Callable[[int], None] = lambda done: None

    def __getitem__(self, name: str) -> T:
        if name not in self.names:
            raise KeyError(name)
        return self.make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def then(self, change: Callable[[T], S]) -> LazyFactors[S]:
        """The same modules, each changed once it is made."""
        return LazyFactors(self.names, lambda n: change(self.make(n)), self.threads, self.told)

    def each(self) -> Iterator[tuple[str, T]]:
        """(name, module) in order; at most `threads` + 1 of them exist at any time."""
        waiting: deque[tuple[str, Future[T]]] = deque()
        left, done = iter(self.names), 0
        pool = ThreadPoolExecutor(self.threads, "modules")

        def begin(count: int) -> None:
            for name in islice(left, count):
                waiting.append((name, pool.submit(self.make, name)))

        try:
            self.told(0)
            begin(self.threads)
            while waiting:
                name, future = waiting.popleft()
                made = future.result()
                begin(1)
                yield name, made
                done += 1
                self.told(done)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
