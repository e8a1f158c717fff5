"""How long to wait before the next try."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from hypersend_client.sdk.errors import ApiError, ConnectionFailed, HyperSendError

Sleep = Callable[[float], Awaitable[None]]
Random = Callable[[], float]
"""Answers a number in [0, 1)."""

RETRY_AFTER_MAX_S = 60.0


class Backoff:
    """Growing delays with jitter: between half and all of `first_s`, `2·first_s`, … `most_s`.

    Counting tries needs no clock, so a clock that jumps changes nothing.
    """

    def __init__(
        self,
        first_s: float = 0.5,
        most_s: float = 30.0,
        *,
        rand: Random = random.random,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._rand = rand
        self._sleep = sleep
        self._tries = 0

    def next_s(self, error: HyperSendError | None = None) -> float:
        """Seconds to wait now; never less than the server asked for in `error`, up to a minute."""
        full = min(self._most_s, self._first_s * 2.0 ** min(self._tries, 16))
        self._tries += 1
        delay = full * (0.5 + self._rand() / 2)
        if isinstance(error, ApiError) and error.retry_after_s is not None:
            # All who were turned away at once must not come back at once.
            return min(RETRY_AFTER_MAX_S, error.retry_after_s) + self._rand() * min(full, 1.0)
        return delay

    async def wait(self, error: HyperSendError | None = None) -> None:
        await self._sleep(self.next_s(error))

    def reset(self) -> None:
        self._tries = 0


def may_repeat(error: HyperSendError, *, idempotent: bool) -> bool:
    """Whether sending the same request once more is safe and may help."""
    if isinstance(error, ConnectionFailed):
        return idempotent or not error.sent
    if isinstance(error, ApiError) and error.retryable:
        # 429 and 503 are said before anything was done.
        return idempotent or error.status in (429, 503)
    return False
