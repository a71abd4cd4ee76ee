"""Bugs put into the reading of uploads, each of which the corpus must notice.

    python -m tests.hostile.planted

reads one case of every kind and exits with 1 if any answer is wrong; it is run in a copy of the
package that has one of BUGS in it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import chain
from pathlib import Path

from tests.hostile import archives, configs, headers, oddities
from tests.hostile.test_corpus import ROOT, SEED, read_all, wrong

FORMATS = "lora_studio/formats"
DEADLINE = 300.0
"""Seconds; without a bug the cases take ten. A reader that hangs is noticed by it."""
BUGS: list[tuple[str, str, str]] = [
    (f"{FORMATS}/header.py", "span[1] - span[0] != prod(shape) * _WIDTH[dtype]", "False"),
    (f"{FORMATS}/header.py", "or not all(type(n) is int for n in span)", ""),
    (f"{FORMATS}/header.py", "if info.start != position:", "if info.start < position:"),
    (f"{FORMATS}/header.py", "if info.start != position:", "if info.start > position:"),
    (f"{FORMATS}/header.py", "    if position != size:", "    if position > size:"),
    (f"{FORMATS}/header.py", "if len(found) != len(pairs):", "if not pairs:"),
    (f"{FORMATS}/header.py", "0 < n <= caps.dim for", "n <= caps.dim for"),
    (f"{FORMATS}/header.py", "0 < n <= caps.dim for", "0 < n for"),
    (f"{FORMATS}/header.py", "type(n) is int and 0 < n", "0 < n"),
    (f"{FORMATS}/header.py", "len(shape) > caps.dims", "len(shape) > 5000"),
    (f"{FORMATS}/header.py", "or not _NAME.fullmatch(name)", ""),
    (f"{FORMATS}/header.py", "len(name) > caps.name_bytes or", ""),
    (f"{FORMATS}/header.py", "if not isfinite(largest):", "if largest != largest:"),
    (f"{FORMATS}/header.py", "if largest > cap and", "if largest > 1e300 and"),
    (f"{FORMATS}/header.py", "if len(data) > caps.tensors:", "if len(data) > 1 << 30:"),
    (f"{FORMATS}/header.py", "if len(data) > caps.metadata_keys:", "if not len(data) > -1:"),
    (f"{FORMATS}/archive.py", 'or part[-1] == "."', ""),
    (f"{FORMATS}/archive.py", "or name.lower() in seen", ""),
    (f"{FORMATS}/archive.py", "if entry.flag_bits & 0x41:", "if False:"),
    (f"{FORMATS}/archive.py", "if kind not in (0, 0o100000, 0o040000):", "if False:"),
    (f"{FORMATS}/archive.py", "if start + entry.compress_size > end:", "if False:"),
    (f"{FORMATS}/archive.py", "written > ratio * max(entry.compress_size, 1)", "False"),
    (f"{FORMATS}/config.py", "if len(dict(pairs)) != len(pairs):", "if False:"),
    (f"{FORMATS}/config.py", "if not isfinite(value) or not 0 < value <= cap:", "if False:"),
    (f"{FORMATS}/config.py", "if _depth(data) > limits().config_depth:", "if False:"),
]
"""(file, what stands there, what it is replaced by)"""


def noticed(bug: tuple[str, str, str], folder: Path) -> bool:
    """Whether the corpus fails in a copy of the package with this bug."""
    file, old, new = bug
    for part in ("lora_studio", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "assets").symlink_to(ROOT / "assets")
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text, f"{file} no longer says {old!r}; plant the bug elsewhere"
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    command = [sys.executable, "-m", "tests.hostile.planted"]
    done = _run(command, folder)
    if done is None:
        return True
    assert done.returncode in (0, 1), done.stderr.decode()[-2000:]
    return done.returncode == 1


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[bytes] | None:
    """The command, ended with all it started once it is over; None where it took too long."""
    with subprocess.Popen(
        command, cwd=folder, env=_environment(folder), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            out, told = process.communicate(timeout=DEADLINE)
            return subprocess.CompletedProcess(command, process.returncode, out, told)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> int:
    every = chain(
        headers.cases(SEED, 3 * len(headers.DAMAGES)),
        archives.cases(SEED, 2 * len(archives.BUILDS)),
        configs.cases(SEED, 2 * (len(configs.IGNORED) + len(configs.REFUSED))),
        oddities.structures(SEED, len(oddities.CHANGES)),
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read_all(every, Path(folder))
        except AssertionError:
            return 1
    return int(any(wrong(case, answer) for case, answer in found))


if __name__ == "__main__":
    sys.exit(main())
