"""The JSON and file routes beside Gradio's own: browsing and searching never enter the queue.

Handlers take values from the query string, call one Studio method and answer JSON.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from lora_studio.errors import (
    InvalidRequest,
    LoraStudioError,
    NotAllowed,
    NotFound,
    StorageFull,
    TooMany,
)
from lora_studio.settings import assets_dir
from lora_studio.web import people_routes, recipe_routes
from lora_studio.web.identity import seat
from lora_studio.web.island import ISLANDS_DIR
from lora_studio.web.jobs import UNKNOWN_ERROR
from lora_studio.web.people_routes import Handler
from lora_studio.web.recipe_routes import Reader, file_body
from lora_studio.web.session import recipe_of

log = logging.getLogger(__name__)

MAP_NAME = re.compile(r"[A-Za-z0-9_-]{1,120}\.bin")
_ASSET_NAME = re.compile(r"[a-z_]+\.(js|css)")
_MAX_LIMIT = 200
_MAX_BODY = 256 * 1024
_FOREVER = "private, max-age=31536000, immutable"
_MINE = "private, no-cache"  # another person may not be given the same answer
_MEDIA = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

STATUS: dict[type[LoraStudioError], int] = {
    NotFound: 404,
    NotAllowed: 403,
    TooMany: 429,
    StorageFull: 507,
}


class MapFiles:
    """Point files the studio wrote, by the name the page may ask for; nothing else is served."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._paths: dict[str, Path] = {}

    def publish(self, path: str) -> str:
        """Lets the page fetch `path`, which must lie under the studio's folder; its name."""
        file = Path(path).resolve()
        if not MAP_NAME.fullmatch(file.name) or not file.is_relative_to(self._root):
            raise InvalidRequest("That is not a map of this studio.")
        self._paths[file.name] = file
        while len(self._paths) > 512:
            self._paths.pop(next(iter(self._paths)))
        return file.name

    def find(self, name: str) -> Path:
        """The published file called `name`."""
        file = self._paths.get(name)
        if file is None or not file.is_file():
            raise NotFound("That map is gone. Cluster again to draw it.")
        return file


def _whole(value: str | None, default: int, low: int, high: int) -> int:
    try:
        return min(max(int(value), low), high) if value else default
    except ValueError as error:
        raise InvalidRequest(f"'{value}' is not a whole number.") from error


def _search(studio: Any, request: Request) -> Any:
    query = request.query_params
    return studio.search_adapters(
        query.get("query", "")[:2000],
        base=query.get("base") or None,
        modality=query.get("modality") or None,
        tags=query.getlist("tags"),
        contributors=query.getlist("contributors"),
        licences=query.getlist("licences"),
        ranks=[_whole(rank, 0, 0, 1 << 20) for rank in query.getlist("ranks")],
        sort=query.get("sort") or "relevance",
        offset=_whole(query.get("offset"), 0, 0, 1 << 30),
        limit=_whole(query.get("limit"), 48, 1, _MAX_LIMIT),
    )


def _hint(studio: Any, request: Request) -> Any:
    query = request.query_params
    return studio.hint_for(query.get("prompt", "")[:4000], query.get("base") or "")


def _verdict(studio: Any, request: Request) -> Any:
    body = request.state.body
    session, default = body.get("session"), str(body.get("base") or "")[:500]
    recipe = recipe_of(session if isinstance(session, dict) else {}, default)
    return studio.peek_verdict(recipe, "all" if body.get("all") is True else "some")


def _leaderboard(studio: Any, request: Request) -> Any:
    return studio.get_leaderboard(request.query_params.get("modality", "text"))


def _votes(studio: Any, request: Request) -> Any:
    return studio.list_votes(request.query_params.get("base", "")[:500])


def _vote(studio: Any, request: Request) -> Any:
    return studio.record_votes(request.state.body)


@asynccontextmanager
async def _sent(request: Request) -> AsyncIterator[Any]:
    """The JSON object a page sent; {} without one."""
    yield await _body(request) if request.method == "POST" else {}


async def _body(request: Request) -> Any:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > _MAX_BODY:
        raise InvalidRequest("That is more than the studio takes at once.")
    raw = await request.body()
    try:
        data = json.loads(raw) if raw else {}
    except ValueError as error:
        raise InvalidRequest("That is not JSON.") from error
    if not isinstance(data, dict):
        raise InvalidRequest("Send a JSON object.")
    return data


def _ours_only(request: Request) -> None:
    """Another site's page cannot set this header without a preflight, which is never granted."""
    if request.headers.get("x-lora-studio") != "1":
        raise InvalidRequest("Use the buttons of the page to change the gallery.")


