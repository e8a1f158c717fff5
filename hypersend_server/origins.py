"""Whose pages may open what a browser opens for any page: WebSockets, which no same-origin policy covers."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from hypersend_server.errors import HyperSendError


class Origins:
    """allowed: web origins besides those of the server's own host."""

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = {_origin(origin) for origin in allowed if origin}

    def require_own(self, request: web.Request) -> None:
        """Nothing where no Origin is said: that is no page. Raises: `not_allowed` for a page of another site."""
        header = request.headers.get(hdrs.ORIGIN)
        if header is None:
            return
        try:
            origin = _origin(header)
        except ValueError:
            origin = ""
        # The scheme may differ from ours where a proxy ends TLS; the host may not.
        if origin not in self._allowed and origin.partition("://")[2] != request.host.lower():
            raise HyperSendError("not_allowed", "Pages of this origin may not do this.")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
