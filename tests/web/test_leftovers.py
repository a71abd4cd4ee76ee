"""A page that is used for long holds no more components than it began with."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.middleware import Middleware

from lora_studio.web.leftovers import Leftovers, drop
from tests.web.conftest import free_port

EVENTS = 6


def page() -> gr.Blocks:
    """An event that skips two outputs and then sets them, as uploads and comparisons do."""

    def steps(text: str) -> Iterator[tuple[Any, ...]]:
        yield "running", gr.skip(), gr.skip()
        yield "done", text, text.upper()

    with gr.Blocks() as blocks:
        given, said, one, two = (gr.Textbox() for _ in range(4))
        given.submit(steps, given, [said, one, two])
    return blocks.queue()


def use(url: str, session: str = "one") -> list[Any]:
    body = {"fn_index": 0, "data": ["text"], "session_hash": session}
    httpx.post(f"{url}/gradio_api/queue/join", json=body).raise_for_status()
    query, last = {"session_hash": session}, {}
    with httpx.stream("GET", f"{url}/gradio_api/queue/data", params=query, timeout=60) as lines:
        for line in lines.iter_lines():
            told = json.loads(line[6:]) if line.startswith("data: ") else {}
            last = told if told.get("msg") == "process_completed" else last
    return [last["success"], *last["output"]["data"]]


@pytest.mark.parametrize("dropped", [True, False])
def test_what_an_event_skipped_leaves_nothing_behind(dropped: bool):
    blocks, port = page(), free_port()
    middleware = [Middleware(Leftovers, blocks=blocks)] if dropped else []
    app = gr.mount_gradio_app(FastAPI(middleware=middleware), blocks, path="/")
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        answers = [use(f"http://127.0.0.1:{port}") for _ in range(EVENTS)]
        (session,) = blocks.state_holder.session_data.values()
        left = len(session.blocks_config.blocks) - len(blocks.blocks)
        assert left == (2 if dropped else 2 * EVENTS), "those of the last event wait for the next"
        assert answers == [answers[0]] * EVENTS
        assert answers[0][0] is True
        assert drop(blocks) == 2 * 2 if dropped else drop(blocks) > 0
        assert use(f"http://127.0.0.1:{port}") == answers[0]
    finally:
        server.should_exit = True
        thread.join(20)
