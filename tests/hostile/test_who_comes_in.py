"""How a studio is set up for people: what keeps it shut, local studios, quotas, base models."""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_studio.errors import InvalidAdapter, LoraStudioError, NotAllowed, TooMany
from lora_studio.formats import save_adapter
from lora_studio.hosting import HUGGING_FACE, LOCAL, OIDC, VISITORS, Hosting, Quota
from lora_studio.settings import DEMO_BASE, Settings
from lora_studio.studio import permissions
from lora_studio.studio.bases import Bases
from lora_studio.studio.permissions import Actor
from lora_studio.studio.quotas import Quotas, Window
from lora_studio.web import identity, origins
from lora_studio.web.identity import check
from tests.conftest import build_adapter
from tests.hostile.site import HEADER, HOSTED, OURS, headers, recipe_of, site

COMPLETE = {"issuer": "https://id.example", "client_id": "a", "client_secret": "b"}


@pytest.mark.parametrize(
    ("auth", "space", "more", "said"),
    [
        ("gradio", "", {}, "it must be local"),
        (HUGGING_FACE, "", COMPLETE | {"url": "https://x"}, "works on a Space only"),
        (HUGGING_FACE, "a/b", {}, "hf_oauth: true"),
        (HUGGING_FACE, "a/b", COMPLETE, "hf_oauth: true"),
        (OIDC, "", {}, "LORA_STUDIO_OIDC_CLIENT_SECRET"),
        (OIDC, "", COMPLETE, "LORA_STUDIO_URL"),
        (OIDC, "", COMPLETE | {"url": "https://x", "client_secret": ""}, "LORA_STUDIO_OIDC"),
        ("header:", "", {}, "Name the header"),
        ("header:X User", "", {}, "Name the header"),
        ("header:X-User", "a/b", {}, "On a Space"),
    ],
)
def test_a_site_that_could_not_tell_people_apart_does_not_start(
    tmp_path: Path, auth: str, space: str, more: dict[str, str], said: str
):
    hosting = Hosting(auth=auth, **more)
    with pytest.raises(LoraStudioError, match=said):
        check(Settings(data_dir=tmp_path, space_id=space, hosting=hosting))


def test_signing_in_without_its_libraries_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(identity, "find_spec", lambda name: None)
    hosting = Hosting(auth=OIDC, url="https://x", **COMPLETE)
    with pytest.raises(LoraStudioError, match="pip install authlib itsdangerous"):
        check(Settings(data_dir=tmp_path, hosting=hosting))


@pytest.mark.parametrize(
    ("given", "auth"),
    [
        ({}, LOCAL),
        ({"SPACE_ID": "a/b"}, VISITORS),
        ({"SPACE_ID": "a/b", "OAUTH_CLIENT_ID": "x"}, HUGGING_FACE),
        ({"LORA_STUDIO_AUTH": "header:X-User"}, "header:X-User"),
    ],
)
def test_the_environment_says_who_comes_in(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], auth: str
):
    for name in ("SPACE_ID", "OAUTH_CLIENT_ID", "LORA_STUDIO_AUTH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LORA_STUDIO_MODERATORS", "mia, noa")
    monkeypatch.setenv("LORA_STUDIO_QUOTA_UPLOADS_PER_DAY", "3")
    monkeypatch.setenv("LORA_STUDIO_OIDC_CLIENT_SECRET", "hush")
    found = Hosting.from_env()
    assert found.auth == auth
    assert found.moderators == ("mia", "noa")
    assert found.quota == replace(Quota(), uploads_per_day=3)
    assert "hush" not in repr(found)


def test_in_a_local_studio_one_person_owns_everything(tmp_path: Path):
    with site(tmp_path, Hosting()) as built:
        me = built.client.get("/studio/api/me").json()
        assert (me["mode"], me["moderator"]) == ("local", True)
        hits = built.client.get("/studio/api/search").json()["hits"]
        assert {hit["id"] for hit in hits} == set(built.ids.values())
        for name in ("private", "another's"):
            key = built.ids[name]
            assert built.client.get(f"/studio/api/adapter/{key}").status_code == 200
            own = {"X-Lora-Studio": "1"}  # a program, which names no origin
            gone = built.client.post(f"/studio/api/adapter/{key}/delete", headers=own)
            assert gone.status_code == 200
            evil = {**own, "Origin": "https://evil.example"}
            back = f"/studio/api/adapter/{key}/restore"
            assert built.client.post(back, headers=evil).status_code == 403
            assert built.client.post(back, headers=own).status_code == 200
        assert 'id="ls-person"' not in built.client.get("/").text


