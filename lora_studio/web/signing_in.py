"""Signing in with an OpenID provider, Hugging Face's on a Space.

An authorization code with PKCE; authlib checks the ID token. What is kept is the person's lasting
id and name, in a signed cookie.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from lora_studio.hosting import HUGGING_FACE
from lora_studio.settings import Settings
from lora_studio.web.identity import COOKIE, LONGEST, SESSION_SECONDS, session_secret

log = logging.getLogger(__name__)

_FAILED = "Signing in did not work. Go back to the page and try again."


def sessions(settings: Settings) -> list[Middleware]:
    """The middleware that reads and writes the session cookie, where the page signs people in.

    A Space is shown in a frame of another site, so its cookie must be SameSite=None; elsewhere it
    is Lax.
    """
    if not settings.hosting.signs_in:
        return []
    from starlette.middleware.sessions import SessionMiddleware

    framed = settings.hosting.mode == HUGGING_FACE
    return [
        Middleware(
            SessionMiddleware,
            secret_key=session_secret(settings),
            session_cookie=COOKIE,
            max_age=SESSION_SECONDS,
            same_site="none" if framed else "lax",
            https_only=framed or settings.hosting.url.startswith("https://"),
        )
    ]


def routes(settings: Settings) -> list[BaseRoute]:
    """/login, /login/callback and /logout, where the page signs people in."""
    if not settings.hosting.signs_in:
        return []
    client = _client(settings)
    callback = f"{settings.hosting.url}/login/callback"

    async def login(request: Request) -> Response:
        kept = {name: value for name, value in request.session.items() if name == "who"}
        request.session.clear()  # of earlier attempts, which would outgrow a cookie
        request.session.update(kept, query=request.url.query[:500])
        try:
            return await client.authorize_redirect(request, callback)
        except Exception:
            log.exception("the provider could not be asked to sign somebody in")
            return PlainTextResponse("The sign-in provider does not answer. Try again.", 502)

    async def returned(request: Request) -> Response:
        query = str(request.session.get("query", ""))
        try:
            token = await client.authorize_access_token(request)
            who = _who(token.get("userinfo") or {})
        except Exception:
            log.exception("somebody could not be signed in")
            request.session.clear()
            return PlainTextResponse(_FAILED, 400)
        request.session.clear()
        request.session["who"] = who
        return RedirectResponse(f"{settings.hosting.url}/{'?' if query else ''}{query}", 303)

    async def logout(request: Request) -> Response:
        request.session.clear()
        return JSONResponse({"signed_in": False})

    return [
        Route("/login", login),
        Route("/login/callback", returned),
        Route("/logout", logout, methods=["POST"]),
    ]


def _client(settings: Settings) -> Any:
    from authlib.integrations.starlette_client import OAuth

    hosting = settings.hosting
    return OAuth().register(
        name="provider",
        client_id=hosting.client_id,
        client_secret=hosting.client_secret,
        server_metadata_url=f"{hosting.issuer}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
    )


def _who(claims: dict[str, Any]) -> dict[str, Any]:
    sub = str(claims["sub"]).strip()
    if not sub or len(sub) > LONGEST:
        raise ValueError("the provider names nobody")
    name = str(claims.get("preferred_username") or claims.get("name") or sub)
    return {"sub": sub, "name": name[:LONGEST], "ends": time.time() + SESSION_SECONDS}
