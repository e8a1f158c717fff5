"""Sockets of which nobody knows yet whose they are: how many of them one address may hold open."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from aiohttp import web

from hypersend_server.errors import HyperSendError

MAX_UNKNOWN = 100  # of one address, whose first frame has not come


class UnknownSockets:
    """address_of: which address a request really comes from; None: nothing is counted."""

    def __init__(self, address_of: Callable[[web.Request], str] | None = None) -> None:
        self._address_of = address_of
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def counted(self, request: web.Request) -> Iterator[None]:
        """While nobody has signed in.

        Raises: `rate_limited`.
        """
        if self._address_of is None:
            yield
            return
        address = self._address_of(request)
        if self._open[address] >= MAX_UNKNOWN:
            raise HyperSendError(
                "rate_limited", "Too many sockets of this address have not signed in.", retry_after_s=1)
        self._open[address] += 1
        try:
            yield
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]
