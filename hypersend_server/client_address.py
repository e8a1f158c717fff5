"""Which address a request really comes from, with proxies in front that are trusted by name."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web

from hypersend_server.settings import Network


def is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    """Whether the address is one of these networks."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in trusted)


def client_address(request: web.Request, trusted: Sequence[Network]) -> str:
    """The rightmost entry of X-Forwarded-For that is not a trusted proxy, if the peer itself is one.

    Anything further left may be the client's own invention. Unreadable entries end the walk.
    """
    peer = request.remote or ""
    if not is_trusted(peer, trusted):
        return peer
    entries = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
    for entry in reversed([part.strip() for part in entries if part.strip()]):
        try:
            ipaddress.ip_address(entry)
        except ValueError:
            break
        peer = entry
        if not is_trusted(entry, trusted):
            break
    return peer


def came_over_tls(request: web.Request, trusted: Sequence[Network], public_url: str) -> bool:
    """Whether the browser spoke TLS: as a trusted proxy says, else as PUBLIC_URL does of the host that was asked."""
    if is_trusted(request.remote or "", trusted):
        said = request.headers.get("X-Forwarded-Proto", "").split(",")[-1].strip().lower()
        if said in ("http", "https"):
            return said == "https"
    public = urlsplit(public_url)
    return request.secure or (public.scheme == "https" and public.netloc == request.host)
