"""How the site is served: routes, headers, a Space, and the endpoints programs call."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from lora_studio.settings import DEMO_BASE
from tests.web.conftest import ROOT, serving

ENDPOINTS = {"/search_adapters", "/plan_composition", "/compose_adapter", "/compare_outputs"}


@pytest.fixture(scope="module")
def client(url: str) -> Client:
    return Client(url, verbose=False)


def recipe(ids: list[str], method: str, **params: object) -> dict:
    return {
        "schema": 1,
        "base": {"repo": DEMO_BASE},
        "modality": "text",
        "sources": [{"id": i, "weight": 1.0, "enabled": True} for i in ids],
        "retrieval": None,
        "compose": {"method": method, "params": params, "seed": 0},
        "notes": "",
    }


def test_importing_the_entry_starts_nothing():
    code = "import app, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_every_answer_carries_the_security_headers(url: str):
    for path in ("/", "/studio/api/status", "/studio/assets/gallery.js", "/config"):
        headers = httpx.get(url + path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "default-src 'self'" in headers["content-security-policy"], path


@pytest.mark.parametrize(
    "path",
    [
        "/studio/assets/..%2f..%2fserver.py",
        "/studio/assets/theme.py",
        "/studio/files/map/..%2f..%2fgallery.db",
        "/studio/files/map/nothing.bin",
        "/studio/api/adapter/0000000000000000",
        "/studio/api/recipe/nothing",
        "/studio/download/adapter/nothing.zip",
    ],
)
def test_what_is_not_ours_to_give_is_not_found(url: str, path: str):
    answer = httpx.get(url + path)
    assert answer.status_code in (400, 404)
    assert "Traceback" not in answer.text


def test_deleting_needs_the_page_itself(url: str):
    hit = httpx.get(f"{url}/studio/api/search", params={"limit": 1}).json()["hits"][0]
    assert httpx.post(f"{url}/studio/api/adapter/{hit['id']}/delete").status_code == 400
    assert httpx.get(f"{url}/studio/api/adapter/{hit['id']}").status_code == 200


def test_programs_find_exactly_the_public_endpoints(client: Client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == ENDPOINTS


def test_a_program_can_search_plan_compose_and_compare(client: Client):
    found = client.predict("past tense", api_name="/search_adapters")
    ids = [hit["id"] for hit in found["hits"][:2]]
    wanted = recipe(ids, "cat")
    plan = client.predict(wanted, api_name="/plan_composition")
    assert len(plan["cosines"]) == 2
    made = client.predict(wanted, "By a program", api_name="/compose_adapter")
    assert made["adapter_id"]
    columns = [{"kind": "base"}, {"kind": "adapter", "id": made["adapter_id"]}]
    job = client.submit(
        ["Turn the sentence into past tense: The girl opens the door."],
        columns,
        api_name="/compare_outputs",
    )
    result = job.result(timeout=120)
    assert [cell["column"] for cell in result["cells"]] == [0, 1]
    assert all(cell["text"] for cell in result["cells"][1:])


def test_a_program_gets_the_reason_when_something_is_wrong(client: Client):
    with pytest.raises(AppError, match="There is no adapter '00000000'"):
        client.predict(recipe(["00000000"], "cat"), api_name="/plan_composition")


@pytest.mark.parametrize("zero", ["", "true"])
def test_a_space_serves_the_same_site(tmp_path: Path, zero: str):
    space = {"SPACE_ID": "someone/lora-studio", "SPACES_ZERO_GPU": zero}
    with serving(tmp_path / "data", **space) as url:
        assert httpx.get(url).status_code == 200
        assert httpx.get(f"{url}/studio/api/search").status_code == 200
        page = httpx.get(f"{url}/studio/assets/gallery.js")
        assert page.status_code == 200
        assert page.headers["x-content-type-options"] == "nosniff"
        assert set(Client(url, verbose=False).view_api(return_format="dict")["named_endpoints"])


def test_half_an_upload_lies_where_the_janitor_looks_and_is_no_news_to_the_log(tmp_path: Path):
    data = tmp_path / "data"
    with serving(data) as url:
        whole = httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.zip", b"x" * 1000)})
        path = Path(whole.json()[0])
        assert path.is_relative_to(data / "uploads")
        assert path.read_bytes() == b"x" * 1000
        abandon_upload(url, 3_000_000)
        uploads = path.parents[1]
        end = time.monotonic() + 20
        while time.monotonic() < end and not list(uploads.glob("tmp*")):
            time.sleep(0.1)
        half = list(uploads.glob("tmp*"))
        assert len(half) == 1, "Gradio leaves what it got of an upload that broke off"
        for private in ("gallery/gallery.sqlite", "gallery.lock", "gallery"):
            found = httpx.get(f"{url}/gradio_api/file={data / private}")
            assert found.status_code in (403, 404), private
    assert not half[0].exists(), "nothing of it outlives the process"
    told = (tmp_path / "data.log").read_text()
    assert "Traceback" not in told, "whoever hangs up writes into the log"


def abandon_upload(url: str, size: int) -> None:
    """Sends half of a file and hangs up."""
    host, port = url.removeprefix("http://").split(":")
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="h.zip"\r\n\r\n'
    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as line:
        line.sendall(head.encode() + body + b"x" * (size // 2))
        time.sleep(0.5)
