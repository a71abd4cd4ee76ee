"""What is turned away before a handler sees it: other sites' pages, uploads that are too large or
too many, and files that are not ours to give."""

from __future__ import annotations

import logging

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lora_studio.hosting import Hosting
from lora_studio.studio import permissions
from lora_studio.web import origins
from lora_studio.web.identity import KEY

log = logging.getLogger(__name__)

API = "/gradio_api"
NOT_GIVEN = ("/file=", "/file/", "/proxy=")
ENVELOPE = 1024 * 1024  # bytes of names and boundaries around the files of an upload
MAX_EVENT = 8 * 1024 * 1024  # bytes of one event of the page


class Guard:
    """Checks where a change comes from, and how much of it there is.

    Args:
        max_upload: bytes of all files of one upload together.
    """

    def __init__(self, app: ASGIApp, hosting: Hosting, max_upload: int) -> None:
        self.app = app
        self._hosting = hosting
        self._max_upload = max_upload
        self._uploading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refused = self._refused(scope)
        try:
            await (refused or self._let_in)(scope, receive, send)
        except ClientDisconnect:  # nobody is left to be told, and the log is not theirs to fill
            log.debug("a request broke off: %s", scope["path"])

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._hosting.local or scope["method"] in origins.SAFE:
            await self.app(scope, receive, send)
        elif _is_upload(scope):
            self._uploading += 1
            try:
                capped = _capped(receive, self._max_upload + ENVELOPE)
                await self.app(scope, capped, send)
            finally:
                self._uploading -= 1
        else:
            await self.app(scope, _capped(receive, MAX_EVENT), send)

    def _refused(self, scope: Scope) -> Response | None:
        """The answer that ends a request here, or None for one that goes on."""
        path, actor = scope["path"], scope[KEY]
        if not self._hosting.local and _is_file(path):
            return _answer(scope, 404, "There is no such file.")
        if scope["method"] in origins.SAFE:
            return None
        said = origins.ours(scope, self._hosting.origins)
        if said is False:
            return _answer(scope, 403, "This comes from another site's page; use the studio's own.")
        if said is None and actor.sub:
            return _answer(scope, 403, "Programs must send an Origin header: this page's address.")
        return None if self._hosting.local else self._too_much(scope, actor)

    def _too_much(self, scope: Scope, actor: permissions.Actor) -> Response | None:
        upload = _is_upload(scope)
        cap = self._max_upload + ENVELOPE if upload else MAX_EVENT
        length = Headers(scope=scope).get("content-length", "0")
        if not length.isdecimal() or int(length) > cap:
            return _answer(scope, 413, f"At most {cap >> 20} MB are taken at once.")
        if not upload:
            return None
        if not permissions.may(actor, "upload"):
            return _answer(scope, 403, f"You may not upload. {permissions.refusal('upload')}")
        if self._uploading >= self._hosting.quota.uploads_at_once:
            return _answer(scope, 429, "Others are uploading. Try again in a minute.")
        return None


def _is_upload(scope: Scope) -> bool:
    return scope["path"].rstrip("/").endswith(f"{API}/upload")


def _is_file(path: str) -> bool:
    """Whether Gradio would serve this from a folder: what people uploaded lies there too."""
    return any(f"{API}{name}" in path or path.startswith(name) for name in NOT_GIVEN)


def _capped(receive: Receive, cap: int) -> Receive:
    """The same body, ended with status 413 once more than `cap` bytes have come."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > cap:
                raise HTTPException(413, f"At most {cap >> 20} MB are taken at once.")
        return message

    return counted


def _answer(scope: Scope, status: int, text: str) -> Response:
    """In the form that whoever asks can show: Gradio's upload shows the body as it is."""
    if _is_upload(scope):
        return PlainTextResponse(text, status)
    return JSONResponse({"error": text, "detail": text}, status)
