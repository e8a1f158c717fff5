"""Keeps the store equal to the server: events as they come, `/sync` after every gap, pages of history on
demand.

An event is a hint: it is applied at once, and where its `rev` shows that something before it is missing, that
chat alone is caught up by `after_rev`. After each (re)connection, on `resync`, and now and then in between
(so that the token does not grow old), `/sync` answers exactly what changed. Another `epoch`, that is a
restored server, loads everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Literal

from hypersend_client.sdk import events
from hypersend_client.sdk.cache import Writer
from hypersend_client.sdk.chats import Chats, Messages
from hypersend_client.sdk.connection import Connection
from hypersend_client.sdk.errors import ApiError, HyperSendError, NotHyperSend, SignedOut
from hypersend_client.sdk.marks import Marks
from hypersend_client.sdk.models import Chat, Member, Message, User, text_of
from hypersend_client.sdk.retry import Random
from hypersend_client.sdk.store import Store
from hypersend_client.sdk.tasks import report
from hypersend_client.sdk.transport import Transport

log = logging.getLogger(__name__)

PAGE = 200
SPREAD_S = 10.0
BEHIND_S = 0.5
MARKS_S = 1.0
FRESH_S = 2.0
EVENTS_BETWEEN = 1000
SyncState = Literal["stale", "syncing", "current"]


class Sync:
    """state: 'stale' until `/sync` was answered on this connection. on_state is called when it changes."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        connection: Connection,
        chats: Chats,
        messages: Messages,
        *,
        rand: Random = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._transport = transport
        self._connection = connection
        self._chats = chats
        self._messages = messages
        self._rand = rand
        self._monotonic = monotonic
        self._inbox: list[events.Event] = []
        self._wake = asyncio.Event()
        self._current = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._backoff = transport.backoff(1.0, 60.0)
        self._sync_at: float | None = None
        self._behind_at: float | None = None
        self._marks = Marks(store, messages, connection, transport.backoff(1.0, 60.0), monotonic)
        self._behind: set[str] = set()
        self._unknown: set[str] = set()
        self._applied = 0
        self._history = asyncio.Lock()
        self.state: SyncState = "stale"
        self.on_state: Callable[[SyncState], None] = lambda state: None

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._unsubscribe = self._connection.on(self.take)
            if self._connection.state == "online":
                self._sync_at = self._monotonic()
            self._marks.start()
            self._wake.set()
            self._task = asyncio.create_task(self._run(), name="hypersend sync")
            self._task.add_done_callback(report)

    async def stop(self) -> None:
        self._unsubscribe()
        await self._marks.stop()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def wait_current(self) -> None:
        """Until `/sync` was answered in full since the last reconnection."""
        await self._current.wait()

    def request(self, delay_s: float = 0) -> None:
        """Sync soon, though nothing seems to be missing."""
        due = self._monotonic() + delay_s
        self._sync_at = due if self._sync_at is None else min(self._sync_at, due)
        self._wake.set()

    # What an app asks for

    async def history(self, chat_id: str, *, before_seq: int | None = None, limit: int = 100) -> list[Message]:
        """The newest `limit` messages below `before_seq`, from the cache as far as it goes, else from the
        server.

        Fewer than `limit`: the chat's beginning is reached. Raises: what the server's call raises, where the
        cache does not go that far.
        """
        async with self._history:
            while True:
                found = await self._store.messages(chat_id, before_seq=before_seq, limit=limit)
                low_seq = await self._store.low_seq(chat_id)
                if len(found) >= limit or low_seq is None or low_seq <= 1:
                    return found
                page = (await self._messages.page(chat_id, before_seq=low_seq, limit=min(PAGE, max(limit, 50)))).items
                low = min((m.seq for m in page), default=1)
                if len(page) < min(PAGE, max(limit, 50)):
                    low = 1  # nothing older is served
                await self._store.write(lambda w, page=page, low=low: w.older(chat_id, page, low))  # type: ignore[misc]

    async def members(self, chat_id: str, *, fresh: bool = False) -> list[Member]:
        """From the cache once they were asked for; events keep them up to date."""
        known = await self._store.read(
            lambda db: db.execute("SELECT members_known FROM chats WHERE id = ?", (chat_id,)).fetchone()
        )
        if known is None or not known[0] or fresh:
            found = await self._chats.members(chat_id)
            await self._store.write(lambda w: w.members(chat_id, found))
        return await self._store.members(chat_id)

    async def mark_read(self, chat_id: str, seq: int) -> None:
        """Here at once; the server hears of it within a second, or when there is a network again."""

        def work(writer: Writer) -> None:
            writer.read(chat_id, self._store.me, seq)
            writer.to_tell(chat_id, "read", seq)

        await self._store.write(work)
        self._marks.tell()

    # The loop

    def take(self, event: events.Event) -> None:
        """An event of the socket, or what a call of one's own was answered with, which no event repeats."""
        self._inbox.append(event)
        if isinstance(event, events.StateChanged) and event.state != "online":
            self._set("stale")
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._pause()
            try:
                await self._apply_inbox()
                if self._is_due(self._sync_at) and self._connection.state == "online":
                    self._sync_at = None
                    await self._sync_round()
                if self._is_due(self._behind_at) or self._unknown:
                    self._behind_at = None
                    await self._catch_up()
                self._backoff.reset()
            except SignedOut:
                return
            except HyperSendError as error:
                log.info("sync failed, trying again: %s", error)
                self._set("stale")
                self.request(self._backoff.next_s(error))
                self._wake.clear()

    async def _pause(self) -> None:
        online = self._connection.state == "online"
        due = [t for t in (self._sync_at, self._behind_at) if t is not None] if online else []
        wait_s = max(0.0, min(due) - self._monotonic()) if due else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        self._wake.clear()

    def _is_due(self, at: float | None) -> bool:
        return at is not None and at <= self._monotonic()

    async def _apply_inbox(self) -> None:
        while self._inbox:
            batch, self._inbox = self._inbox, []
            for event in batch:
                if isinstance(event, events.Ready):
                    await self._begin(event)
                elif isinstance(event, events.Resync):
                    self.request(self._rand() * SPREAD_S)  # all clients are told at once
            await self._apply(batch)
            self._applied += len(batch)
            if self._applied > EVENTS_BETWEEN:
                self._applied = 0
                self.request()

    async def _begin(self, ready: events.Ready) -> None:
        if await self._store.setting("epoch") != ready.epoch:

            def forget(writer: Writer) -> None:
                writer.setting("epoch", ready.epoch)
                writer.setting("token", None)

            await self._store.write(forget)
        self.request()
        self._marks.connected()

    async def _apply(self, batch: list[events.Event]) -> None:
        def work(writer: Writer) -> Writer:
            for event in batch:
                self._apply_one(writer, event)
            return writer

        writer = await self._store.write(work)
        self._note(writer)

    def _apply_one(self, writer: Writer, event: events.Event) -> None:
        match event:
            case events.MessageReceived(message):
                writer.message(message, live=True)
                self._mark_delivered(writer, message)
            case events.MessageChanged(message):
                writer.message(message, live=True)
            case events.MessageHidden(chat_id, message_id):
                writer.hidden(chat_id, message_id)
            case events.ChatChanged(chat):
                writer.chat(chat)
            case events.ChatGone(chat_id):
                writer.gone(chat_id)
            case events.MemberChanged(chat_id, member):
                writer.member(chat_id, member)
            case events.Read(chat_id, user_id, seq):
                writer.read(chat_id, user_id, seq)
            case events.Delivered(chat_id, user_id, seq):
                writer.delivered(chat_id, user_id, seq)
            case events.PresenceChanged(user_id, online, last_seen_at):
                writer.presence(user_id, online, last_seen_at)

    def _mark_delivered(self, writer: Writer, message: Message) -> None:
        if message.sender_id != self._store.me and message.kind != "system":
            writer.to_tell(message.chat_id, "delivered", message.seq)
            self._marks.tell(MARKS_S)

    def _note(self, writer: Writer) -> None:
        self._unknown |= writer.unknown
        self._behind |= writer.behind
        if writer.fresh and self.state == "current":
            # To a token from before it, a new chat is one to be loaded anew.
            self.request(FRESH_S)
        if self._behind and self._behind_at is None:
            # Events of one chat can overtake each other: what is missing may be just behind.
            self._behind_at = self._monotonic() + BEHIND_S

    # Catching up

    async def _sync_round(self) -> None:
        if self.state != "current":
            self._set("syncing")
        token = await self._store.setting("token")
        everything = token is None
        seen: set[str] = set()
        while True:
            body = {"limit": PAGE} if token is None else {"limit": PAGE, "token": token}
            try:
                answer = await self._transport.call("POST", "/sync", json=body, idempotent=True)
            except ApiError as refused:
                if refused.status in (400, 410, 422) and token is not None:  # a token it cannot read any more
                    token, everything, seen = None, True, set()
                    await self._store.write(lambda w: w.setting("token", None))
                    continue
                raise
            page = answer.data
            if not isinstance(page, dict) or not isinstance(page.get("token"), str):
                raise NotHyperSend(self._transport.url, "its /sync cannot be read")
            if page.get("more") is True and page["token"] == token:
                raise NotHyperSend(self._transport.url, "its /sync has no end")
            reset = set(_texts(page.get("reset")))
            chats = _each(Chat, page.get("chats"))
            fetched, gone = await self._missing(reset - {chat.id for chat in chats})
            chats += fetched
            gone |= set(_texts(page.get("gone")))
            everything = everything or page.get("full") is True
            if everything:
                reset |= {chat.id for chat in chats}
            seen |= {chat.id for chat in chats}
            token, more = page.get("token"), page.get("more") is True
            ends = await self._ends(chats, reset, 1 if everything else -1)
            last = None if more else token
            # A first round keeps its token until it is through: only then is it known which chats are no
            # more.
            saved = last if everything else token
            obsolete = seen if everything and not more else None
            writer = await self._store.write(
                lambda w, p=page, c=chats, r=reset, e=ends, g=gone, s=saved, o=obsolete: (  # type: ignore[misc]
                    self._apply_page(w, p, c, r, e, g, s, o)
                )
            )
            self._note(writer)
            if not more:
                break
        if self._connection.state == "online" and self._sync_at is None:
            self._set("current")

    def _apply_page(
        self,
        writer: Writer,
        page: dict[str, Any],
        chats: list[Chat],
        reset: set[str],
        ends: dict[str, tuple[list[Message], int]],
        gone: set[str],
        token: str | None,
        obsolete: set[str] | None,
    ) -> Writer:
        """One transaction, the token included: a page is applied whole or not at all."""
        for user in _each(User, page.get("users")):
            writer.user(user)
        for chat in chats:
            writer.chat(chat, reset=chat.id in reset, exact=True)
            if chat.id in ends:
                writer.older(chat.id, *ends[chat.id])
            if chat.id in reset and chat.unread and chat.last_message is not None:
                self._mark_delivered(writer, chat.last_message)
        for message in _each(Message, page.get("messages")):
            writer.message(message, live=False)
            self._mark_delivered(writer, message)
        for chat_id, member in _members(page.get("members")):
            writer.member(chat_id, member)
            if member.user.id == self._store.me:
                writer.read(chat_id, self._store.me, member.read_seq)
        for mark in hidden if isinstance(hidden := page.get("hidden"), list) else ():
            if isinstance(mark, dict) and len(found := _texts([mark.get("chat_id"), mark.get("message_id")])) == 2:
                writer.hidden(*found)
        if obsolete is not None:
            gone = gone | set(writer.chats_other_than(obsolete))
        for chat_id in gone:
            writer.gone(chat_id)
        if token is not None:
            writer.setting("token", token)
        return writer

    async def _ends(self, chats: list[Chat], reset: set[str], few: int) -> dict[str, tuple[list[Message], int]]:
        """The newest messages, and from which seq on they are whole, of chats that are loaded anew.

        Only of those with more than `few` messages here: somebody looks at them, and must not see them emptied, nor
        miss what came between. Each chat that was ever told of has its last message here, if it has any.
        """
        counts = await self._store.read(lambda db: dict(db.execute(
            "SELECT c.id, count(m.id) FROM chats c LEFT JOIN messages m ON m.chat_id = c.id GROUP BY c.id").fetchall()))
        ends = {}
        for chat in chats:
            if chat.id in reset and counts.get(chat.id, -1) > few:
                page = (await self._messages.page(chat.id, limit=100)).items
                low_seq = min((m.seq for m in page), default=1) if len(page) == 100 else 1
                # What changed since the chat was read comes by itself, and must then count as news.
                ends[chat.id] = [m for m in page if m.rev <= chat.rev], low_seq
        return ends

    async def _missing(self, chat_ids: set[str]) -> tuple[list[Chat], set[str]]:
        """These chats from the server, and those that are not there."""
        found, gone = [], set()
        for chat_id in sorted(chat_ids):
            try:
                found.append(await self._chats.get(chat_id))
            except ApiError as error:
                if error.status != 404:
                    raise
                gone.add(chat_id)
        return found, gone

    async def _catch_up(self) -> None:
        """Load what is missing of single chats; a failure leaves them on the list."""
        found, gone = await self._missing(self._unknown)
        writer = await self._store.write(lambda w: _put_chats(w, found, gone, reset=True))
        self._unknown.clear()
        for chat_id in sorted(self._behind):
            row = await self._store.read(
                lambda db, c=chat_id: db.execute(  # type: ignore[misc]
                    "SELECT synced_rev, json_extract(data, '$.rev') FROM chats WHERE id = ?", (c,)
                ).fetchone()
            )
            if row is not None and row[0] < row[1]:
                await self._catch_up_chat(chat_id, row[0])
            self._behind.discard(chat_id)
        self._note(writer)

    async def _catch_up_chat(self, chat_id: str, rev: int) -> None:
        chats, gone = await self._missing({chat_id})
        await self._store.write(lambda w: _put_chats(w, chats, gone, reset=False))
        while chats:
            page = await self._messages.page(chat_id, after_rev=rev, limit=PAGE)
            reached = page.rev if page.rev is not None else max((m.rev for m in page.items), default=rev)

            def work(writer: Writer, items: list[Message] = page.items, reached: int = reached) -> None:
                for message in items:
                    writer.message(message, live=False)
                    self._mark_delivered(writer, message)
                writer.complete_to(chat_id, reached)

            await self._store.write(work)
            if reached <= rev or len(page.items) < PAGE:
                return
            rev = reached

    def _set(self, state: SyncState) -> None:
        if state == "current":
            self._current.set()
        else:
            self._current.clear()
        if state != self.state:
            self.state = state
            self.on_state(state)


def _put_chats(writer: Writer, chats: list[Chat], gone: set[str], *, reset: bool) -> Writer:
    for chat in chats:
        writer.chat(chat, reset=reset, exact=True)
    for chat_id in gone:
        writer.gone(chat_id)
    return writer


def _each(kind: Any, items: Any) -> list[Any]:
    """Those that can be read: one that cannot must not stop the rest."""
    found = []
    for item in items if isinstance(items, list) else ():
        try:
            found.append(kind.from_json(item))
        except ValueError as error:
            log.warning("an entry of /sync cannot be read: %s", error)
    return found


def _texts(items: Any) -> list[str]:
    found = []
    for item in items if isinstance(items, list) else ():
        with contextlib.suppress(ValueError):
            found.append(text_of(item))
    return found


def _members(items: Any) -> list[tuple[str, Member]]:
    """`{chat_id, member}` or a Member with its `chat_id`."""
    found = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and _texts([item.get("chat_id")]):
            nested = item.get("member")
            found += [
                (item["chat_id"], member) for member in _each(Member, [nested if isinstance(nested, dict) else item])
            ]
    return found
