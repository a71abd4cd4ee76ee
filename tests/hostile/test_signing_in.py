"""Session cookies and the way to one: a real code flow against a provider on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_studio.errors import LoraStudioError
from lora_studio.hosting import HUGGING_FACE, OIDC, Hosting
from lora_studio.settings import Settings
from lora_studio.web.identity import COOKIE, check, session_secret
from lora_studio.web.signing_in import sessions
from tests.hostile.site import GENEROUS, HOME, OURS, Site, site

for _library in ("authlib", "joserfc"):
    pytest.importorskip(_library, reason="pip install authlib itsdangerous")
itsdangerous = pytest.importorskip("itsdangerous")

from tests.hostile.provider import CLIENT, SECRET, Provider, provider  # noqa: E402

MUTATION = "/studio/api/adapter/{}/delete"


@pytest.fixture(scope="module")
def names() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture(scope="module")
def hosted(names: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    hosting = Hosting(
        auth=OIDC,
        moderators=("mia",),
        url=HOME,
        issuer=names.issuer,
        client_id=CLIENT,
        client_secret=SECRET,
        quota=GENEROUS,
    )
    with site(tmp_path_factory.mktemp("signed-in"), hosting) as built:
        yield built


@pytest.fixture(autouse=True)
def _nobody(hosted: Site) -> None:
    hosted.client.cookies.clear()


def me(hosted: Site, **headers: str) -> dict[str, Any]:
    return hosted.client.get("/studio/api/me", headers=headers).json()


def sign_in(hosted: Site, names: Provider, **claims: Any) -> Any:
    """Follows the way a browser goes; the answer of the last step."""
    names.claims = claims
    sent = hosted.client.get("/login?recipe=abc", follow_redirects=False)
    assert sent.headers["location"].startswith(f"{names.issuer}/auth?")
    back = names.authorize(sent.headers["location"])
    return hosted.client.get("/login/callback", params=back, follow_redirects=False)


def cookie(secret: str, sub: str = "alice", ends: float = 3600, age: float = 0) -> str:
    """A session cookie as the site writes it, signed `age` seconds ago with `secret`."""
    who = {"sub": sub, "name": sub, "ends": time.time() + ends}
    data = b64encode(json.dumps({"who": who}).encode())
    signer = itsdangerous.TimestampSigner(secret)
    signer.get_timestamp = lambda: int(time.time() - age)  # type: ignore[method-assign]
    return signer.sign(data).decode()


def test_signing_in_names_the_person_and_comes_back_to_the_page(hosted: Site, names: Provider):
    last = sign_in(hosted, names, sub="248289761001", preferred_username="Jane")
    assert (last.status_code, last.headers["location"]) == (303, f"{HOME}/?recipe=abc")
    flags = last.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=lax" in flags
    found = me(hosted)
    assert (found["id"], found["name"], found["moderator"]) == ("248289761001", "Jane", False)
    hosted.client.post("/logout", headers=OURS)
    assert not me(hosted)["signed_in"]


def test_a_moderator_is_known_by_the_lasting_id_not_by_the_name(hosted: Site, names: Provider):
    sign_in(hosted, names, sub="mia", preferred_username="Anybody")
    assert me(hosted)["moderator"]
    sign_in(hosted, names, sub="someone", preferred_username="mia", name="mia")
    assert not me(hosted)["moderator"]


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another-client"},
        {"nonce": "replayed"},
        {"exp": 1},
        {"sub": ""},
        {"sub": "x" * 300},
    ],
)
def test_a_token_that_is_not_for_us_signs_nobody_in(
    hosted: Site, names: Provider, claims: dict[str, Any]
):
    last = sign_in(hosted, names, **{"sub": "alice", **claims})
    assert last.status_code == 400
    assert not me(hosted)["signed_in"]


def test_another_ones_code_or_state_signs_nobody_in(hosted: Site, names: Provider):
    names.claims = {"sub": "mallory"}
    sent = hosted.client.get("/login", follow_redirects=False)
    back = names.authorize(sent.headers["location"])
    hosted.client.cookies.clear()  # the victim's browser, sent to the attacker's callback
    assert hosted.client.get("/login/callback", params=back).status_code == 400
    assert not me(hosted)["signed_in"]


@pytest.mark.parametrize("case", ["", "true", "old", "ended", "forged", "gradio", "cut", "rubbish"])
def test_only_a_cookie_signed_here_and_not_too_old_is_believed(hosted: Site, case: str):
    secret = session_secret(hosted.studio.settings)
    values = {
        "": "",
        "true": cookie(secret),
        "old": cookie(secret, ends=1e9, age=13 * 3600),
        "ended": cookie(secret, ends=-1),
        "forged": cookie("0" * 64),
        "gradio": cookie(hashlib.sha256(b"-v4").hexdigest()),  # the key of Gradio's own sign-in
        "cut": cookie(secret)[:-4],
        "rubbish": "e30.x.y",
    }
    key = hosted.ids["her public"]
    sent = {**OURS, "Cookie": f"{COOKIE}={values[case]}"}
    believed = case == "true"
    assert me(hosted, Cookie=sent["Cookie"])["signed_in"] is believed
    answer = hosted.client.post(MUTATION.format(key), headers=sent, json={})
    assert answer.status_code == (200 if believed else 403)
    assert hosted.gallery.get(key).deleted is believed
    hosted.put("her public")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
def test_a_cookie_counts_for_our_own_pages_only(hosted: Site, origin: str | None):
    secret, key = session_secret(hosted.studio.settings), hosted.ids["private"]
    sent = {"Cookie": f"{COOKIE}={cookie(secret)}", "X-Lora-Studio": "1"}
    sent |= {"Origin": origin} if origin else {}
    assert hosted.client.post(MUTATION.format(key), headers=sent, json={}).status_code == 403
    read = hosted.client.get(f"/studio/api/adapter/{key}", headers=sent)
    assert read.status_code == (404 if origin else 200)


def test_a_proxys_header_means_nothing_here(hosted: Site):
    assert not me(hosted, **{"X-Forwarded-User": "mia"})["signed_in"]


def test_gradios_own_sign_in_is_not_there(hosted: Site):
    for path in ("/login/huggingface", "/gradio_api/login/huggingface"):
        assert hosted.client.get(path, follow_redirects=False).status_code == 404
    assert hosted.client.get("/config").json().get("auth_required") in (None, False)


def test_the_secret_is_random_kept_and_ours_alone(tmp_path: Path):
    hosting = Hosting(auth=OIDC)
    first = Settings(data_dir=tmp_path / "a", hosting=hosting)
    secret = session_secret(first)
    assert len(bytes.fromhex(secret)) == 32
    assert session_secret(first) == secret
    assert session_secret(replace(first, data_dir=tmp_path / "b")) != secret
    mode = stat.S_IMODE(os.stat(tmp_path / "a" / "session.secret").st_mode)
    assert mode == 0o600


def test_a_spaces_cookie_crosses_its_frame_and_outlives_its_disk(tmp_path: Path):
    hosting = Hosting(auth=HUGGING_FACE, client_secret="of-the-space", url="https://x.hf.space")
    settings = Settings(data_dir=tmp_path, space_id="a/b", hosting=hosting)
    (middleware,) = sessions(settings)
    assert middleware.kwargs["same_site"] == "none"
    assert middleware.kwargs["https_only"] is True
    assert not (tmp_path / "session.secret").exists()
    other = replace(settings, hosting=replace(hosting, client_secret="of-another"))
    assert session_secret(other) != session_secret(settings)


def test_what_is_missing_keeps_the_site_shut(tmp_path: Path):
    with pytest.raises(LoraStudioError, match="LORA_STUDIO_OIDC_ISSUER"):
        check(Settings(data_dir=tmp_path, hosting=Hosting(auth=OIDC)))
