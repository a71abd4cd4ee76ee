"""Everybody tries everything on every kind of adapter, through the real site; the table decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lora_studio.errors import LoraStudioError, NotAllowed, NotFound
from lora_studio.studio.permissions import Actor
from lora_studio.web.routes import STATUS
from tests.hostile.site import (
    BASE,
    BESIDE,
    HEADER,
    PEOPLE,
    STRANGER,
    TARGETS,
    Site,
    headers,
    recipe_of,
    site,
)

EVERYONE = {"visitor", "person", "owner", "moderator"}
# What each role may do to an adapter it can see, written down apart from the code that decides.
MAY: dict[str, set[str]] = {
    "look": EVERYONE,
    "see its picture": EVERYONE,
    "download": EVERYONE,
    "open its recipe": EVERYONE,
    "download its recipe": EVERYONE,
    "plan": EVERYONE,
    "compose": EVERYONE,
    "compare": EVERYONE,
    "explain": EVERYONE,
    "test": EVERYONE,
    "map": EVERYONE,
    "report": {"person", "owner", "moderator"},
    "edit": {"owner"},
    "make private": {"owner"},
    "delete": {"owner", "moderator"},
    "restore": {"owner", "moderator"},
    "approve": {"moderator"},
    "quarantine": {"moderator"},
    "purge": {"moderator"},
}
CHANGES = ("edit", "make private", "delete", "restore", "approve", "quarantine", "purge")
SILENT = {("approve", name) for name in TARGETS if name != "quarantined"}
SILENT |= {("quarantine", "quarantined"), ("make private", "private")}  # it is so already


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("hosted")) as built:
        yield built


def role_towards(role: str, target: str) -> str:
    """Alice owns three of the four; towards another's she is a person like bob."""
    return "person" if role == "owner" and target == "another's" else role


def expected(role: str, action: str, target: str) -> int:
    mine = role_towards(role, target)
    hidden = target in ("private", "quarantined") or action == "restore"  # which is deleted then
    if hidden and mine not in ("owner", "moderator"):
        return 404
    return 200 if mine in MAY[action] else 403


def by_route(built: Site, role: str, action: str, target: str) -> int:
    """Status of the request that asks for an action."""
    key, who = built.ids[target], headers(PEOPLE[role])
    get, recipe = built.client.get, built.recipes[target]
    reads = {
        "look": f"/studio/api/adapter/{key}",
        "see its picture": f"/ls/thumbnail/{key}",
        "download": f"/studio/download/adapter/{key}.zip",
        "open its recipe": f"/studio/api/recipe/{recipe}",
        "download its recipe": f"/studio/download/recipe/{recipe}.yaml",
    }
    if action in reads:
        return get(reads[action], headers=who).status_code
    posts: dict[str, tuple[str, dict[str, Any]]] = {
        "report": ("report", {"reason": "It draws something else."}),
        "edit": ("edit", {"title": "Another title"}),
        "make private": ("show", {"visibility": "private"}),
    }
    verb, body = posts.get(action, (action, {}))
    answer = built.client.post(f"/studio/api/adapter/{key}/{verb}", headers=who, json=body)
    return answer.status_code


def by_method(built: Site, role: str, action: str, target: str) -> int:
    """As `by_route` for what runs in a worker, asked of the studio as handlers ask it."""
    key, sub = built.ids[target], PEOPLE[role]
    actor = Actor(sub, moderator=role == "moderator", address="198.51.100.1")
    studio, recipe = built.studio, recipe_of(built.ids[target], built.ids[BESIDE])
    column = [{"kind": "adapter", "id": key}]
    calls: dict[str, Callable[[], Any]] = {
        "plan": lambda: studio.plan_composition(recipe, actor=actor).result(),
        "compose": lambda: studio.compose_adapter(recipe, f"By {role}", actor=actor).result(),
        "map": lambda: studio.cluster_units([{"id": key}], actor=actor).result(),
        "compare": lambda: studio.compare_outputs(["x"], column, base=BASE, actor=actor),
        "explain": lambda: studio.explain_answer("x", "y", column[0], base=BASE, actor=actor),
        "test": lambda: studio.run_tests([], [key], base=BASE, actor=actor),
    }
    try:
        calls[action]()
    except LoraStudioError as error:
        return STATUS.get(type(error), 400)
    return 200


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("action", MAY)
@pytest.mark.parametrize("role", PEOPLE)
def test_the_table_decides(hosted: Site, role: str, action: str, target: str):
    if action == "restore":
        hosted.gallery.delete(hosted.ids[target])
    before, rows = hosted.state(target), hosted.rows()
    in_worker = action in ("plan", "compose", "map", "compare", "explain", "test")
    status = (by_method if in_worker else by_route)(hosted, role, action, target)
    after, wanted = hosted.state(target), expected(role, action, target)
    try:
        assert status == wanted
        if action in CHANGES:
            changed = wanted == 200 and (action, target) not in SILENT
            assert (after != before) is changed
            assert hosted.rows() - rows == int(changed)
        else:
            assert after == before
    finally:
        hosted.gallery.close_reports(hosted.ids[BESIDE])
        if after != before or action in ("restore", "report"):
            hosted.put(target)


