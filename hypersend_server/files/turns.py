"""One writer a chunk within this process: the newest request goes, the one before it is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from hypersend_server.files.body import Body, BodyCut, Superseded

T = TypeVar("T")


class _Turn:
    def __init__(self, body: Body) -> None:
        self.body = body
        self.ended = asyncio.Event()


class Turns:
    def __init__(self) -> None:
        self._newest: dict[tuple[str, int], _Turn] = {}

    @asynccontextmanager
    async def take(self, file_id: str, index: int, body: Body) -> AsyncIterator[None]:
        """Begins when the last write of the request before this one has ended. Raises: BodyCut."""
        key = (file_id, index)
        before = self._newest.get(key)
        turn = self._newest[key] = _Turn(body)
        try:
            if before is not None:
                before.body.cut(Superseded())
                await before.ended.wait()
            body.require_uncut()
            yield
        finally:
            turn.ended.set()
            if self._newest.get(key) is turn:
                del self._newest[key]

    async def cut_all(self, file_id: str, reason: BodyCut) -> None:
        """Cut off every writer of a file and wait until their last writes have ended."""
        turns = [turn for key, turn in self._newest.items() if key[0] == file_id]
        for turn in turns:
            turn.body.cut(reason)
        for turn in turns:
            await turn.ended.wait()


class Joined(Generic[T]):
    """Work that several callers may ask for at once and that is done once; it ends even if they go away."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[T]] = {}

    async def do(self, key: str, work: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """(the answer, whether this call is the one that began the work). Raises: what `work` raises."""
        task = self._running.get(key)
        began = task is None
        if task is None:
            async def run() -> T:
                return await work()

            task = self._running[key] = asyncio.create_task(run())
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task), began

    def _ended(self, key: str, task: asyncio.Task[T]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # its callers have it, if any are left

    async def close(self) -> None:
        """Wait for all that runs."""
        await asyncio.gather(*self._running.values(), return_exceptions=True)
