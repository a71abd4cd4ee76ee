"""Whether a request comes from our own pages, and from where on the network."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

SAFE = ("GET", "HEAD", "OPTIONS")


def ours(scope: Scope, allowed: Sequence[str] = ()) -> bool | None:
    """True for our own pages and `allowed` ones, False for another site's, None if it is not said.

    Browsers say it in Sec-Fetch-Site, which no page can set, and in Origin; programs say neither.
    """
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if origin is not None and origin.lower() in allowed:
        return True
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    if origin is None:
        return None
    asked = (headers.get("host", ""), headers.get("x-forwarded-host", "").split(",")[0])
    return _host(origin) in {name.strip().lower() for name in asked if name}


def foreign_read(scope: Scope, allowed: Sequence[str] = ()) -> bool:
    """Whether another site's page reads this; following a link to us is not reading."""
    if ours(scope, allowed) is not False:
        return False
    headers = Headers(scope=scope)
    return headers.get("sec-fetch-mode") != "navigate" or "origin" in headers


def _host(origin: str) -> str:
    """The host of an origin as a Host header names it; "" for "null" and nonsense."""
    try:
        parts = urlsplit(origin.lower())
        port = {"http": 80, "https": 443}.get(parts.scheme)
        plain = parts.netloc if parts.port != port else parts.netloc.rpartition(":")[0]
    except ValueError:
        return ""
    return plain if parts.scheme in ("http", "https") else ""


def peer(scope: Scope) -> str:
    """The address at the other end of the connection, "" where there is none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def trusted(address: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of these networks."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(found in ip_network(network, strict=False) for network in networks)


def address(scope: Scope, networks: Sequence[str]) -> str:
    """Where a request comes from: the last address that no trusted proxy stands at."""
    hops = [part.strip() for part in Headers(scope=scope).get("x-forwarded-for", "").split(",")]
    here = peer(scope)
    for hop in reversed([part for part in hops if part]):
        if not trusted(here, networks):
            break
        here = hop
    return here[:64]
