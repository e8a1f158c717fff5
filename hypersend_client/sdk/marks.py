"""Tells the server how far each chat came here and was read, until it says that it has that written down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Literal

from hypersend_client.sdk.chats import Messages
from hypersend_client.sdk.connection import Connection
from hypersend_client.sdk.errors import ApiError, HyperSendError, SignedOut
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.store import Store
from hypersend_client.sdk.tasks import report

log = logging.getLogger(__name__)

AT_ONCE = 32  # the server answers a second mark of a chat up to a second later; those of other chats need not wait


class Marks:
    """What is to be told is in the store's `marks`, so that it outlives the app."""

    def __init__(
        self,
        store: Store,
        messages: Messages,
        connection: Connection,
        backoff: Backoff,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._messages = messages
        self._connection = connection
        self._backoff = backoff
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None or self._task.done():
            self.tell()
            self._task = asyncio.create_task(self._run(), name="hypersend marks")
            self._task.add_done_callback(report)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def tell(self, delay_s: float = 0) -> None:
        """Tell soon, or when there is a network again."""
        if self._at is None:
            self._at = self._monotonic() + delay_s
        self._wake.set()

    def connected(self) -> None:
        """Tell at once, however often it failed before."""
        self._backoff.reset()
        self._at = None
        self.tell()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._wake.wait()
            self._wake.clear()
            if self._wait_s() != 0:
                continue
            self._at = None
            try:
                await self._tell_all()
                self._backoff.reset()
            except SignedOut:
                return
            except HyperSendError as error:
                log.info("marks were not told, trying again: %s", error)
                self._at = self._monotonic() + self._backoff.next_s(error)

    def _wait_s(self) -> float | None:
        if self._at is None or self._connection.state != "online":
            return None
        return max(0.0, self._at - self._monotonic())

    async def _tell_all(self) -> None:
        marks = await self._store.read(lambda db: db.execute("SELECT chat_id, kind, seq FROM marks").fetchall())
        reads = {chat_id: seq for chat_id, kind, seq in marks if kind == "read"}
        for start in range(0, len(marks), AT_ONCE):
            few = marks[start : start + AT_ONCE]
            told = await asyncio.gather(
                *(self._tell(chat_id, kind, seq, reads.get(chat_id, 0)) for chat_id, kind, seq in few),
                return_exceptions=True,
            )
            for error in told:
                if error is not None:
                    raise error

    async def _tell(self, chat_id: str, kind: Literal["read", "delivered"], seq: int, read_seq: int) -> None:
        if kind == "read" or read_seq < seq:
            try:
                await self._messages.mark(chat_id, kind, seq)
            except ApiError as error:
                if error.retryable:
                    raise
        await self._store.write(
            lambda w: w.db.execute("DELETE FROM marks WHERE chat_id = ? AND kind = ? AND seq = ?", (chat_id, kind, seq))
        )