@pytest.mark.parametrize("who", ["", "bob", "carol"])
@pytest.mark.parametrize("target", ["private", "quarantined"])
def test_what_is_hidden_answers_as_what_does_not_exist(hosted: Site, who: str, target: str):
    key, nothing = hosted.ids[target], "0123456789abcdef" * 4
    for path in ("/studio/api/adapter/{}", "/ls/thumbnail/{}", "/studio/download/adapter/{}.zip"):
        found = hosted.client.get(path.format(key), headers=headers(who))
        missing = hosted.client.get(path.format(nothing), headers=headers(who))
        assert found.status_code == missing.status_code == 404
        assert found.text.replace(key, "?") == missing.text.replace(nothing, "?")
        beginning = hosted.client.get(path.format(key[:12]), headers=headers(who))
        assert beginning.text.replace(key[:12], "?") == missing.text.replace(nothing, "?")
    search = hosted.client.get("/studio/api/search", headers=headers(who))
    assert key not in search.text
    assert f"The {target} adapter" not in search.text
    status = hosted.client.get("/studio/api/status", headers=headers(who))
    assert status.json()["adapters"] == search.json()["total"]


@pytest.mark.parametrize("target", TARGETS)
def test_owners_find_what_is_theirs_and_nobody_reads_who_owns_it(hosted: Site, target: str):
    hits = hosted.client.get("/studio/api/search", headers=headers("alice")).json()["hits"]
    found = {hit["id"]: hit for hit in hits}[hosted.ids[target]]
    assert found["mine"] is (target != "another's")
    assert ("edit" in found["may"]) is found["mine"]
    assert "owner" not in found


@pytest.mark.parametrize(
    ("path", "method"),
    [("/studio/api/review", "GET"), ("/studio/api/audit", "GET"), ("/studio/api/ban", "POST")],
)
@pytest.mark.parametrize("role", PEOPLE)
def test_only_moderators_see_reports_and_the_log(hosted: Site, role: str, path: str, method: str):
    body = {"id": "mallory"} if method == "POST" else None
    answer = hosted.client.request(method, path, headers=headers(PEOPLE[role]), json=body)
    assert answer.status_code == (200 if role == "moderator" else 403)


def test_a_banned_person_only_looks(hosted: Site):
    hosted.gallery.ban("zed", "Spam.")
    actor = Actor("zed")
    with pytest.raises(NotAllowed, match="Spam"):
        hosted.studio.add_adapter("x.safetensors", actor=actor)
    with pytest.raises(NotAllowed, match="Spam"):
        hosted.studio.compose_adapter(recipe_of(hosted.ids[BESIDE]), actor=actor)
    key = hosted.ids["her public"]
    report = f"/studio/api/adapter/{key}/report"
    answer = hosted.client.post(report, headers=headers("zed"), json={"reason": "no"})
    assert answer.status_code == 403
    assert (
        hosted.client.get(f"/studio/api/adapter/{key}", headers=headers("zed")).status_code == 200
    )


def test_who_asks_is_never_taken_from_what_is_sent(hosted: Site):
    key = hosted.ids["her public"]
    body = {"actor": "mia", "sub": "mia", "title": "x", "moderator": True}
    for address in (f"/studio/api/adapter/{key}/purge", f"/studio/api/adapter/{key}/edit"):
        answer = hosted.client.post(f"{address}?actor=mia", headers=headers("bob"), json=body)
        assert answer.status_code == 403


