"""Who sends a request: decided once, before anything else looks at it, and never from its body.

Behind a proxy the header counts only from the proxy's own address; a session cookie counts only
where it was signed here, and neither counts for what another site's page asks.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from lora_studio.errors import LoraStudioError
from lora_studio.hosting import HEADER, HUGGING_FACE, LOCAL, OIDC, VISITORS, Hosting
from lora_studio.settings import Settings
from lora_studio.studio.permissions import LOCAL as ONE_PERSON
from lora_studio.studio.permissions import Actor
from lora_studio.web import origins

log = logging.getLogger(__name__)

KEY = "lora_studio.actor"
COOKIE = "lora_studio_session"
SESSION_SECONDS = 12 * 3600
LONGEST = 200
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LIBRARIES = ("authlib", "itsdangerous")


class Identify:
    """Puts the Actor of every request into its scope."""

    def __init__(self, app: ASGIApp, hosting: Hosting) -> None:
        self.app = app
        self._hosting = hosting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope[KEY] = self._who(scope)
        await self.app(scope, receive, send)

    def _who(self, scope: Scope) -> Actor:
        hosting = self._hosting
        if hosting.local:
            return ONE_PERSON
        address = origins.address(scope, hosting.proxies)
        if origins.foreign_read(scope, hosting.origins):
            return Actor(address=address)
        if hosting.header:
            sub = self._named(scope)
            name = sub
        else:
            sub, name = _of_session(scope.get("session") or {})
        return Actor(sub, name, bool(sub) and sub in hosting.moderators, address=address)

    def _named(self, scope: Scope) -> str:
        """Whom the proxy names; "" where the header is not the proxy's, or is there twice."""
        given = Headers(scope=scope).getlist(self._hosting.header)
        if not given:
            return ""
        if not origins.trusted(origins.peer(scope), self._hosting.proxies):
            log.warning("%s from %s is not believed", self._hosting.header, origins.peer(scope))
            return ""
        sub = given[0].strip()
        return sub if len(given) == 1 and sub.isprintable() and len(sub) <= LONGEST else ""


def _of_session(session: Mapping[str, Any]) -> tuple[str, str]:
    """(sub, name) of a session that has not ended."""
    who = session.get("who")
    if not isinstance(who, Mapping) or float(who.get("ends", 0)) <= time.time():
        return "", ""
    return str(who.get("sub", ""))[:LONGEST], str(who.get("name", ""))[:LONGEST]


def actor_of(request: gr.Request | HTTPConnection | None) -> Actor | None:
    """Who sent a request, of a route or of a Gradio event; None where no middleware has seen it."""
    inner = request.request if isinstance(request, gr.Request) else request
    return inner.scope.get(KEY) if inner is not None else None


class Seat:
    """The studio as one person uses it: every method is told who asks."""

    def __init__(self, studio: Any, actor: Actor | None) -> None:
        self._studio = studio
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(getattr(self._studio, name), actor=self._actor)


def seat(studio: Any, request: gr.Request | HTTPConnection | None) -> Any:
    """The studio for whoever sent `request`."""
    return Seat(studio, actor_of(request))


def check(settings: Settings) -> None:
    """Refuses to start a site whose way of telling people apart cannot be relied on.

    Raises:
        LoraStudioError: what is missing, and what to set.
    """
    hosting = settings.hosting
    if hosting.mode not in (LOCAL, VISITORS, HUGGING_FACE, OIDC, HEADER):
        raise LoraStudioError(
            f"LORA_STUDIO_AUTH is '{hosting.auth}'; it must be local, visitors, huggingface, oidc "
            "or header:NAME."
        )
    if hosting.mode == HEADER:
        _check_header(settings)
    elif hosting.signs_in:
        _check_provider(settings)
    elif hosting.local and (settings.space_id or settings.host not in ("127.0.0.1", "::1")):
        log.warning(
            "LORA_STUDIO_AUTH=local: whoever reaches this address owns the whole gallery. "
            "For several people set it to oidc or header:NAME."
        )


def _check_header(settings: Settings) -> None:
    if settings.space_id:
        raise LoraStudioError("On a Space no proxy of yours signs people in. Use huggingface.")
    if not _TOKEN.fullmatch(settings.hosting.header):
        raise LoraStudioError(
            "Name the header your proxy sets: LORA_STUDIO_AUTH=header:X-Forwarded-User."
        )
    for network in settings.hosting.proxies:
        try:
            ip_network(network, strict=False)
        except ValueError as error:
            raise LoraStudioError(f"LORA_STUDIO_PROXIES: {error}.") from error


def _check_provider(settings: Settings) -> None:
    hosting = settings.hosting
    if hosting.mode == HUGGING_FACE and not settings.space_id:
        raise LoraStudioError(
            "LORA_STUDIO_AUTH=huggingface works on a Space only, where Hugging Face signs people "
            "in. Elsewhere use oidc with your own client, or header:NAME behind a proxy."
        )
    where = {
        HUGGING_FACE: "`hf_oauth: true` in the README's front matter sets them",
        OIDC: "set LORA_STUDIO_OIDC_ISSUER, LORA_STUDIO_OIDC_CLIENT_ID, "
        "LORA_STUDIO_OIDC_CLIENT_SECRET and LORA_STUDIO_URL",
    }[hosting.mode]
    given = (hosting.issuer, hosting.client_id, hosting.client_secret, hosting.url)
    if not all(given):
        raise LoraStudioError(
            f"Signing people in needs a provider, its client id and secret, and the address of "
            f"this page; {where}."
        )
    missing = [name for name in _LIBRARIES if find_spec(name) is None]
    if missing:
        raise LoraStudioError(
            f"Signing people in needs {' and '.join(missing)}: pip install {' '.join(_LIBRARIES)}"
        )


def session_secret(settings: Settings) -> str:
    """What session cookies are signed with: a Space's own client secret, which outlives its disk;
    elsewhere 256 random bits, written once to a file only we may read."""
    if settings.hosting.mode == HUGGING_FACE:
        text = f"lora-studio session {settings.hosting.client_secret}"
        return hashlib.sha256(text.encode()).hexdigest()
    return _kept_secret(settings.data_dir / "session.secret")


def _kept_secret(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        path.chmod(0o600)
        secret = path.read_text(encoding="ascii").strip()
        if len(secret) < 64:
            raise LoraStudioError(f"{path} is damaged. Delete it; people sign in again.") from None
        return secret
    with os.fdopen(handle, "w") as file:
        file.write(secret := secrets.token_hex(32))
    return secret
