"""How far a command is: one line on the terminal that is written over."""

from __future__ import annotations

import sys

BAR = 24
WIDTH = 100
"""Characters of the bar, and of the line it stands in."""


class Bar:
    """Within, `show` tells how far it is; nothing where there is no terminal.

    Args:
        shown: whether it is wanted at all.
    """

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r" + " " * WIDTH, end="\r", file=sys.stderr, flush=True)

    def show(self, fraction: float, message: str) -> None:
        """Writes the line anew; `fraction` is 0 to 1."""
        if self._shown:
            full = "#" * round(BAR * fraction)
            line = f"[{full:<{BAR}}] {fraction:4.0%} {message}"[:WIDTH]
            print(f"\r{line:<{WIDTH}}", end="", file=sys.stderr, flush=True)
