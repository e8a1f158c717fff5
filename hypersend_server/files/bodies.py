"""How many chunks are being received at once: each holds 1.3 MB for as long as its sender takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

from hypersend_server.errors import HyperSendError

MAX_OF_PERSON = 64
MAX_BODIES = 256
_CLOSE = {"Connection": "close"}  # what comes of the body then is not read


class Bodies:
    """is_limited: False counts, and refuses only once the server stops."""

    def __init__(self, *, is_limited: bool = True) -> None:
        self._is_limited = is_limited
        self._of: Counter[str] = Counter()
        self._is_closed = False
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def counted(self, user_id: str) -> Iterator[None]:
        """While a body is received. Raises: `rate_limited`, `busy`, `not_ready`."""
        if self._is_closed:
            raise HyperSendError("not_ready", "The server is stopping.", retry_after_s=1, headers=_CLOSE)
        if self._is_limited and self._of[user_id] >= MAX_OF_PERSON:
            raise HyperSendError("rate_limited", f"At most {MAX_OF_PERSON} chunks of one person are received at once.",
                                 retry_after_s=1, headers=_CLOSE)
        if self._is_limited and self._of.total() >= MAX_BODIES:
            raise HyperSendError("busy", "Too many chunks are being received.", retry_after_s=2, headers=_CLOSE)
        self._of[user_id] += 1
        try:
            yield
        finally:
            self._of[user_id] -= 1
            if not self._of[user_id]:
                del self._of[user_id]
            if not self._of:
                self._ended.set()

    async def close(self, wait_s: float) -> None:
        """Refuse new ones, and wait for those that are under way: when the connections are told to close, nothing
        more of them is read."""
        self._is_closed = True
        if self._of:
            self._ended.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._ended.wait()
