"""Which sessions live, kept in memory so that a request need not ask the database, and when they were used.

An entry goes when its session ends (`SessionsEnded` on the bus, at once) and when its person changes. What other
processes and commands changed is found by polling every POLL_S; sessions that it finds ended are published, so
that their sockets close as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts, SessionUse
from hypersend_server.realtime.events import AnyEvent, Bus, SessionsEnded

POLL_S = 2.0
SEEN_EVERY_MS = 60_000
_MAX_ENTRIES = 20_000
log = logging.getLogger(__name__)


class Entry:
    """A live session. generation, noted_at: of the newest use that was noted."""

    __slots__ = ("generation", "is_admin", "noted_at", "user_id")

    def __init__(self, user_id: str, is_admin: bool) -> None:
        self.user_id = user_id
        self.is_admin = is_admin
        self.generation = 0
        self.noted_at = 0


class LiveSessions:
    def __init__(self, accounts: Accounts, bus: Bus, clock: Clock, *, poll_s: float = POLL_S) -> None:
        self._accounts = accounts
        self._bus = bus
        self._clock = clock
        self._poll_s = poll_s
        self._entries: dict[str, Entry] = {}
        self._ended: dict[str, None] = {}  # ids that this process has heard of, oldest first
        self._changes = 0  # counts what might have made an answer of the database old while it was on its way
        self._uses: list[SessionUse] = []
        self._writing: asyncio.Task[None] | None = None
        self._polling: asyncio.Task[None] | None = None
        self._stamp: int | None = None
        bus.subscribe(self._on_event)

    async def start(self) -> None:
        """Raises: `metadata_unavailable`."""
        self._stamp = (await self._accounts.changed_since(None)).stamp
        self._entries.clear()
        self._polling = asyncio.create_task(self._poll())

    async def close(self) -> None:
        task, self._polling = self._polling, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.flush()

    async def require(self, session_id: str, user_id: str) -> Entry:
        """Raises: `session_ended`, `metadata_unavailable`."""
        entry = self._entries.get(session_id)
        if entry is None:
            changes = self._changes
            live = await self._accounts.live_session(session_id)
            if live is None:
                raise HyperSendError("session_ended")
            entry = Entry(live.user.id, live.user.is_admin)
            if changes == self._changes:
                if len(self._entries) >= _MAX_ENTRIES:
                    del self._entries[next(iter(self._entries))]
                self._entries[session_id] = entry
        if entry.user_id != user_id:
            raise HyperSendError("token_invalid")
        return entry

    def note(self, entry: Entry, session_id: str, generation: int, address: Callable[[], str]) -> None:
        """A token of this generation was presented: written soon, once a pair and once a minute."""
        now = self._clock()
        if generation > entry.generation or now - entry.noted_at >= SEEN_EVERY_MS:
            entry.generation = max(generation, entry.generation)
            entry.noted_at = now
            self._uses.append(SessionUse(session_id, generation, now, address()))
            if self._writing is None:
                self._writing = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """What was noted is in the database."""
        if self._writing is not None:
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        try:
            while self._uses:
                uses, self._uses = self._uses, []
                await self._accounts.note_uses(uses)
        except HyperSendError as error:
            log.warning("when sessions were used was not written: %s", error)
        finally:
            self._writing = None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.poll()
            except HyperSendError as error:
                log.warning("sessions that others ended are not seen: %s", error)

    async def poll(self) -> None:
        """Hear of what other processes and commands changed."""
        found = await self._accounts.changed_since(self._stamp)
        self._stamp = found.stamp
        if found.users:
            self.forget(found.users)
        news: dict[str, list[str]] = {}
        for session_id, user_id in found.ended:
            if session_id not in self._ended:
                news.setdefault(user_id, []).append(session_id)
        for user_id, session_ids in news.items():
            self._bus.publish(SessionsEnded(user_id, session_ids))

    def forget(self, user_ids: Collection[str]) -> None:
        """These people changed: what they may do is read anew."""
        changed = set(user_ids)
        self._changes += 1
        self._entries = {key: entry for key, entry in self._entries.items() if entry.user_id not in changed}

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, SessionsEnded):
            self._changes += 1
            for session_id in event.session_ids:
                self._entries.pop(session_id, None)
                self._ended[session_id] = None
                if len(self._ended) > _MAX_ENTRIES:
                    del self._ended[next(iter(self._ended))]
