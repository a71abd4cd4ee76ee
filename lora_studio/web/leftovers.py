"""What Gradio keeps of components it has replaced: one for every output that an event skips or
updates, under a number that nothing asks for again. A page in use for a day would keep thousands.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send


class Leftovers:
    """Drops them before each event. Our pages build no components while they run (`gr.render`), so
    that whatever was not there from the beginning is such a leftover.

    It runs in the loop in which Gradio puts a component down and reads it back without a pause.
    """

    def __init__(self, app: ASGIApp, blocks: Any) -> None:
        self.app = app
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/queue/join"):
            drop(self._blocks)
        await self.app(scope, receive, send)


def drop(blocks: Any) -> int:
    """Drops the leftovers of every open page of a gr.Blocks; returns how many there were."""
    gone = 0
    holder = getattr(blocks, "state_holder", None)
    for session in list(holder.session_data.values()) if holder else ():
        for kept in (session.blocks_config.blocks, session.config_values):
            if len(kept) > len(blocks.blocks):
                for number in [n for n in kept if n not in blocks.blocks]:
                    del kept[number]
                    gone += 1
    return gone
