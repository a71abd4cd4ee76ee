"""The JSON routes by which people answer for adapters: (path, handler, method), see `routes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request

Handler = Callable[[Any, Request], Any]


def _me(studio: Any, request: Request) -> Any:
    return studio.who_am_i()


def _by_id(name: str) -> Handler:
    """A handler that calls the studio's `name` with the id of the path."""

    def handler(studio: Any, request: Request) -> Any:
        key = request.path_params["id"]
        return getattr(studio, name)(key) or {"id": key}

    return handler


def _with_field(name: str, field: str) -> Handler:
    """As `_by_id`, with one text of the body behind the id."""

    def handler(studio: Any, request: Request) -> Any:
        key, value = request.path_params["id"], str(request.state.body.get(field) or "")
        return getattr(studio, name)(key, value) or {"id": key}

    return handler


def _edit(studio: Any, request: Request) -> Any:
    return studio.edit_adapter(request.path_params["id"], request.state.body)


def _ban(studio: Any, request: Request) -> Any:
    body = request.state.body
    sub = str(body.get("id") or "")
    if body.get("banned", True):
        studio.ban_person(sub, str(body.get("reason") or ""))
    else:
        studio.unban_person(sub)
    return {"id": sub}


def _audit(studio: Any, request: Request) -> Any:
    limit = request.query_params.get("limit", "")
    return studio.list_audit(int(limit) if limit.isdecimal() and len(limit) < 6 else 100)


TABLE: list[tuple[str, Handler, str]] = [
    ("/api/me", _me, "GET"),
    ("/api/adapter/{id}/delete", _by_id("delete_adapter"), "POST"),
    ("/api/adapter/{id}/restore", _by_id("restore_adapter"), "POST"),
    ("/api/adapter/{id}/edit", _edit, "POST"),
    ("/api/adapter/{id}/show", _with_field("show_adapter", "visibility"), "POST"),
    ("/api/adapter/{id}/report", _with_field("report_adapter", "reason"), "POST"),
    ("/api/adapter/{id}/approve", _by_id("approve_adapter"), "POST"),
    ("/api/adapter/{id}/quarantine", _by_id("quarantine_adapter"), "POST"),
    ("/api/adapter/{id}/purge", _by_id("purge_adapter"), "POST"),
    ("/api/review", lambda studio, request: studio.list_for_review(), "GET"),
    ("/api/audit", _audit, "GET"),
    ("/api/ban", _ban, "POST"),
]
