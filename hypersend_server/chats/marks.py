"""Delivered and read marks, written at most once a second a member and chat.

The first mark is written and told at once; those within the next second wait and are written together when
it is over. Whoever asks is answered only then, so that a client may forget a mark that was answered.
"""

from __future__ import annotations

import asyncio
import logging

from hypersend_server.chats.publisher import Publisher
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import Chats

INTERVAL_S = 1.0
CLOSE_S = 3.0
log = logging.getLogger(__name__)


class _Recent:
    """Marks of one member and chat that was written within the last second. waiting: what those get who wait for
    them to be written: why they were not, or None."""

    __slots__ = ("delivered_seq", "read_seq", "timer", "waiting")

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.delivered_seq = 0
        self.read_seq = 0
        self.timer = timer
        self.waiting: asyncio.Future[HyperSendError | None] | None = None

    def has_any(self) -> bool:
        return bool(self.delivered_seq or self.read_seq or self.waiting)

    def take(self) -> tuple[int, int, asyncio.Future[HyperSendError | None] | None]:
        taken = (self.delivered_seq, self.read_seq, self.waiting)
        self.delivered_seq = self.read_seq = 0
        self.waiting = None
        return taken


class MarkWriter:
    def __init__(self, chats: Chats, publisher: Publisher, interval_s: float = INTERVAL_S) -> None:
        self._chats = chats
        self._publisher = publisher
        self._interval_s = interval_s
        self._recent: dict[str, dict[str, _Recent]] = {}  # by person, then chat
        self._tasks: set[asyncio.Task[None]] = set()

    async def mark(
        self, user_id: str, chat_id: str, *, delivered_seq: int = 0, read_seq: int = 0, until_written: bool = True
    ) -> None:
        """Raises: `not_found`; with `until_written` also why a mark that waited was not written."""
        own = self._recent.setdefault(user_id, {})
        recent = own.get(chat_id)
        if recent is not None:
            known = self._publisher.known(chat_id)
            if known is not None and user_id not in known.user_ids:
                await self._write(user_id, chat_id, delivered_seq, read_seq)  # who was removed meanwhile is told so
                return
            recent.delivered_seq = max(recent.delivered_seq, delivered_seq)
            recent.read_seq = max(recent.read_seq, read_seq)
            if until_written:
                if recent.waiting is None:
                    recent.waiting = asyncio.get_running_loop().create_future()
                # shield: others wait for it too
                if (error := await asyncio.shield(recent.waiting)) is not None:
                    raise error
            return
        own[chat_id] = _Recent(self._timer(user_id, chat_id))
        try:
            await self._write(user_id, chat_id, delivered_seq, read_seq)
        except BaseException:
            self._forget(user_id, chat_id)
            raise

    async def flush(self, user_id: str) -> None:
        """Write what waits of this person, who is about to look."""
        # Each in a task: whoever looks may leave, and what is written is to be told all the same.
        writing = [self._write_soon(user_id, chat_id, recent)
                   for chat_id, recent in self._recent.get(user_id, {}).items() if recent.has_any()]
        if writing:
            await asyncio.wait(writing)

    async def close(self) -> None:
        """Write what waits, unless the database holds it up."""
        for user_id, own in self._recent.items():
            for chat_id, recent in own.items():
                recent.timer.cancel()
                self._write_soon(user_id, chat_id, recent)
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
        self._recent.clear()

    def _timer(self, user_id: str, chat_id: str) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(self._interval_s, self._due, user_id, chat_id)

    def _due(self, user_id: str, chat_id: str) -> None:
        recent = self._recent.get(user_id, {}).get(chat_id)
        if recent is None:
            return
        if not recent.has_any():
            self._forget(user_id, chat_id)
            return
        recent.timer = self._timer(user_id, chat_id)
        self._write_soon(user_id, chat_id, recent)

    def _write_soon(self, user_id: str, chat_id: str, recent: _Recent) -> asyncio.Task[None]:
        task = asyncio.create_task(self._write_late(user_id, chat_id, *recent.take()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _forget(self, user_id: str, chat_id: str) -> None:
        own = self._recent.get(user_id, {})
        recent = own.pop(chat_id, None)
        if recent is not None:
            recent.timer.cancel()
            if recent.has_any():  # it waited for a first write that failed, and is answered for itself
                self._write_soon(user_id, chat_id, recent)
        if not own:
            self._recent.pop(user_id, None)

    async def _write_late(
        self, user_id: str, chat_id: str, delivered_seq: int, read_seq: int,
        waiting: asyncio.Future[HyperSendError | None] | None,
    ) -> None:
        failed: HyperSendError | None = HyperSendError("metadata_unavailable", retry_after_s=5)  # where this is ended
        try:
            if delivered_seq or read_seq:
                await self._write(user_id, chat_id, delivered_seq, read_seq)
            failed = None
        except HyperSendError as error:
            failed = error
            if waiting is None and error.code != "not_found":  # who left the chat meanwhile needs no mark
                log.warning("a mark was not written: %s", error)
        finally:
            if waiting is not None:
                waiting.set_result(failed)

    async def _write(self, user_id: str, chat_id: str, delivered_seq: int, read_seq: int) -> None:
        known = self._publisher.known(chat_id)
        marks = await self._chats.set_marks(
            chat_id, user_id, delivered_seq, read_seq, -1 if known is None else known.members_rev
        )
        await self._publisher.marked(chat_id, user_id, marks, known)
