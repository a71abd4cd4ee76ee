"""Reads files as the confined child of the studio does, and watches what the reading does besides.

    python -m tests.hostile.runner < paths.jsonl

Each line in is {"path", "out", "max_bytes", "limits"}; each line out is {"outcome": "accepted",
"refused" or "crashed", "refusal", "message", "id", "seconds", "memory"}, with `memory` the largest
resident size so far in MiB. Writing outside the folder of `out`, a socket, a program or a shell
counts as a crash.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lora_studio.errors import InvalidAdapter, LoraStudioError
from lora_studio.formats import canonical
from lora_studio.limits import Limits
from lora_studio.worker import sandbox
from lora_studio.worker.job import JobContext
from lora_studio.worker.tasks import validate

FORBIDDEN = ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.fork")
CAP = 1536 << 20
"""Bytes of memory that no case of the corpus may need."""


class Watch:
    """Audit hook: what the reading did that it must not. It may write to the folder `allowed`."""

    def __init__(self) -> None:
        self.allowed = ""
        self.seen: list[str] = []
        self._scratch = tempfile.gettempdir()  # not to be asked for within the hook
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event in FORBIDDEN:
            self.seen.append(f"{event} {str(args)[:100]}")
        if event == "open" and self.allowed and isinstance(args[0], str):
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            inside = args[0].startswith((self.allowed, self._scratch))
            if writes and not inside and args[0] != os.devnull:
                self.seen.append(f"open {args[0][:200]}")


def read(line: dict[str, Any], watch: Watch) -> dict[str, Any]:
    out = Path(line["out"])
    ctx = JobContext(lambda data: None, lambda share, text: None, lambda: False, out.parent)
    watch.allowed, watch.seen = str(out.parent), []
    started = time.perf_counter()
    found: dict[str, Any] = {"refusal": "", "message": "", "id": ""}
    try:
        validate.run(line, ctx)
        found |= {"outcome": "accepted", "id": canonical.read(out).id}
    except InvalidAdapter as error:
        found |= {"outcome": "refused", "refusal": error.refusal, "message": str(error)}
    except LoraStudioError as error:
        found |= {"outcome": "refused", "refusal": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever else escapes is what the corpus looks for
        found |= {"outcome": "crashed", "message": f"{type(error).__name__}: {error}"[:300]}
    watch.allowed = ""
    if watch.seen:
        found |= {"outcome": "crashed", "message": f"it did {watch.seen[0]}"}
    found["seconds"] = time.perf_counter() - started
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return found


def main() -> None:
    sandbox.confine(replace(Limits(), seconds=36_000))
    sandbox.allow_for(0, replace(Limits(), memory=CAP + (1 << 30)))  # torch's address space besides
    watch = Watch()
    for text in sys.stdin:
        line = json.loads(text)
        print(json.dumps(read(line, watch)), flush=True)  # noqa: T201 - the channel to the test


if __name__ == "__main__":
    main()
