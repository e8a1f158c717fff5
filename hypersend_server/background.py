"""Work that recurs inside the server: each job at its own pace, none of them ending the server when it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hypersend_server.errors import HyperSendError

log = logging.getLogger(__name__)


class Background:
    """Starts coroutines that repeat, and ends them all together."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def every(
        self, seconds: float, job: Callable[[], Awaitable[object]], *, first_after_s: float | None = None
    ) -> None:
        """Run `job` now and again, `seconds` after each end; a failure is logged and the next turn comes."""
        self._tasks.append(asyncio.create_task(self._repeat(seconds, job, first_after_s)))

    async def _repeat(self, seconds: float, job: Callable[[], Awaitable[object]], first_after_s: float | None) -> None:
        name = getattr(job, "__qualname__", repr(job))
        await asyncio.sleep(seconds if first_after_s is None else first_after_s)
        while True:
            try:
                await job()
            except HyperSendError as error:
                log.warning("%s: %s", name, error)
            except Exception:
                log.exception("%s failed and will be tried again", name)
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
