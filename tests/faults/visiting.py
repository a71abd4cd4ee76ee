"""Somebody who uses a running app over HTTP as the page does: looks, searches, uploads, runs."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

EVENT_SECONDS = 180.0


class Visitor:
    """One page of the app; `visit` opens it anew.

    Args:
        url: of the running app.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=EVENT_SECONDS)
        self._session = ""
        dependencies = self.get("/config")["dependencies"]
        self._numbers = {d["api_name"]: d["id"] for d in dependencies}
        self.visit()

    def close(self) -> None:
        self._client.close()

    def visit(self) -> None:
        """Opens the page as somebody new."""
        self._session = uuid.uuid4().hex
        self._client.get("/").raise_for_status()

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path; raises httpx.HTTPStatusError."""
        return self._client.get(path, params=query).raise_for_status().json()

    def post(self, path: str) -> Any:
        """What a button of the page posts."""
        answer = self._client.post(path, headers={"X-Lora-Studio": "1"}, json={})
        return answer.raise_for_status().json()

    def event(self, name: str, data: list[Any]) -> tuple[bool, Any]:
        """Runs a handler of the page through the queue: whether it ended well, and its output."""
        number, session = self._numbers[name], self._session
        body = {"fn_index": number, "data": data, "session_hash": session, "event_data": None}
        self._client.post("/gradio_api/queue/join", json=body).raise_for_status()
        last: dict[str, Any] = {}
        with self._client.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": session}
        ) as lines:
            for line in lines.iter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                # what a generator yields comes as differences, after the first
                if message.get("msg") in ("process_generating", "process_completed"):
                    last = message
        return bool(last.get("success")), last.get("output")

    def upload(self, path: Path, title: str, base: str) -> bool:
        """Puts a file into the upload form and presses its button; whether it was taken."""
        files = {"files": (path.name, path.read_bytes())}
        placed = self._client.post("/gradio_api/upload", files=files).raise_for_status().json()[0]
        file = {"path": placed, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
        asked = [{}, [file], title, "", "", base, "", "", False]
        ended, output = self.event("add_adapter", asked)
        return ended and output["data"][0].get("state") == "done"


def process_of(url: str) -> psutil.Process:
    """The process that listens at an address of this machine, a descendant of this one."""
    port = urlsplit(url).port
    for process in psutil.Process().children(recursive=True):
        lines = process.net_connections("tcp")
        if any(line.status == psutil.CONN_LISTEN and line.laddr.port == port for line in lines):
            return process
    raise LookupError(f"nothing of ours listens at {url}")
