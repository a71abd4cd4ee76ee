"""A real worker child with one more task, which goes wrong in the way it is asked to."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

from lora_studio.errors import InvalidRequest
from lora_studio.worker import child
from lora_studio.worker.tasks import TASKS


def run(args, ctx):
    """Handler of the task "fault"."""
    ctx.progress(0.5, "about to misbehave")
    return globals()[args["do"]](args, ctx) or {"pid": os.getpid(), "did": args["do"]}


def nothing(args, ctx):
    ctx.emit({"answer": 42})


def hang(args, ctx):
    time.sleep(600)


def hold_the_interpreter(args, ctx):
    re.fullmatch("(a+)+b", "a" * 60)


def leave_a_grandchild(args, ctx):
    sleeper = subprocess.Popen(["sleep", "600"])
    ctx.emit({"grandchild": sleeper.pid})
    time.sleep(600)


def crash(args, ctx):
    ctypes.string_at(0)


def kill_itself(args, ctx):
    os.kill(os.getpid(), 9)


def leave(args, ctx):
    sys.exit(4)


def talk_nonsense(args, ctx):
    child.raw.write(b"\x00\x00\x00\x05hello")


def print_much(args, ctx):
    print("libraries print what they like" * 100)


def announce_a_gigabyte(args, ctx):
    child.raw.write((1 << 30).to_bytes(4, "big") + b"x" * 100)


def answer_for_another(args, ctx):
    child.raw.write(child.encode({"type": "done", "id": "someone else", "result": {}}))


def send_half_a_frame_and_die(args, ctx):
    child.raw.write(b"\x00\x00\x10\x00half")
    os._exit(0)


def return_too_much(args, ctx):
    return {"text": "x" * (9 << 20)}


def return_nan(args, ctx):
    return {"value": float("nan")}


def run_out_of_memory(args, ctx):
    raise MemoryError


def take_more_than_allowed(args, ctx):
    """Asks for 8 GB where the process may have 4."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, before[1]))
    try:
        bytearray(8 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def be_ended_by_the_kernel(args, ctx):
    """Takes and touches ever more memory in a group that has little."""
    Path(args["group"], "cgroup.procs").write_text(str(os.getpid()))
    kept = [b"x" * (16 << 20) for _ in range(1000)]
    ctx.emit({"kept": len(kept)})


def loop_for_ever(args, ctx):
    while True:
        pass


def wait_for_a_device(args, ctx):
    """As a call into a driver that does not come back: in C, deaf to signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    ctypes.CDLL(None).pause()


def answer_with_a_gigabyte(args, ctx):
    part = b" " * (1 << 20)
    child.raw.write((1 << 30).to_bytes(4, "big"))
    for _ in range(1 << 10):
        left = memoryview(part)
        while left:
            left = left[child.raw.write(left) :]


def refuse(args, ctx):
    raise InvalidRequest("k is 0; it must be at least 1.")


def fail(args, ctx):
    raise KeyError("secret detail")


def break_the_gpu(args, ctx):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def wait_for_cancel(args, ctx):
    while True:
        ctx.check()
        time.sleep(0.01)


def wait_for_file(args, ctx):
    while not Path(args["file"]).exists():
        time.sleep(0.01)


class Fragile(child.Child):
    """Can also die between taking a job and beginning it."""

    def __init__(self, scratch, reader, writer, once=False):
        super().__init__(scratch, reader, writer, once)
        child.raw = writer

    def _do(self, frame):
        deaths = frame["args"].get("deaths_before_start", 0)
        counter = self.scratch / "deaths"
        so_far = int(counter.read_text()) if counter.exists() else 0
        if so_far < deaths:
            counter.write_text(str(so_far + 1))
            os._exit(7)
        super()._do(frame)


if __name__ == "__main__":
    TASKS["fault"] = "faulty_child"
    child.Child = Fragile
    child.main(sys.argv[1:])