@pytest.mark.parametrize("name", ["mia", "alice", "MIA", " mia "])
def test_a_header_that_is_not_the_proxys_names_nobody(hosted: Site, name: str):
    from starlette.testclient import TestClient

    outside = TestClient(hosted.client.app, client=STRANGER)
    me = outside.get("/studio/api/me", headers={HEADER: name}).json()
    assert (me["signed_in"], me["moderator"]) == (False, False)
    forwarded = {HEADER: name, "X-Forwarded-For": "127.0.0.1"}
    assert not outside.get("/studio/api/me", headers=forwarded).json()["signed_in"]


def test_a_header_sent_twice_names_nobody(hosted: Site):
    twice = [(HEADER, "bob"), (HEADER, "mia")]
    assert not hosted.client.get("/studio/api/me", headers=twice).json()["signed_in"]
    assert hosted.client.get("/studio/api/me", headers=twice[:1]).json()["id"] == "bob"


FOREIGN: dict[str, dict[str, str]] = {
    "evil origin": {"Origin": "https://evil.example"},
    "evil subdomain": {"Origin": "http://testserver.evil.example"},
    "evil port": {"Origin": "http://testserver:8080"},
    "null origin": {"Origin": "null"},
    "cross-site": {"Origin": "http://testserver", "Sec-Fetch-Site": "cross-site"},
    "same-site": {"Origin": "http://testserver", "Sec-Fetch-Site": "same-site"},
    "no origin": {},
}
MUTATIONS = [
    *(f"/studio/api/adapter/{{}}/{verb}" for verb in ("delete", "edit", "show", "purge", "report")),
    "/studio/api/ban",
    "/studio/api/votes",
    "/gradio_api/queue/join",
    "/gradio_api/upload",
    "/gradio_api/reset",
    "/gradio_api/cancel",
]


@pytest.mark.parametrize("path", MUTATIONS)
@pytest.mark.parametrize("case", FOREIGN)
def test_other_sites_pages_change_nothing(hosted: Site, case: str, path: str):
    before, rows = hosted.state("her public"), hosted.rows()
    sent = {**FOREIGN[case], HEADER: "mia", "X-Lora-Studio": "1"}
    answer = hosted.client.post(path.format(hosted.ids["her public"]), headers=sent, json={})
    assert answer.status_code == 403
    assert (hosted.state("her public"), hosted.rows()) == (before, rows)
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/studio/api/search", "/", "/config", "/gradio_api/info"])
def test_another_origin_is_granted_nothing(hosted: Site, path: str):
    sent = {"Origin": "https://evil.example", HEADER: "alice"}
    answer = hosted.client.get(path, headers=sent)
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-credentials" not in answer.headers
    assert "The private adapter" not in answer.text
    asked = {**sent, "Access-Control-Request-Method": "POST"}
    assert hosted.client.options(path, headers=asked).status_code in (400, 405)


def test_a_link_from_elsewhere_opens_the_page_as_oneself(hosted: Site):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", HEADER: "alice"}
    assert hosted.client.get("/studio/api/me", headers=link).json()["id"] == "alice"
    embedded = {**link, "Sec-Fetch-Mode": "no-cors"}
    assert hosted.client.get("/studio/api/me", headers=embedded).json()["id"] == ""


def function_of(built: Site, name: str) -> dict[str, Any]:
    """The page's own event handler of this name, as its configuration tells everyone."""
    config = built.client.get("/config").json()
    return next(d for d in config["dependencies"] if d["api_name"] == name)


def call(built: Site, dependency: dict[str, Any], data: list[Any], who: str) -> dict[str, Any]:
    """Runs an event by its number, as a script would; the last message of its stream."""
    body = {"fn_index": dependency["id"], "data": data, "session_hash": "s", "event_data": None}
    joined = built.client.post("/gradio_api/queue/join", headers=headers(who), json=body)
    assert joined.status_code == 200, joined.text
    stream = built.client.get("/gradio_api/queue/data", params={"session_hash": "s"})
    lines = [line[6:] for line in stream.text.splitlines() if line.startswith("data: ")]
    messages = [json.loads(line) for line in lines]
    return next(m for m in reversed(messages) if m["msg"] == "process_completed")


