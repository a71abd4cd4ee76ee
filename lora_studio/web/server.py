"""Serving: routes and middleware defined once, then either mounted on FastAPI with Gradio beside
them, or handed to Blocks.launch where the host insists on it (ZeroGPU)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lora_studio import heaps
from lora_studio.errors import LoraStudioError
from lora_studio.settings import Settings, assets_dir
from lora_studio.web import signing_in, theme
from lora_studio.web.app import build
from lora_studio.web.guard import Guard
from lora_studio.web.identity import Identify, check
from lora_studio.web.jobs import Jobs
from lora_studio.web.leftovers import Leftovers
from lora_studio.web.routes import MapFiles, routes

log = logging.getLogger(__name__)

SESSIONS = 200
"""Open pages whose state is kept, each of about 185 KB. Gradio keeps 10,000 unless told, also of
pages long closed; a page that is forgotten goes on with the choices it began with."""

_FRAMES = "'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
_POLICY = "; ".join(
    [
        "default-src 'self'",
        # Gradio's components compile their templates at run time.
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        f"frame-ancestors {_FRAMES}",
    ]
)
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Content-Security-Policy": _POLICY,
}


class SecurityHeaders:
    """Adds SECURITY_HEADERS to every answer; streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _middleware(settings: Settings) -> list[Middleware]:
    """Outermost first. With a CORSMiddleware on the parent Gradio grants other origins nothing."""
    hosting = settings.hosting
    return [
        Middleware(SecurityHeaders),
        Middleware(
            CORSMiddleware,
            allow_origins=hosting.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "X-Lora-Studio"],
            allow_credentials=bool(hosting.origins),
        ),
        *signing_in.sessions(settings),
        Middleware(Identify, hosting=hosting),
        Middleware(Guard, hosting=hosting, max_upload=settings.max_upload_bytes),
    ]


def _page(studio: Any, settings: Settings) -> tuple[gr.Blocks, dict[str, Any], dict[str, Any]]:
    """The Blocks, what FastAPI is built with, and what Gradio is given in either way of serving."""
    check(settings)
    # Gradio's uploads arrive beside the gallery, where the janitor finds those it forgets.
    settings.uploads_dir.mkdir(parents=True, exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(settings.uploads_dir)
    maps, jobs = MapFiles(settings.data_dir), Jobs()
    blocks = build(studio, settings, jobs, maps)
    blocks.state_session_capacity = SESSIONS
    blocks.queue(max_size=64, api_open=False, default_concurrency_limit=16)
    fastapi = {
        "routes": [*signing_in.routes(settings), *routes(studio, maps)],
        "middleware": [*_middleware(settings), Middleware(Leftovers, blocks=blocks)],
    }
    look: dict[str, Any] = {
        "theme": theme.build(),
        "head": theme.HEAD,
        "favicon_path": str(assets_dir() / "logo.svg"),
        "footer_links": ["api"],
        "run_history": False,
        "show_error": False,
        "max_file_size": settings.max_upload_bytes,
        "allowed_paths": [],
        "blocked_paths": _ours(settings),
        "enable_monitoring": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
    }
    return blocks, fastapi, look


def _ours(settings: Settings) -> list[str]:
    """All of the data folder but the uploads, which Gradio hands to their handlers by path."""
    known = {"gallery", "gallery.lock", "scratch", *(p.name for p in settings.data_dir.iterdir())}
    return [str(settings.data_dir / name) for name in sorted(known - {"uploads"})]


def create_app(studio: Any, settings: Settings) -> FastAPI:
    """The whole site as one ASGI application."""
    blocks, fastapi, look = _page(studio, settings)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, **fastapi)
    return gr.mount_gradio_app(
        app, blocks, path="/", server_name=settings.host, server_port=settings.port, **look
    )


def launch(studio: Any, settings: Settings) -> None:
    """The same site through Blocks.launch, which ZeroGPU patches and therefore needs."""
    blocks, fastapi, look = _page(studio, settings)
    blocks.launch(
        server_name=settings.host,
        server_port=settings.port,
        app_kwargs=fastapi,
        strict_cors=True,
        quiet=True,
        state_session_capacity=SESSIONS,
        **look,
    )


def serve(settings: Settings | None = None) -> None:
    """Opens the studio and serves its page until interrupted; says at once where it will be."""
    import uvicorn

    from lora_studio.studio import Studio

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    heaps.share_arenas()
    settings = settings or Settings.from_env()
    try:
        check(settings)
    except LoraStudioError as error:
        raise SystemExit(str(error)) from error
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn passes it on when it is done
    shown = "localhost" if settings.host in ("0.0.0.0", "127.0.0.1") else settings.host
    log.info("LoRA Studio: http://%s:%d", shown, settings.port)
    studio = Studio.open(settings)
    try:
        if os.environ.get("SPACES_ZERO_GPU"):
            launch(studio, settings)
        else:
            app = create_app(studio, settings)
            uvicorn.run(
                app,
                host=settings.host,
                port=settings.port,
                log_level="warning",
                proxy_headers=False,  # whom to believe is decided in `identity`
                timeout_graceful_shutdown=2,  # open pages hold a stream; do not wait for them
            )
    finally:
        studio.close()
