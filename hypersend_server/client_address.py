"""Which address a request really comes from, with proxies in front that are trusted by name."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from aiohttp import web

from hypersend_server.settings import Network


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
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
    if not _is_trusted(peer, trusted):
        return peer
    entries = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
    for entry in reversed([part.strip() for part in entries if part.strip()]):
        try:
            ipaddress.ip_address(entry)
        except ValueError:
            break
        peer = entry
        if not _is_trusted(entry, trusted):
            break
    return peer
