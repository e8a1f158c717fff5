"""Threads for blocking calls, and bodies fed to them.

What a thread was given is always waited for, also by a task that is cancelled: a lock or a descriptor that is let
go while a thread still writes would let two writers into one place.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import ParamSpec, TypeVar

from hypersend_storage.base import Piece
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
    """A bounded number of threads, started when they are needed.

    jobs: given to them so far. waited_s: how long those waited for a thread, together.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._counting = threading.Lock()
        self._begun = 0
        self.name = name
        self.jobs = 0
        self.waited_s = 0.0

    @property
    def waiting(self) -> int:
        """Jobs that no thread has begun yet."""
        return self.jobs - self._begun

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Raises: StorageUnavailable after `close`."""
        given_at = time.monotonic()

        def begin() -> T:
            with self._counting:
                self._begun += 1
                self.waited_s += time.monotonic() - given_at
            return call(*args, **kwargs)

        try:
            work = self._executor.submit(begin)
        except RuntimeError as error:
            raise StorageUnavailable("the store is closed") from error
        with self._counting:
            self.jobs += 1
        work.add_done_callback(self._ended)
        return asyncio.wrap_future(work)

    def _ended(self, work: Future[T]) -> None:
        if work.cancelled():  # before a thread took it
            with self._counting:
                self._begun += 1

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await settled(self.submit(call, *args, **kwargs))

    async def close(self) -> None:
        """Wait for everything that was given to the threads."""
        await asyncio.to_thread(self._executor.shutdown)

    async def feed(
        self, body: AsyncIterator[Piece], consume: Callable[[list[Piece]], None], *, expected: int, batch_bytes: int
    ) -> int:
        """Give a body to `consume` in a thread, batch by batch, while the next batch is gathered.

        At most two batches of about `batch_bytes` are in memory. Parts are not copied.
        consume: takes parts in order; raises StorageError only, and then gets no more.
        Returns: bytes received; one more than `expected` where the body is longer, the rest is left unread.
        Raises: what `consume` raises, what `body` raises. What arrived before `body` failed or the task was
            cancelled has been consumed.
        """
        batch: list[Piece] = []
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
