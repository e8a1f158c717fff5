"""Who is online: from a person's first socket until some seconds after the last one closed.

Only sockets that watch a person hear of them, and only where their owner may see it at that moment. State
comes from `Presence` events of the bus, this process's own included. A process that begins to hear events asks
with `Joined` who is at the others; people of a process that has gone are forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol

from hypersend_server.clock import Clock
from hypersend_server.realtime import wire
from hypersend_server.realtime.connection import Connection
from hypersend_server.realtime.events import AnyEvent, Bus, Joined, PeopleHere, Presence

GRACE_S = 5.0  # a phone that changes its network is not seen to leave
ANSWER_S = 0.5  # several processes that join together, as when Redis comes back, get one answer

log = logging.getLogger(__name__)

Visible = Callable[[str, Collection[str]], Awaitable[Mapping[str, int | None]]]
"""(viewer_id, user_ids) → those whose presence the viewer may see, with their stored last_seen_at (Unix ms).

They share a chat with the viewer, and neither blocks the other.
"""

RecordSeen = Callable[[Collection[str], int], Awaitable[None]]
"""(user_ids, at): keep `at` (Unix ms) as last_seen_at of these people."""


class PresenceBoard(Protocol):
    """What hub and socket need of presence."""

    def opened(self, user_id: str) -> None:
        """The first socket of this person opened here."""

    def closed(self, user_id: str) -> None:
        """The last one closed."""

    async def watch(self, connection: Connection, user_ids: Collection[str]) -> None:
        """Tell this socket about these people, now and at each change; instead of those it watched before."""

    def forget(self, connection: Connection) -> None:
        """The socket is gone."""


class PresenceTracker:
    """`PresenceBoard` over the event bus."""

    def __init__(
        self, bus: Bus, visible: Visible, record_seen: RecordSeen, clock: Clock, grace_s: float = GRACE_S,
        process: str = "",
    ) -> None:
        self._bus = bus
        self._visible = visible
        self._record_seen = record_seen
        self._clock = clock
        self._grace_s = grace_s
        self._process = process
        self._here: set[str] = set()
        self._online: dict[str, tuple[str, ...]] = {}  # person → processes where they have a socket
        self._answering: asyncio.TimerHandle | None = None
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._watched: dict[Connection, frozenset[str]] = {}
        self._watchers: dict[str, set[Connection]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        bus.subscribe(self._on_event)

    def online(self, user_id: str) -> bool:
        return user_id in self._online

    @property
    def online_count(self) -> int:
        return len(self._online)

    def opened(self, user_id: str) -> None:
        self._here.add(user_id)
        leaving = self._leaving.pop(user_id, None)
        if leaving is not None:
            leaving.cancel()
        else:
            self._bus.publish(Presence(user_id, True, self._clock(), self._process))

    def closed(self, user_id: str) -> None:
        loop = asyncio.get_running_loop()
        self._leaving[user_id] = loop.call_later(self._grace_s, self._left, user_id, self._clock())

    def _left(self, user_id: str, at: int) -> None:
        self._leaving.pop(user_id, None)
        self._here.discard(user_id)
        self._bus.publish(Presence(user_id, False, at, self._process))
        self._start(self._record([user_id], at))

    async def _record(self, user_ids: Collection[str], at: int) -> None:
        try:
            await self._record_seen(user_ids, at)
        except Exception:
            # Nobody waits for it, and the next departure writes it again.
            log.exception("last_seen_at of %d people was not written", len(user_ids))

    async def watch(self, connection: Connection, user_ids: Collection[str]) -> None:
        self.forget(connection)
        if not user_ids or connection.close_code is not None:
            return
        # Before asking: a change that comes in between is told too.
        self._watched[connection] = watched = frozenset(user_ids)
        for user_id in watched:
            self._watchers.setdefault(user_id, set()).add(connection)
        visible = await self._visible(connection.user_id, watched)
        if self._watched.get(connection) is watched:
            for user_id, seen_at in visible.items():
                connection.send_json(wire.presence(user_id, self.online(user_id), seen_at))

    def forget(self, connection: Connection) -> None:
        for user_id in self._watched.pop(connection, ()):
            watchers = self._watchers[user_id]
            watchers.discard(connection)
            if not watchers:
                del self._watchers[user_id]

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, Presence):
            if event.online:
                self._came(event.user_id, event.process, event.last_seen_at)
            else:
                self._went(event.user_id, event.process, event.last_seen_at)
        elif isinstance(event, PeopleHere):
            now, here = self._clock(), set(event.user_ids)
            for user_id in self._people_of(event.process):
                if user_id not in here:
                    self._went(user_id, event.process, now)
            for user_id in here:
                if event.process not in self._online.get(user_id, ()):
                    self._came(user_id, event.process, now)
        elif isinstance(event, Joined) and self._answering is None:
            self._answering = asyncio.get_running_loop().call_later(ANSWER_S, self._answer)

    def _answer(self) -> None:
        self._answering = None
        self._bus.publish(PeopleHere(self._process, sorted(self._here)))

    def _people_of(self, process: str) -> list[str]:
        return [user_id for user_id, processes in self._online.items() if process in processes]

    def _came(self, user_id: str, process: str, at: int) -> None:
        processes = self._online.get(user_id, ())
        if process not in processes:
            self._online[user_id] = (*processes, process)
        if user_id in self._watchers:
            self._start(self._tell(user_id, at))

    def _went(self, user_id: str, process: str, at: int) -> None:
        rest = tuple(other for other in self._online.get(user_id, ()) if other != process)
        if rest:
            self._online[user_id] = rest  # they have a socket elsewhere
            return
        self._online.pop(user_id, None)
        if user_id in self._watchers:
            self._start(self._tell(user_id, at))

    def process_ended(self, process: str, seen_at: int | None) -> None:
        """Another server process has gone. seen_at: when, in Unix ms, where it could not write it itself."""
        people = self._people_of(process)
        at = self._clock() if seen_at is None else seen_at
        for user_id in people:
            self._went(user_id, process, at)
        lost = [user_id for user_id in people if user_id not in self._online]
        if lost and seen_at is not None:
            self._start(self._record(lost, seen_at))

    async def _tell(self, user_id: str, seen_at: int) -> None:
        viewers: dict[str, list[Connection]] = {}
        for connection in self._watchers.get(user_id, ()):
            viewers.setdefault(connection.user_id, []).append(connection)
        for viewer_id, connections in viewers.items():
            try:
                if user_id not in await self._visible(viewer_id, [user_id]):
                    continue
            except Exception:
                log.exception("presence of one person was not told")
                continue
            # The state of this moment: what was told last is then always true.
            frame = wire.presence(user_id, self.online(user_id), seen_at)
            for connection in connections:
                if connection in self._watchers.get(user_id, ()):
                    connection.send_json(frame)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Write when those who are still here were seen last: now."""
        if self._answering is not None:
            self._answering.cancel()
        for leaving in self._leaving.values():
            leaving.cancel()
        self._leaving.clear()
        if self._here:
            await self._record(sorted(self._here), self._clock())
            self._here.clear()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
