"""Threads for blocking calls, and bodies fed to them.

What a thread was given is always waited for, also by a task that is cancelled: a lock or a descriptor that is let
go while a thread still writes would let two writers into one place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

from hypersend_storage.errors import StorageError, StorageUnavailable

P = ParamSpec("P")
T = TypeVar("T")

MAX_PARTS = 512
"""Parts in one batch: writev takes at most 1,024."""


async def settled(work: asyncio.Future[T]) -> T:
    """The result of `work` once it has ended; a cancellation is passed on only then."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # looked at, so that asyncio does not report it as forgotten
        raise cancelled
    return work.result()


class Pool:
    """A bounded number of threads, started when they are needed."""

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Raises: StorageUnavailable after `close`."""
        try:
            return asyncio.wrap_future(self._executor.submit(call, *args, **kwargs))
        except RuntimeError as error:
            raise StorageUnavailable("the store is closed") from error

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await settled(self.submit(call, *args, **kwargs))

    async def close(self) -> None:
        """Wait for everything that was given to the threads."""
        await asyncio.to_thread(self._executor.shutdown)

    async def feed(
        self, body: AsyncIterator[bytes], consume: Callable[[list[bytes]], None], *, expected: int, batch_bytes: int
    ) -> int:
        """Give a body to `consume` in a thread, batch by batch, while the next batch is gathered.

        At most two batches of about `batch_bytes` are in memory. Parts are not copied.
        consume: takes parts in order; raises StorageError only, and then gets no more.
        Returns: bytes received; one more than `expected` where the body is longer, the rest is left unread.
        Raises: what `consume` raises, what `body` raises. What arrived before `body` failed or the task was
            cancelled has been consumed.
        """
        batch: list[bytes] = []
        gathered = received = 0
        running: asyncio.Future[None] | None = None

        async def consume_rest() -> None:
            if running is not None:
                await settled(running)
            if batch:
                await self.run(consume, batch)

        try:
            async for part in body:
                received += len(part)
                if received > expected:
                    received = expected + 1
                    batch = []
                    break
                if part:
                    batch.append(part)
                    gathered += len(part)
                if gathered >= batch_bytes or len(batch) >= MAX_PARTS:
                    if running is not None:
                        await settled(running)
                    running = self.submit(consume, batch)
                    batch = []
                    gathered = 0
        except (Exception, asyncio.CancelledError):
            # A failed `running` fails here once more, so nothing is consumed behind a gap.
            with suppress(StorageError):
                await consume_rest()
            raise
        await consume_rest()
        return received
