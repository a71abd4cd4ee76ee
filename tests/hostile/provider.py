"""A small OpenID provider on this machine: discovery, tokens, keys."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

CLIENT, SECRET = "studio", "not-a-secret"


class Provider:
    """Answers as an OpenID provider; `claims` are what the next ID token says."""

    def __init__(self, port: int) -> None:
        from joserfc.jwk import RSAKey

        self.issuer = f"http://127.0.0.1:{port}"
        self.claims: dict[str, Any] = {}
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
        self.asked: dict[str, dict[str, str]] = {}  # code -> what the browser was sent with

    def authorize(self, address: str) -> dict[str, str]:
        """What a person's consent at `address` sends back: {code, state}."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        code = hashlib.sha256(address.encode()).hexdigest()[:16]
        self.asked[code] = asked
        return {"code": code, "state": asked["state"]}

    def app(self) -> Starlette:
        async def discovery(_: Request) -> JSONResponse:
            places = {"authorization": "auth", "token": "token"}
            ends = {f"{k}_endpoint": f"{self.issuer}/{v}" for k, v in places.items()}
            known: dict[str, Any] = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
            return JSONResponse(
                {**ends, **known, "id_token_signing_alg_values_supported": ["RS256"]}
            )

        async def keys(_: Request) -> JSONResponse:
            return JSONResponse({"keys": [self.key.as_dict(private=False)]})

        async def token(request: Request) -> JSONResponse:
            form = await request.form()
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            asked = self.asked.pop(str(form["code"]), None)
            challenge = hashlib.sha256(str(form.get("code_verifier", "")).encode()).digest()
            proof = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
            if (
                request.headers.get("authorization") != f"Basic {basic}"
                or asked is None
                or asked["code_challenge"] != proof
                or asked["redirect_uri"] != form["redirect_uri"]
            ):
                return JSONResponse({"error": "invalid_grant"}, 400)
            return JSONResponse(
                {"access_token": "x", "token_type": "Bearer", "id_token": self.signed(asked)}
            )

        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", discovery),
                Route("/keys", keys),
                Route("/token", token, methods=["POST"]),
            ]
        )

    def signed(self, asked: dict[str, str]) -> str:
        from joserfc import jwt

        now = int(time.time())
        said = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60}
        claims = {**said, "nonce": asked.get("nonce", ""), **self.claims}
        return jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)


@contextmanager
def provider() -> Iterator[Provider]:
    """A running provider."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Provider(port)
    server = uvicorn.Server(uvicorn.Config(made.app(), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield made
    server.should_exit = True
    thread.join(10)
