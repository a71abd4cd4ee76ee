"""The routes by which recipes come and go: (path, handler, method), see `routes`; and how the page
sends a file that may carry one."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from lora_studio.errors import InvalidRequest
from lora_studio.settings import Settings
from lora_studio.web.people_routes import Handler
from lora_studio.web.session import session_from, session_from_recipe

Reader = Callable[[Request], AbstractAsyncContextManager[Any]]
LONGEST_NAME = 100


@asynccontextmanager
async def file_body(settings: Settings, request: Request) -> AsyncIterator[Path]:
    """The file that a page sent as it is, under its own name, for as long as it is answered.

    Raises:
        InvalidRequest: it is larger than an upload may be.
    """
    settings.uploads_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.uploads_dir) as folder:
        path, size = Path(folder) / _name(request.query_params.get("name", "")), 0
        with path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > settings.max_upload_bytes:
                    cap = settings.max_upload_bytes >> 20
                    raise InvalidRequest(f"At most {cap} MB are taken. Open its recipe.yaml.")
                await run_in_threadpool(file.write, chunk)
        yield path


def _name(given: str) -> str:
    """A file's name without its folder, of plain letters only."""
    name = given.replace("\\", "/").rpartition("/")[2]
    plain = "".join(c if c.isalnum() or c in "._- " else "_" for c in name)[-LONGEST_NAME:]
    return plain.lstrip(". ") or "file"


def opened(studio: Any, request: Request) -> Any:
    """The session that shows the recipe of the file that was sent."""
    found = studio.open_recipe(str(request.state.body)).result()
    return session_from(studio, found)


def _id(request: Request) -> str:
    return request.path_params["id"]


def _changes(studio: Any, request: Request) -> Any:
    query = request.query_params
    return studio.compare_recipes(query.get("before", "")[:64], query.get("after", "")[:64])


def _weights(studio: Any, request: Request) -> Any:
    return studio.check_module_weights(_id(request), request.state.body.get("weights"))


def _text(text: str, name: str) -> Response:
    said = {"Content-Disposition": f'attachment; filename="{name}"'}
    return PlainTextResponse(text, headers=said)


def _download_recipe(studio: Any, request: Request) -> Response:
    found = studio.get_recipe(_id(request))
    text = found.get("yaml") or yaml.safe_dump(found["recipe"], sort_keys=False)
    return _text(text, f"recipe-{found['id'][:12]}.yaml")


def _download_mergekit(studio: Any, request: Request) -> Response:
    key = _id(request)
    return _text(studio.export_mergekit(key), f"mergekit-{key[:12]}.yaml")


TABLE: list[tuple[str, Handler, str]] = [
    ("/api/recipe/{id}", lambda studio, request: studio.get_recipe(_id(request)), "GET"),
    ("/api/session/{id}", lambda studio, request: session_from_recipe(studio, _id(request)), "GET"),
    ("/api/exports/{id}", lambda studio, request: studio.list_exports(_id(request)), "GET"),
    ("/api/changes", _changes, "GET"),
    ("/api/adapter/{id}/weights", _weights, "POST"),
    ("/download/recipe/{id}.yaml", _download_recipe, "GET"),
    ("/download/mergekit/{id}.yaml", _download_mergekit, "GET"),
]