def test_nobody_named_is_a_visitor_wherever_people_are_told_apart(tmp_path: Path):
    with site(tmp_path) as built:
        for stranger in (None, permissions.LOCAL):  # nor does a forged local person get further
            with pytest.raises(NotAllowed):
                built.studio.delete_adapter(built.ids["her public"], actor=stranger)


def test_the_matrix_would_notice_a_missing_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with site(tmp_path) as built:
        path = f"/studio/api/adapter/{built.ids['private']}"
        assert built.client.get(path, headers=headers("bob")).status_code == 404
        monkeypatch.setattr(permissions, "sees", lambda actor, entry: True)
        assert built.client.get(path, headers=headers("bob")).status_code == 200
        gone = f"{path}/delete"
        assert built.client.post(gone, headers=headers("bob"), json={}).status_code == 403
        monkeypatch.setattr(permissions, "may", lambda actor, action, entry=None: True)
        assert built.client.post(gone, headers=headers("bob"), json={}).status_code == 200


def hosted(tmp_path: Path, **limits: int) -> Any:
    return site(tmp_path, replace(HOSTED, quota=Quota(**limits)))


def test_searches_are_counted_per_person_and_answered_429(tmp_path: Path):
    with hosted(tmp_path, searches_per_minute=5) as built:
        search = "/studio/api/search"
        for who in ("bob", "carol"):
            seen = [built.client.get(search, headers=headers(who)) for _ in range(7)]
            assert [answer.status_code for answer in seen] == [200] * 5 + [429] * 2
        assert "Try again in" in seen[-1].json()["error"]


def test_visitors_run_a_few_things_a_day_and_people_do_not_count(tmp_path: Path):
    with hosted(tmp_path, visitor_generations_per_day=2) as built:
        recipe = recipe_of(built.ids["her public"], built.ids["beside"])
        for address in ("198.51.100.1", "198.51.100.2"):
            visitor = Actor(address=address)
            for _ in range(2):
                built.studio.compose_adapter(recipe, actor=visitor)
            with pytest.raises(TooMany, match="sign in"):
                built.studio.compose_adapter(recipe, actor=visitor)
        for _ in range(5):
            built.studio.compose_adapter(recipe, actor=Actor("bob"))


def test_what_a_visitor_composes_is_found_by_its_id_only(tmp_path: Path):
    with site(tmp_path) as built:
        recipe = recipe_of(built.ids["her public"], built.ids["beside"])
        made = built.studio.compose_adapter(recipe, actor=Actor(address="x")).result()
        assert built.studio.get_adapter(made["adapter_id"], actor=Actor("bob"))
        found = built.studio.search_adapters(actor=Actor("bob"))["hits"]
        assert made["adapter_id"] not in {hit["id"] for hit in found}
        mine = recipe_of(built.ids["private"], built.ids["beside"])
        secret = built.studio.compose_adapter(mine, actor=Actor("alice")).result()
        assert secret["entry"]["visibility"] == "private"


def test_jobs_of_one_person_have_an_end():
    quotas, bob = Quotas(Quota(jobs_per_person=2)), Actor("bob")
    with quotas.job(bob), quotas.job(bob), quotas.job(Actor("carol")):
        with pytest.raises(TooMany, match="2 of your jobs"):
            quotas.job(bob).__enter__()
        for _ in range(3):
            quotas.job(permissions.LOCAL).__enter__()
    with quotas.job(bob), quotas.job(bob):
        pass


