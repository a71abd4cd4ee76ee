"""Coverage-guided fuzzing (atheris) of what reads untrusted bytes.

    python -m tests.hostile.guided header|config|archive|names RUNS

Only our own code is instrumented: that of numpy and of the standard library is not on trial, and
watching it makes a run several times as slow.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lora_studio"]):
    from tests.hostile.fuzz import once, seeds


def main() -> None:
    target, runs = sys.argv[1], sys.argv[2]
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    for i, seed in enumerate(seeds(target)):
        (corpus / str(i)).write_bytes(seed)
    options = [f"-runs={runs}", "-timeout=5", "-rss_limit_mb=1024", "-max_len=8192", "-verbosity=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: once(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
