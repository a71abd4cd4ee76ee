"""The app as people start it, and a real Chromium in front of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START = 90.0  # seconds the app may take to answer
WAIT = 60_000  # milliseconds; models load on first use

NewPage = Callable[..., Page]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def serving(data: Path, **environment: str) -> Iterator[str]:
    """Runs `python app.py` on a free port; yields its address."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LORA_STUDIO_", "SPACE"))}
    own = {"LORA_STUDIO_DATA": str(data), "LORA_STUDIO_PORT": str(port), "OMP_NUM_THREADS": "1"}
    with (data.parent / f"{data.name}.log").open("w") as log:
        app = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=ROOT,
            env={**kept, **own, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _await(url, app, Path(log.name))
            yield url
        finally:
            app.terminate()
            try:
                app.wait(20)
            except subprocess.TimeoutExpired:
                app.kill()
                app.wait()


def _await(url: str, app: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and app.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/studio/api/status", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the app did not start:\n{log.read_text()[-4000:]}")


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("studio") / "data") as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield started
        started.close()


@pytest.fixture
def console_errors() -> list[str]:
    """What the browser complained of; a test that provokes a complaint takes it out."""
    return []


@pytest.fixture
def new_page(browser: Browser, console_errors: list[str]) -> Iterator[NewPage]:
    """Opens a page on an address; at the end nothing may have been wrong or fetched from afar."""
    contexts: list[BrowserContext] = []
    errors = console_errors
    requests: list[str] = []

    def open_page(address: str, width: int = 1440, height: int = 900, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(address)
        page.wait_for_selector(".ls-gallery[data-ready]", state="attached")
        page.wait_for_function("document.querySelector('#ls-brand .ls-wordmark') !== null")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    home = ("http://127.0.0.1:", "data:", "blob:")
    assert [address for address in requests if not address.startswith(home)] == []


@pytest.fixture
def page(url: str, new_page: NewPage) -> Page:
    return new_page(url)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).first.click()


def search(page: Page, text: str, mode: str = "by meaning") -> None:
    """Types a search and waits for its hits; retries until the embedder is there."""
    box = page.locator(".ls-search-input")
    for _ in range(30):
        box.fill("")
        page.wait_for_function("!document.querySelector('.ls-count').textContent.includes('“')")
        box.fill(text)
        page.wait_for_function(
            "text => document.querySelector('.ls-count').textContent.includes(text)", arg=text
        )
        if mode in page.locator(".ls-count").inner_text():
            return
        page.wait_for_timeout(1000)
    pytest.fail(f"the search never went {mode}")