def test_a_window_is_exact_however_many_ask_at_once(monkeypatch: pytest.MonkeyPatch):
    window, taken = Window(50, 60.0), []

    def ask() -> None:
        for _ in range(20):
            try:
                window.take("bob", "Enough.")
                taken.append(1)
            except TooMany:
                pass

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 50
    later = time.monotonic() + 61
    monkeypatch.setattr(time, "monotonic", lambda: later)
    window.take("bob", "Enough.")


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_is_capped_as_a_whole_also_where_no_length_is_told(
    tmp_path: Path, declared: bool
):
    from lora_studio.web import guard

    with site(tmp_path) as built:
        cap = guard.MAX_EVENT
        body = b"x" * (cap + 1)
        sent: Any = body if declared else iter([body[: cap // 2], body[cap // 2 :]])
        path = "/gradio_api/queue/join"
        kind = {"Content-Type": "application/json"}
        answer = built.client.post(path, headers={**headers("bob"), **kind}, content=sent)
        assert answer.status_code == 413


def test_three_files_are_not_three_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from lora_studio.web import guard

    monkeypatch.setattr(guard, "ENVELOPE", 2000)
    settings = Settings(data_dir=tmp_path, hosting=HOSTED, max_upload_bytes=10_000)
    files = [("files", (f"{i}.safetensors", b"x" * 9_000)) for i in range(3)]
    with small(settings) as client:
        answer = client.post("/gradio_api/upload", headers=headers("bob"), files=files)
        assert answer.status_code == 413
        answer = client.post("/gradio_api/upload", headers=headers("bob"), files=files[:1])
        assert answer.status_code == 200


def test_only_so_many_upload_at_once(tmp_path: Path):
    limits = Quota(uploads_at_once=0)
    settings = Settings(data_dir=tmp_path, hosting=replace(HOSTED, quota=limits))
    with small(settings) as client:
        files = {"files": ("x.safetensors", b"x")}
        answer = client.post("/gradio_api/upload", headers=headers("bob"), files=files)
        assert (answer.status_code, answer.text) == (
            429,
            "Others are uploading. Try again in a minute.",
        )


def small(settings: Settings) -> Any:
    """A client of only the guard, over a site that takes whatever passes it."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from lora_studio.web.server import _middleware

    async def take(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    routes = [Route("/gradio_api/upload", take, methods=["POST"])]
    app = Starlette(routes=routes, middleware=_middleware(settings))
    return TestClient(app, client=("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://studio.example", "studio.example", True),
        ("https://studio.example", "studio.example", True),
        ("https://studio.example:443", "studio.example", True),
        ("http://studio.example:7860", "studio.example:7860", True),
        ("http://studio.example:7860", "studio.example", False),
        ("http://studio.example.evil", "studio.example", False),
        ("http://evil/studio.example", "studio.example", False),
        ("http://studio.example@evil", "studio.example", False),
        ("http://[::1", "studio.example", False),
        ("file://studio.example", "studio.example", False),
        ("null", "null", False),
        ("", "", False),
        ("https://friend.example", "studio.example", True),
    ],
)
def test_an_origin_is_ours_only_as_a_whole(origin: str, host: str, expected: bool):
    sent = [(b"host", host.encode()), (b"origin", origin.encode())]
    scope = {"type": "http", "method": "POST", "headers": sent}
    assert origins.ours(scope, ("https://friend.example",)) is expected


def test_addresses_are_believed_from_proxies_only():
    networks = ("127.0.0.0/8", "10.0.0.0/8")

    def seen(peer: str, forwarded: str) -> str:
        sent = [(b"x-forwarded-for", forwarded.encode())]
        return origins.address({"type": "http", "headers": sent, "client": (peer, 1)}, networks)

    assert seen("127.0.0.1", "203.0.113.5") == "203.0.113.5"
    assert seen("127.0.0.1", "1.1.1.1, 203.0.113.5, 10.0.0.9") == "203.0.113.5"
    assert seen("203.0.113.9", "127.0.0.1") == "203.0.113.9"
    assert seen("127.0.0.1", "") == "127.0.0.1"


ADDRESSES = [
    f"{scheme}://{host}{path}"
    for scheme in ("http", "https", "ftp", "file", "gopher")
    for host, path in [
        ("127.0.0.1:1", "/"),
        ("2130706433", "/"),
        ("0x7f000001", "/"),
        ("017700000001", "/model"),
        ("[::1]", "/"),
        ("[::ffff:127.0.0.1]", "/"),
        ("169.254.169.254", "/latest/meta-data"),
        ("huggingface.co@127.0.0.1", "/x"),
        ("localhost", "/../../etc/passwd"),
        ("127.1", ""),
    ]
] + [
    "//127.0.0.1/x",
    "127.0.0.1/x",
    "localhost:1/x",
    "/etc",
    "../../etc",
    "~/.ssh",
    "\\\\127.0.0.1\\share",
    "hf://127.0.0.1/x",
    "s3://bucket/x",
    "metadata.google.internal/computeMetadata",
]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hosts that anything in this process looks up or connects to; nothing gets through."""
    asked: list[str] = []

    def refuse(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(host.decode() if isinstance(host, bytes) else str(host))
        raise OSError("no network here")

    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the Hub's client tries again
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", lambda self, address: refuse(address[0]))
    return asked


def test_an_address_that_is_asked_is_seen(connections: list[str]):
    """The control of the test below."""
    with pytest.raises(OSError, match="no network"):
        urllib.request.urlopen("http://127.0.0.1:1/")
    assert connections == ["127.0.0.1"]


@pytest.mark.parametrize("name", ADDRESSES)
def test_no_name_of_a_base_model_reaches_an_address_of_its_choosing(
    tmp_path: Path, connections: list[str], name: str
):
    class NoGallery:
        def search(self, **_: Any) -> Any:
            from lora_studio.gallery import SearchResult

            return SearchResult("all")

    gallery: Any = NoGallery()
    local = Bases(Settings(data_dir=tmp_path), gallery)
    local.fetch(name)
    local.describe(name)
    assert set(connections) <= {"huggingface.co"}  # whatever is named, only the Hub is asked
    connections.clear()
    shared = Bases(Settings(data_dir=tmp_path, hosting=HOSTED), gallery)
    with pytest.raises(NotAllowed, match="This studio runs"):
        shared.permit(name)
    assert shared.describe(name)["kind"] == "hub"  # nor is it said what this machine's folders are
    assert connections == []


def test_people_run_the_base_models_that_were_allowed(tmp_path: Path):
    with site(tmp_path) as built:
        for name in ("tiny", DEMO_BASE):
            built.studio.check_base(name, actor=Actor("bob"))
        for actor in (Actor("bob"), Actor("mia", moderator=True)):
            with pytest.raises(NotAllowed, match="LORA_STUDIO_BASES"):
                built.studio.check_base("gpt2", actor=actor)
            with pytest.raises(NotAllowed, match="LORA_STUDIO_BASES"):
                built.studio.compare_outputs(["x"], [], base="gpt2", actor=actor)


def test_reports_and_unreviewed_uploads_reach_moderators(tmp_path: Path):
    with site(tmp_path) as built:
        key = built.ids["her public"]
        told = built.client.post(
            f"/studio/api/adapter/{key}/report",
            headers=headers("bob"),
            json={"reason": "It draws something else."},
        )
        assert told.status_code == 200
        built.gallery.set_review(key, "unreviewed")
        waiting = built.client.get("/studio/api/review", headers=headers("mia")).json()
        assert [(r["reporter"], r["entry"]["owner"]) for r in waiting["reports"]] == [
            ("bob", "alice")
        ]
        assert [e["id"] for e in waiting["unreviewed"]] == [key]
        hit = built.client.get(f"/studio/api/adapter/{key}", headers=headers("bob")).json()
        assert hit["new"] is True
        built.client.post(f"/studio/api/adapter/{key}/approve", headers=headers("mia"), json={})
        waiting = built.client.get("/studio/api/review", headers=headers("mia")).json()
        assert waiting["reports"] == waiting["unreviewed"] == []


def test_votes_of_two_people_do_not_replace_each_other(tmp_path: Path):
    with site(tmp_path) as built:
        key, hidden = built.ids["her public"], built.ids["private"]
        rows = [{"prompt": "x", "seed": 0}]

        def vote(who: str, column: str) -> int:
            columns = [{"title": "Base"}, {"title": "It", "id": column}]
            ballot = {"id": "1", "base": "tiny", "columns": columns, "rows": rows}
            ballot["votes"] = [{"row": 0, "best": [1]}]
            return built.client.post(
                "/studio/api/votes", headers=headers(who), json=ballot
            ).status_code

        assert [vote("bob", key), vote("carol", key), vote("bob", key)] == [200, 200, 200]
        assert vote("bob", hidden) == 404
        assert vote("alice", hidden) == 200
        told = [
            len(built.client.get("/studio/api/votes?base=tiny", headers=headers(who)).json())
            for who in ("bob", "alice")
        ]
        assert told == [2, 3]


def test_our_headers_need_our_page(tmp_path: Path):
    with site(tmp_path) as built:
        sent = {HEADER: "mia", "Origin": OURS["Origin"]}
        path = f"/studio/api/adapter/{built.ids['private']}/delete"
        assert built.client.post(path, headers=sent, json={}).status_code == 400


def test_children_are_not_given_our_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from lora_studio.worker import local

    for name in local.SECRETS:
        monkeypatch.setenv(name, "hush")
    assert "hush" not in local._environment("light", tmp_path).values()


def folder_of(tmp_path: Path, name: str, **card: Any) -> str:
    adapter = build_adapter(sum(map(ord, name)), rank=2, base="tiny", title=name, **card)
    return str(save_adapter(adapter, tmp_path / name))


def test_an_upload_belongs_to_whoever_sent_it_and_waits_for_review(tmp_path: Path):
    with site(tmp_path) as built:
        for who, review in (("bob", "unreviewed"), ("mia", "reviewed")):
            actor = Actor(who, moderator=who == "mia")
            path = folder_of(tmp_path, f"of {who}")
            told = built.studio.add_adapter(path, private=True, actor=actor).result()
            entry = built.gallery.get(told["id"])
            assert (entry.owner, entry.visibility, entry.review_state) == (who, "private", review)
            assert "owner" not in told


def test_files_that_are_refused_count_as_uploads(tmp_path: Path):
    quota = replace(HOSTED.quota, uploads_per_day=2)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"<html>not found</html>")
    good = folder_of(tmp_path, "good")
    with site(tmp_path, replace(HOSTED, quota=quota)) as built:

        def add(path: str, who: Actor) -> None:
            built.studio.add_adapter(path, actor=who).result()

        for _ in range(2):
            with pytest.raises(InvalidAdapter):
                add(str(bad), Actor("bob"))
        for path in (good, str(bad)):
            with pytest.raises(TooMany, match="refused count too"):
                add(path, Actor("bob"))
        add(good, Actor("dave"))
        for _ in range(3):
            with pytest.raises(InvalidAdapter):
                add(str(bad), Actor("mia", moderator=True))
        told = [(row["actor"], row["after"]) for row in built.gallery.history(50)]
        refused = [(who, after) for who, after in told if "refusal" in after]
        assert refused == [("bob", {"refusal": "not-the-file"})] * 2


def test_a_card_that_changes_is_looked_at_again(tmp_path: Path):
    with site(tmp_path) as built:
        key = built.ids["her public"]
        assert built.gallery.get(key).review_state == "reviewed"
        built.studio.edit_adapter(key, {"samples": ["anything at all"]}, actor=Actor("alice"))
        assert built.gallery.get(key).review_state == "unreviewed"
        built.gallery.set_review(key, "quarantined")
        built.studio.edit_adapter(key, {"title": "Harmless"}, actor=Actor("alice"))
        assert built.gallery.get(key).review_state == "quarantined"


def test_a_centroid_comes_with_the_card_and_a_bad_one_is_refused(tmp_path: Path):
    from lora_studio.errors import InvalidRequest
    from lora_studio.retrieval.centroids import of_samples
    from lora_studio.retrieval.embed import load_embedder

    good = of_samples(["say it in French"], load_embedder("minilm"))
    sent, endless = good.to_text(), replace(good, vector=good.vector * np.inf).to_text()
    with site(tmp_path) as built:
        path = folder_of(tmp_path, "from its card", centroid=sent)
        told = built.studio.add_adapter(path, actor=Actor("bob")).result()
        assert told["described_by"] == "centroid"
        assert "centroid" not in told
        other = folder_of(tmp_path, "of another", centroid=sent.replace("minilm", "bge", 1))
        told = built.studio.add_adapter(other, actor=Actor("bob")).result()
        assert any("'bge'" in line for line in told["report"])
        before = built.gallery.count()
        bad = folder_of(tmp_path, "too long", centroid=endless)
        with pytest.raises(InvalidRequest, match="finite"):
            built.studio.add_adapter(bad, actor=Actor("bob")).result()
        assert built.gallery.count() == before


def test_an_adapter_much_like_a_hidden_one_is_not_told_so(tmp_path: Path):
    with site(tmp_path) as built:
        secret = build_adapter(77, rank=2, base="tiny", title="The secret one")
        built.gallery.add(secret, owner="alice", visibility="private")
        again = replace(secret.scaled(1.5), card=replace(secret.card, title="Copied"))
        path = str(save_adapter(again, tmp_path / "copied"))
        told = built.studio.add_adapter(path, actor=Actor("bob")).result()
        assert told["twins"] == []
        assert "The secret one" not in str(told)
        seen = built.studio.get_adapter(told["id"], actor=Actor("bob"))
        assert seen["twins"] == []
        hers = built.studio.get_adapter(told["id"], actor=Actor("alice"))
        assert [twin["title"] for twin in hers["twins"]] == ["The secret one"]


def test_moderators_see_that_an_upload_is_nearly_what_they_hold_back(tmp_path: Path):
    with site(tmp_path) as built:
        held = build_adapter(78, rank=2, base="tiny", title="The bad one")
        bad = built.gallery.add(held, owner="alice")
        again = replace(held.scaled(1.5), card=replace(held.card, title="Again"))
        for adapter in (again, build_adapter(79, rank=2, base="tiny", title="Another")):
            built.gallery.add(adapter, owner="bob")

        def warnings() -> dict[str, list[str]]:
            waiting = built.studio.list_for_review(actor=Actor("mia", moderator=True))
            return {one["title"]: one["like"] for one in waiting["unreviewed"]}

        assert warnings() == {"The bad one": [], "Again": [], "Another": []}
        built.gallery.set_review(bad.id, "quarantined", "mia")
        assert warnings() == {"Again": ["The bad one"], "Another": []}
