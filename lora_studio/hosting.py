"""Who may come in and how much each may do, read once from the environment.

One person's own studio (`local`) asks nobody who they are and has no quotas.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields

LOCAL, VISITORS, HUGGING_FACE, OIDC, HEADER = "local", "visitors", "huggingface", "oidc", "header"
LOOPBACK = ("127.0.0.0/8", "::1/128")
SPACE_PROXIES = (*LOOPBACK, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


@dataclass(frozen=True)
class Quota:
    """What one person may do; a visitor who has not signed in is told apart by address.

    Args:
        uploads_per_day: adapters added in 24 hours.
        bytes_per_person: stored bytes of one owner's adapters, deleted ones until they are removed.
        jobs_per_person: jobs running or waiting at once.
        searches_per_minute: searches, also those that place a task sentence.
        visitor_generations_per_day: compositions and comparisons without signing in.
        reports_per_day: reports of one person in 24 hours.
        uploads_at_once: uploads the server receives at the same time, of all people together.
    """

    uploads_per_day: int = 20
    bytes_per_person: int = 10 * 1024**3
    jobs_per_person: int = 7
    searches_per_minute: int = 60
    visitor_generations_per_day: int = 10
    reports_per_day: int = 20
    uploads_at_once: int = 4

    @classmethod
    def from_env(cls) -> Quota:
        """Reads LORA_STUDIO_QUOTA_<NAME>, such as LORA_STUDIO_QUOTA_UPLOADS_PER_DAY."""
        named = {f.name: _read(f"QUOTA_{f.name.upper()}") for f in fields(cls)}
        return cls(**{name: int(float(value)) for name, value in named.items() if value})


@dataclass(frozen=True)
class Hosting:
    """How people are told apart and what is believed of a request.

    Args:
        auth: "local" (one person, no sign-in), "visitors" (nobody signs in, all only look and
            try), "huggingface" (a Space's own sign-in), "oidc", or "header:NAME" (a reverse proxy
            signs people in and names them in this header).
        moderators: ids (`sub`) of those who review, hide and purge.
        proxies: networks whose forwarding headers are believed.
        origins: other sites whose pages may use this one, such as "https://studio.example".
        bases: base models people may run beside the configured and the embedded ones.
        url: the public address of the page; needed for "oidc".
        issuer, client_id, client_secret: of the OpenID provider.
        quota: what each may do; none hold in "local".
    """

    auth: str = LOCAL
    moderators: tuple[str, ...] = ()
    proxies: tuple[str, ...] = LOOPBACK
    origins: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    url: str = ""
    issuer: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    quota: Quota = field(default_factory=Quota)

    @property
    def mode(self) -> str:
        """`auth` without the name of a header."""
        return self.auth.partition(":")[0]

    @property
    def header(self) -> str:
        """The header a proxy names people in, "" in other modes."""
        return self.auth.partition(":")[2].strip() if self.mode == HEADER else ""

    @property
    def local(self) -> bool:
        """Whether this is one person's own studio."""
        return self.auth == LOCAL

    @property
    def signs_in(self) -> bool:
        """Whether the page itself signs people in, with a session cookie."""
        return self.mode in (HUGGING_FACE, OIDC)

    @classmethod
    def from_env(cls) -> Hosting:
        """Reads LORA_STUDIO_AUTH, MODERATORS, PROXIES, ORIGINS, BASES, URL, OIDC_ISSUER,
        OIDC_CLIENT_ID, OIDC_CLIENT_SECRET and QUOTA_*; lists are separated by commas.

        A Space takes its own OAUTH_CLIENT_ID and OPENID_PROVIDER_URL, which Hugging Face sets where
        the README says `hf_oauth: true`; without them nobody can sign in, and all are visitors.
        """
        env = os.environ
        space = env.get("SPACE_ID", "")
        offered = HUGGING_FACE if env.get("OAUTH_CLIENT_ID") else VISITORS
        auth = _read("AUTH") or (offered if space else LOCAL)
        hub = auth == HUGGING_FACE
        host = env.get("SPACE_HOST", "").split(",")[0].strip()
        provider = _either(hub)
        return cls(
            auth=auth,
            moderators=_list("MODERATORS"),
            proxies=_list("PROXIES") or (SPACE_PROXIES if space else LOOPBACK),
            origins=tuple(origin.rstrip("/").lower() for origin in _list("ORIGINS")),
            bases=_list("BASES"),
            url=(_read("URL") or (f"https://{host}" if host else "")).rstrip("/"),
            issuer=provider("OPENID_PROVIDER_URL", "OIDC_ISSUER").rstrip("/"),
            client_id=provider("OAUTH_CLIENT_ID", "OIDC_CLIENT_ID"),
            client_secret=provider("OAUTH_CLIENT_SECRET", "OIDC_CLIENT_SECRET"),
            quota=Quota.from_env(),
        )


def _read(name: str) -> str:
    return os.environ.get(f"LORA_STUDIO_{name}", "").strip()


def _list(name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in _read(name).split(",") if part.strip())


def _either(hub: bool) -> Callable[[str, str], str]:
    return lambda of_space, own: os.environ.get(of_space, "") if hub else _read(own)