@pytest.mark.parametrize("role", PEOPLE)
def test_a_handler_called_by_its_number_asks_the_same_table(hosted: Site, role: str):
    dependency = function_of(hosted, "plan_composition")
    hidden = recipe_of(hosted.ids["private"], hosted.ids[BESIDE])
    done = call(hosted, dependency, [hidden], PEOPLE[role])
    assert done["success"] is (role in ("owner", "moderator"))
    if not done["success"]:
        assert "There is no adapter" in done["output"]["error"]


@pytest.mark.parametrize("role", PEOPLE)
def test_the_upload_handler_called_by_its_number_needs_a_person(hosted: Site, role: str):
    sent = {"files": ("x.safetensors", b"\x80\x02 a pickle")}
    path = hosted.client.post("/gradio_api/upload", headers=headers("bob"), files=sent).json()[0]
    file = {"path": path, "orig_name": "x.safetensors", "meta": {"_type": "gradio.FileData"}}
    data = [{}, [file], *[""] * 6, False]
    done = call(hosted, function_of(hosted, "add_adapter"), data, PEOPLE[role])
    said = json.dumps(done["output"])
    assert ("Sign in first" in said) is (role == "visitor")
    assert ("pickle" in said) is (role != "visitor")


@pytest.mark.parametrize("role", PEOPLE)
@pytest.mark.parametrize("route", ["call", "call/v2"])
def test_a_handler_called_by_its_name_asks_the_same_table(hosted: Site, route: str, role: str):
    recipe = recipe_of(hosted.ids["quarantined"], hosted.ids[BESIDE])
    body = {"recipe": recipe} if route == "call/v2" else {"data": [recipe]}
    address, who = f"/gradio_api/{route}/plan_composition", headers(PEOPLE[role])
    event = hosted.client.post(address, headers=who, json=body).json()["event_id"]
    said = hosted.client.get(f"/gradio_api/call/plan_composition/{event}", headers=who).text
    allowed = role in ("owner", "moderator")
    assert ("event: complete" in said) is allowed
    assert ("There is no adapter" in said) is not allowed


@pytest.mark.parametrize("name", ["search_adapters", "plan_composition", "add_adapter"])
@pytest.mark.parametrize("route", ["run", "api"])
def test_nothing_runs_beside_the_queue(hosted: Site, route: str, name: str):
    address = f"/gradio_api/{route}/{name}"
    answer = hosted.client.post(address, headers=headers("mia"), json={"data": [""]})
    assert answer.status_code == 404


@pytest.mark.parametrize("role", PEOPLE)
def test_only_people_may_send_files(hosted: Site, role: str):
    files = {"files": ("x.safetensors", b"x" * 10)}
    answer = hosted.client.post("/gradio_api/upload", headers=headers(PEOPLE[role]), files=files)
    assert answer.status_code == (403 if role == "visitor" else 200)
    if answer.status_code == 200:  # and nobody reads it back, not even with its whole path
        path = answer.json()[0]
        for prefix in ("/gradio_api/file=", "/gradio_api/file/"):
            assert hosted.client.get(prefix + path, headers=headers("mia")).status_code == 404


def test_the_studios_own_files_are_not_served(hosted: Site):
    data = hosted.studio.settings.data_dir
    for path in (data / "gallery" / "gallery.sqlite", "/etc/passwd", "http://127.0.0.1:1/x"):
        for prefix in ("/gradio_api/file=", "/gradio_api/proxy=", "/file="):
            answer = hosted.client.get(f"{prefix}{path}", headers=headers("mia"))
            assert answer.status_code == 404


def test_what_is_downloaded_is_an_attachment_that_is_never_guessed_at(hosted: Site):
    key = hosted.ids["her public"]
    answer = hosted.client.get(f"/studio/download/adapter/{key}.zip")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "private" in answer.headers["cache-control"]


def test_the_log_of_all_this_holds_together(hosted: Site):
    assert hosted.gallery.audit_broken_at() is None
    answer = hosted.client.get("/studio/api/audit", headers=headers("mia"))
    assert answer.json()["broken_at"] is None
    assert answer.json()["rows"]


def test_an_unknown_recipe_and_a_hidden_one_are_the_same(hosted: Site):
    with pytest.raises(NotFound, match="There is no recipe"):
        hosted.studio.get_recipe(hosted.recipes["private"], actor=Actor("bob"))
