"""The site as people are given it, over a worker whose children misbehave when they are asked to.

    python tests/faults/faulty_site.py DATA PORT

Beside the real routes there is /fault, which runs a job that goes wrong and a harmless one behind
it, and /hold, which does in the web process itself what the children are there for.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path

import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lora_studio.errors import LoraStudioError
from lora_studio.gallery import Gallery
from lora_studio.settings import Settings
from lora_studio.studio import Studio
from lora_studio.studio.demos import add_demo
from lora_studio.web.server import create_app
from lora_studio.worker.job import Job
from lora_studio.worker.local import LocalWorker

CHILD = (sys.executable, str(Path(__file__).with_name("faulty_child.py")))
PATIENCE = 60.0


def fault(studio: Studio, args: dict, deadline: float | None) -> dict:
    """{error, code, failed_after, next, next_after}: how the guilty job ended, the next one's
    answer, and how many seconds after their submission and after the failure that was."""
    start = time.monotonic()
    guilty = studio.worker.submit(Job("fault", args, "light", deadline))
    following = studio.worker.submit(Job("fault", {"do": "nothing"}, "light"))
    try:
        guilty.result(PATIENCE)
        error, code = "", ""
    except LoraStudioError as problem:
        error, code = str(problem), type(problem).__name__
    failed = time.monotonic()
    try:
        answer = following.result(PATIENCE)["did"]
    except LoraStudioError as problem:
        answer = str(problem)
    ended = time.monotonic()
    return {"error": error, "code": code, "failed_after": failed - start,
            "next": answer, "next_after": ended - failed}  # fmt: skip


def routes(studio: Studio) -> list[Route]:
    def run(request: Request) -> JSONResponse:
        query = request.query_params
        deadline = float(query["deadline"]) if "deadline" in query else None
        return JSONResponse(fault(studio, json.loads(query["args"]), deadline))

    def hold(request: Request) -> JSONResponse:
        # a call into C that keeps the interpreter's lock, as a regular expression does
        ctypes.PyDLL(None).usleep(int(float(request.query_params["seconds"]) * 1e6))
        return JSONResponse({})

    return [Route("/fault", run), Route("/hold", hold)]


def main(data: str, port: str) -> None:
    settings = Settings(data_dir=Path(data), port=int(port), device="cpu")
    gallery = Gallery.open(settings)
    add_demo(settings, gallery)
    with Studio(settings, gallery, LocalWorker(settings, command=CHILD)) as studio:
        app = create_app(studio, settings)
        app.router.routes[:0] = routes(studio)
        uvicorn.run(app, host=settings.host, port=settings.port, log_level="warning")


if __name__ == "__main__":
    main(*sys.argv[1:])
