"""Who is connected to this process, and how events of the bus reach them.

An event is framed once; each socket gets the same bytes on its queue. What looks different to each person (a
chat) is rendered for connected people only, and changes that follow each other quickly are rendered once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hypersend_server.realtime import wire
from hypersend_server.realtime.connection import Connection, text_frame
from hypersend_server.realtime.events import (
    Announcement,
    AnyEvent,
    Bus,
    ChatChanged,
    ChatGone,
    Frame,
    Resync,
    SessionsEnded,
)
from hypersend_server.realtime.presence import PresenceBoard

HEARTBEAT_S = 30.0
MAX_SESSION_SOCKETS = 16
MAX_USER_SOCKETS = 128  # over all sessions of a person
STOP_TIMEOUT_S = 2.0
_STOPPING = "the server is stopping"

RenderChat = Callable[[str, str], Awaitable[Any]]
"""(chat_id, user_id) → the Chat as this person sees it (a resource, or bytes of JSON); None: no access."""

log = logging.getLogger(__name__)


class Hub:
    """heartbeat_s: between two pings of one socket; one that was silent from one to the next is cut."""

    def __init__(
        self, bus: Bus, render_chat: RenderChat, presence: PresenceBoard, heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._render_chat = render_chat
        self._presence = presence
        self._heartbeat_s = heartbeat_s
        self._by_user: dict[str, tuple[Connection, ...]] = {}
        self._by_session: dict[str, tuple[Connection, ...]] = {}
        # Every socket, signed in or not, by the moment of its heartbeat: one timer for all of them.
        self._slots: list[set[Connection]] = [set() for _ in range(30)]
        self._next_slot = 0
        self._changed_chats: dict[str, set[str]] = {}
        self._rendering: asyncio.Task[None] | None = None
        self._heartbeats: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self.stopping = False
        self.sockets = 0
        bus.subscribe(self._on_event)

    # Sockets

    def opened(self, connection: Connection) -> None:
        """A socket whose owner is not known yet."""
        self._next_slot = (self._next_slot + 1) % len(self._slots)
        connection.slot = self._next_slot
        self._slots[connection.slot].add(connection)
        self.sockets += 1
        self._empty.clear()
        if self.stopping:
            connection.close(wire.STOPPING, _STOPPING)

    def signed_in(self, connection: Connection, user_id: str, session_id: str) -> None:
        """From now on it gets its owner's events."""
        connection.user_id, connection.session_id = user_id, session_id
        others = self._by_session.get(session_id, ())
        self._by_session[session_id] = (*others, connection)
        mine = self._by_user.get(user_id, ())
        self._by_user[user_id] = (*mine, connection)
        if not mine:
            self._presence.opened(user_id)
        if len(others) >= MAX_SESSION_SOCKETS:
            others[0].close(wire.TOO_MANY, "too many sockets of one session")
        elif len(mine) >= MAX_USER_SOCKETS:
            mine[0].close(wire.TOO_MANY, "too many sockets of one person")

    def closed(self, connection: Connection) -> None:
        connection.ended()
        self._slots[connection.slot].discard(connection)
        self.sockets -= 1
        if not self.sockets:
            self._empty.set()
        if not connection.user_id:
            return
        self._presence.forget(connection)
        _remove(self._by_session, connection.session_id, connection)
        _remove(self._by_user, connection.user_id, connection)
        if connection.user_id not in self._by_user:
            self._presence.closed(connection.user_id)

    def connected(self, user_id: str) -> bool:
        """Whether this person has a socket here. Whether they are online: PresenceTracker."""
        return user_id in self._by_user

    def most_waiting(self) -> int:
        """Frames in the fullest queue of all."""
        return max((connection.waiting for slot in self._slots for connection in slot), default=0)

    # Events

    def resync(self) -> None:
        """Something may have been missed: every client of this process syncs."""
        self.deliver(self._by_user, wire.RESYNC)

    def deliver(self, user_ids: Iterable[str], payload: bytes, except_session: str | None = None) -> None:
        """Queue one frame (its JSON) for every socket of these people."""
        if except_session is not None and len(self._by_session.get(except_session, ())) > 1:
            except_session = None  # one of its sockets knows by an ack; the others, a second program or tab, do not
        frame = text_frame(payload)
        by_user = self._by_user
        for user_id in user_ids:
            for connection in by_user.get(user_id, ()):
                if except_session is None or connection.session_id != except_session:
                    connection.send(frame)

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, Frame):
            self.deliver(event.user_ids, event.frame, event.except_session)
        elif isinstance(event, ChatChanged):
            self._changed_chats.setdefault(event.chat_id, set()).update(event.user_ids)
            if self._rendering is None:
                self._rendering = asyncio.get_running_loop().create_task(self._render_chats())
        elif isinstance(event, ChatGone):
            self.deliver(event.user_ids, wire.chat_gone(event.chat_id))
        elif isinstance(event, SessionsEnded):
            for session_id in event.session_ids:
                for connection in self._by_session.get(session_id, ()):
                    connection.close(wire.SESSION_ENDED, "the session has ended")
        elif isinstance(event, Announcement):
            self.deliver(self._by_user, event.frame)
        elif isinstance(event, Resync):
            self.resync()

    async def _render_chats(self) -> None:
        try:
            while self._changed_chats:
                chat_id = next(iter(self._changed_chats))
                user_ids = self._changed_chats.pop(chat_id)
                for user_id in user_ids & self._by_user.keys():
                    chat = await self._render_chat(chat_id, user_id)
                    if chat is not None:
                        self.deliver((user_id,), wire.chat(chat))
        except Exception:
            # Clients learn of what was not rendered by their next sync: tell them to.
            log.exception("a changed chat could not be shown")
            self._changed_chats.clear()
            self.resync()
        finally:
            self._rendering = None

    # Life

    async def start(self) -> None:
        self._heartbeats = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            for slot in self._slots:
                await asyncio.sleep(self._heartbeat_s / len(self._slots))
                for connection in list(slot):
                    connection.heartbeat()

    async def close_all(self, code: int = wire.STOPPING) -> None:
        """Close every socket and take no more. Those that do not answer within 2 s are cut."""
        self.stopping = True
        for slot in self._slots:
            for connection in list(slot):
                connection.close(code, _STOPPING)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._empty.wait()
        except TimeoutError:  # phones that sleep, mostly
            for slot in self._slots:
                for connection in slot:
                    connection.abort()

    async def close(self) -> None:
        for task in (self._heartbeats, self._rendering):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])


def _remove(table: dict[str, tuple[Connection, ...]], key: str, connection: Connection) -> None:
    rest = tuple(other for other in table[key] if other is not connection)
    if rest:
        table[key] = rest
    else:
        del table[key]