def _status_of(error: LoraStudioError) -> int:
    return STATUS.get(type(error), 400)


def _base(studio: Any, request: Request) -> Any:
    return studio.get_base_model(request.query_params.get("id", "")[:500])


def _thumbnail(studio: Any, request: Request) -> Response:
    return _picture(studio.thumbnail_path(request.path_params["id"]))


def _image(studio: Any, request: Request) -> Response:
    return _picture(studio.image_path(request.path_params["name"]))


def _picture(path: Path) -> Response:
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": _FOREVER})


def _zip(path: Any, name: str) -> Response:
    return FileResponse(path, media_type="application/zip", filename=name)


def _download_adapter(studio: Any, request: Request) -> Response:
    key = request.path_params["id"]
    dtype = request.query_params.get("dtype", "")
    path = studio.export_adapter(key, format="peft", dtype=dtype)
    return _zip(path, f"lora-{'-'.join(filter(None, (key[:12], dtype)))}.zip")


def _download_file(studio: Any, request: Request) -> Response:
    asked = request.path_params
    dtype = request.query_params.get("dtype", "")
    path = Path(studio.export_adapter(asked["id"], asked["format"], dtype))
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def _download_routed(studio: Any, request: Request) -> Response:
    found = studio.get_recipe(request.path_params["id"])
    return _zip(studio.export_routed(found["recipe"]), f"routed-{found['id'][:12]}.zip")


def _asset(_: Any, request: Request) -> Response:
    name = request.path_params["name"]
    if name == "logo.svg":
        return _file(assets_dir() / name)
    if name == "studio.css":
        sheets = [ISLANDS_DIR.parent / "theme.css", *sorted(ISLANDS_DIR.glob("*.css"))]
        text = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
        return Response(text, media_type="text/css", headers={"Cache-Control": "no-cache"})
    if not _ASSET_NAME.fullmatch(name) or not (ISLANDS_DIR / name).is_file():
        raise NotFound("There is no such file.")
    return _file(ISLANDS_DIR / name)


def _file(path: Path) -> Response:
    headers = {"Cache-Control": "no-cache"}
    return FileResponse(path, media_type=_MEDIA[path.suffix], headers=headers)


def routes(studio: Any, maps: MapFiles) -> list[BaseRoute]:
    """Every route of ours, ready for FastAPI(routes=...) or launch(app_kwargs=...)."""

    def route(
        path: str,
        handler: Handler,
        method: str = "GET",
        prefix: str = "/studio",
        body: Reader = _sent,
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                if method == "POST":
                    _ours_only(request)
                async with body(request) as request.state.body:
                    answer = await run_in_threadpool(handler, seat(studio, request), request)
            except LoraStudioError as error:
                return JSONResponse({"error": str(error)}, _status_of(error))
            except Exception:
                log.exception("unforeseen error at %s", request.url.path)
                return JSONResponse({"error": UNKNOWN_ERROR}, 500)
            answer = answer if isinstance(answer, Response) else JSONResponse(answer)
            answer.headers.setdefault("Cache-Control", _MINE)
            return answer

        return Route(f"{prefix}{path}", endpoint, methods=[method])

    def map_file(_: Any, request: Request) -> Response:
        path = maps.find(request.path_params["name"])
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    return [
        route("/api/status", lambda s, r: s.get_status()),
        route("/api/bases", lambda s, r: s.list_base_models()),
        route("/api/base", _base),
        route("/api/methods", lambda s, r: s.list_methods()),
        route("/api/search", _search),
        route("/api/votes", _votes),
        route("/api/votes", _vote, "POST"),
        route("/api/hint", _hint),
        route("/api/verdict", _verdict, "POST"),
        route("/api/leaderboard", _leaderboard),
        route("/api/adapter/{id}", lambda s, r: s.get_adapter(r.path_params["id"])),
        *(route(*row) for row in (*people_routes.TABLE, *recipe_routes.TABLE)),
        route("/api/open", recipe_routes.opened, "POST", body=partial(file_body, studio.settings)),
        route("/download/adapter/{id}.zip", _download_adapter),
        route("/download/adapter/{id}/{format}.safetensors", _download_file),
        route("/download/routed/{id}.zip", _download_routed),
        route("/files/map/{name}", map_file),
        route("/assets/{name}", _asset),
        route("/thumbnail/{id}", _thumbnail, prefix="/ls"),
        route("/image/{name}", _image, prefix="/ls"),
    ]
