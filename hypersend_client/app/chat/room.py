"""One open conversation: which messages are shown, what is being answered or changed, who types, what is read.

The messages shown are a window of `seq`. At the end of the chat the window follows what comes; away from it,
it stays where it is, so that nothing moves under a finger, and `below` counts what came. Pages of 100 are added
at the end that the list does not begin at; see `blocks` for how it is turned. What lies within the device's cache is
read from there, so the conversation opens without a network; an old place that is jumped to is read from the server.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Literal

import flet as ft

from hypersend_client.app.chat import model
from hypersend_client.app.chat.blocks import Block, Plan, blocks
from hypersend_client.app.state import AppState
from hypersend_client.sdk import Changes, Chat, Entry, HyperSendError, Member, Message, SignedOut
from hypersend_client.sdk.events import Event, MessageChanged, MessageHidden

PAGE = 100
MOST = 2 * PAGE  # in a window that follows what comes; then all but the last page go
NEAR = 18  # as many lines as a screen shows
BEFORE = 2  # shown above a place that is jumped to
TYPING_EVERY_S = 3.0
MAX_TEXT = 8000
HIGHLIGHT_S = 1.6


class Room(ft.Observable):
    """status: `loading` until something can be shown; `failed` with `error`.

    lines: the newest first; blocks: the same. forward: the list begins with its oldest line, else with its newest.
    place: renewed whenever the window was put elsewhere, so that the list begins at its first line again. offset:
    where to scroll to, each time that `moves` is renewed. below: unread messages further down. highlight: the
    message that was jumped to. blocked: by oneself; None for unknown.
    """

    def __init__(self, app: AppState, chat_id: str, *, zone: tzinfo | None = None) -> None:
        self.app = app
        self.chat_id = chat_id
        self.status: Literal["loading", "ready", "failed"] = "loading"
        self.error: HyperSendError | None = None
        self.chat: Chat | None = None
        self.lines: tuple[model.Line, ...] = ()
        self.blocks: tuple[Block, ...] = ()
        self.forward = False
        self.moves = 0
        self.offset = 0.0
        self.blocked: bool | None = None
        self.has_older = False
        self.has_newer = False
        self.below = 0
        self.place = 0
        self.highlight = ""
        self.reply: Message | None = None
        self.editing: Message | None = None
        self.at_end = True
        self.loading_older = False
        self.loading_newer = False
        self._saw = 0
        self._zone = zone
        self._messages: list[Message] = []
        self._entries: list[Entry] = []
        self._members: list[Member] = []
        self._quoted: dict[str, Message] = {}
        self._sought: set[str] = set()
        self._unread_after: int | None = None
        self._undo: list[Callable[[], None]] = []
        self._lock = asyncio.Lock()
        self._stale = False
        self._follows = True  # the window ends at the end of the chat, and grows with it
        self._typed_at = 0.0

    # Opening

    async def open(self, *, at: int | None = None) -> None:
        """at: the `seq` to begin at; else the first unread message, else the end."""
        if not self._undo:
            self._undo = [self.app.on_changes(self._on_changes), self.app.on_event(self._on_event)]
        self.status, self.error = "loading", None
        try:
            hs = self.app.hs
            self.chat = await hs.store.chat(self.chat_id) or await hs.chats.get(self.chat_id)
            self._unread_after = self.chat.read_seq if self.chat.unread else None
            await self._learn_members(await hs.store.members(self.chat_id))
            self._entries = await hs.outbox.entries(self.chat_id)
            if at is None and self.chat.unread > NEAR:
                at = self.chat.read_seq + 1
            await self._put(at)
            await self._show()
            self.status = "ready"
        except SignedOut:
            return  # the sign-in screen is on its way
        except HyperSendError as error:
            self.error = error
            self.status = "failed"
            return
        draft = self.app.drafts.get(self.chat_id)
        if draft is not None and draft.reply_to:
            self.reply = await hs.store.message(draft.reply_to)
        self.app.spawn(self._fresh_members())
        if self.chat.peer is not None:
            self.app.spawn(self._learn_block(self.chat.peer.id))
        await self.seen()

    def close(self) -> None:
        for undo in self._undo:
            undo()
        self._undo = []

    async def _fresh_members(self) -> None:
        await self._learn_members(await self.app.hs.sync.members(self.chat_id))
        await self._refresh()  # what changed while it was opened, too

    async def _learn_members(self, members: Sequence[Member]) -> None:
        self._members = list(members)
        self.app.people.add(*(member.user for member in members))

    @property
    def is_open(self) -> bool:
        return bool(self._undo)

    @property
    def is_group(self) -> bool:
        return self.chat is not None and self.chat.kind == "group"

    @property
    def may_moderate(self) -> bool:
        """Delete the messages of others for everyone."""
        return self.is_group and self.chat is not None and self.chat.role in ("owner", "admin")

    # The window

    @property
    def _low(self) -> int:
        return self._messages[0].seq if self._messages else 1

    @property
    def _high(self) -> int:
        return self._messages[-1].seq if self._messages else 0

    async def _before(self, seq: int) -> list[Message]:
        """The newest page below `seq`."""
        hs = self.app.hs
        low = await hs.store.low_seq(self.chat_id)
        if low is None or low <= 1 or seq > low:
            return await hs.sync.history(self.chat_id, before_seq=seq, limit=PAGE)
        return (await hs.messages.page(self.chat_id, before_seq=seq, limit=PAGE)).items

    async def _after(self, seq: int) -> tuple[list[Message], bool]:
        """The oldest page above `seq`, and whether the chat ends with it."""
        hs = self.app.hs
        chat = await hs.store.chat(self.chat_id) or self.chat
        newest = chat.seq if chat is not None else seq
        low = await hs.store.low_seq(self.chat_id)
        if low is not None and seq + 1 >= low:
            while True:  # a whole page may have been deleted for me
                top = seq + PAGE
                found = [
                    m for m in await hs.store.messages(self.chat_id, before_seq=top + 1, limit=PAGE) if m.seq > seq
                ]
                if found or top >= newest:
                    return found, top >= newest
                seq = top
        page = (await hs.messages.page(self.chat_id, after_seq=seq, limit=PAGE)).items
        return page, len(page) < PAGE or page[-1].seq >= newest

    async def _put(self, seq: int | None) -> None:
        """Put the window where `seq` is near its top, or at the end."""
        newest = self.chat.seq if self.chat is not None else 0
        if seq is None or newest - seq < NEAR:
            self._messages = await self.app.hs.sync.history(self.chat_id, limit=PAGE)
            self.has_older = len(self._messages) >= PAGE
            self._follows = self.at_end = True
            self.forward = False
        else:
            first = max(1, seq - BEFORE)
            self._messages, self._follows = await self._after(first - 1)
            self.has_older = first > 1
            self.at_end = False
            self.forward = True

    async def older(self) -> None:
        """Add a page at the top."""
        if not self.has_older or self.loading_older or not self._messages:
            return
        self.loading_older = True
        try:
            async with self._lock:
                page = await self._before(self._low)
                self.has_older = len(page) >= PAGE
                self._messages = [*page, *self._messages]
            await self._show()
        finally:
            self.loading_older = False

    async def newer(self) -> None:
        """Add a page at the bottom."""
        if not self.has_newer or self.loading_newer or not self._messages:
            return
        self.loading_newer = True
        try:
            async with self._lock:
                page, self._follows = await self._after(self._high)
                self._messages = [*self._messages, *page]
            await self._show()
        finally:
            self.loading_newer = False

    def reframe(self, plan: Plan, *, forward: bool) -> None:
        """Keep these messages alone, and let the list begin at this end."""
        kept = [message for message in self._messages if plan.first <= message.seq <= plan.last]
        self.has_older = self.has_older or kept[:1] != self._messages[:1]
        self._follows = self._follows and kept[-1:] == self._messages[-1:]
        self._messages = kept
        self.forward, self.offset = forward, plan.offset
        self._count()
        self._draw()
        self.moves += 1

    @property
    def follows(self) -> bool:
        """The window ends with the chat's newest message, but for those that came since it was left."""
        return self._follows

    async def jump_to_end(self) -> None:
        async with self._lock:
            await self._put(None)
        await self._show()
        self.place += 1
        await self.seen()

    async def jump_to(self, message_id: str) -> None:
        """Show a message near the top and mark it for a moment."""
        hs = self.app.hs
        known = {message.id: message for message in self._messages}
        target = known.get(message_id) or self._quoted.get(message_id) or await hs.store.message(message_id)
        if target is not None and target.chat_id == self.chat_id:
            await self.jump_to_seq(target.seq, message_id)

    async def jump_to_seq(self, seq: int, message_id: str = "") -> None:
        async with self._lock:
            await self._put(seq)
        await self._show()
        self.place += 1
        self.highlight = message_id or next((m.id for m in self._messages if m.seq == seq), "")
        asyncio.get_running_loop().call_later(HIGHLIGHT_S, self._fade, self.highlight)

    def _fade(self, message_id: str) -> None:
        if self.highlight == message_id:
            self.highlight = ""

    def scrolled(self, from_end: float, from_start: float, threshold: float) -> None:
        """The list was scrolled. from_end, from_start: pixels to its bottom and to its top."""
        is_near = from_end <= threshold
        self.at_end = is_near and self._follows
        if not self.forward and from_start <= threshold * 4:
            self.app.spawn(self.older())
        if self.forward and from_end <= threshold * 4:
            self.app.spawn(self.newer())
        elif is_near and self._follows and self.has_newer:
            self.app.spawn(self._refresh())

    @property
    def seen_to(self) -> int:
        return self._saw

    async def saw(self, seq: int) -> None:
        """All up to this has been in sight."""
        if self.chat is not None and seq > self.chat.read_seq and seq > self._saw:
            self._saw = seq
            await self.app.hs.sync.mark_read(self.chat_id, seq)

    # Drawing

    async def _show(self) -> None:
        hs = self.app.hs
        self.chat = await hs.store.chat(self.chat_id) or self.chat
        wanted = model.missing_quotes(
            self._messages, {m.id for m in self._messages} | self._quoted.keys() | self._sought
        )
        self._sought |= wanted
        for message_id in wanted:
            message = await hs.store.message(message_id)
            if message is not None:
                self._quoted[message_id] = message
        await self._meet()
        self._count()
        self._draw()

    def _count(self) -> None:
        newest = self.chat.seq if self.chat is not None else self._high
        held = bool(self._messages) and not (self._follows and self.at_end)
        self.has_newer = held and self._high < newest
        self.below = self.chat.unread if held and self.chat is not None else 0

    async def _meet(self) -> None:
        """Names of those who wrote."""
        people = self.app.people
        senders = {message.sender_id for message in self._messages if message.sender_id}
        senders |= {
            m.forwarded_from.sender_id for m in self._messages if m.forwarded_from and m.forwarded_from.sender_id
        }
        unknown = {user_id for user_id in senders if people.get(user_id) is None}
        if unknown:
            people.add(*(await self.app.hs.store.users(unknown)).values())

    def _draw(self) -> None:
        self.lines = model.lines(
            self._messages,
            self._entries if self._follows else (),
            me=self.app.me_id,
            group=self.is_group,
            marks=model.marks_of(self._members, self.app.me_id),
            unread_after=self._unread_after,
            quoted=self._quoted,
            name_of=self.app.people.name,
            zone=self._zone,
        )
        self.blocks = blocks(self.lines, self.blocks)

    # What the SDK tells

    def _on_changes(self, changes: Changes) -> None:
        mine = self.chat_id in changes.messages or self.chat_id in changes.outbox or self.chat_id in changes.chats
        if (mine or self.chat_id in changes.members) and not self._stale and self.status == "ready":
            self._stale = True
            self.app.spawn(self._refresh())

    async def _refresh(self) -> None:
        async with self._lock:
            self._stale = False
            hs = self.app.hs
            low = await hs.store.low_seq(self.chat_id)
            if low is None:
                return  # the chat is gone
            follows = self._follows and (self.at_end or not self._messages)
            chat = await hs.store.chat(self.chat_id)
            newest = chat.seq if chat is not None else self._high
            top = newest if follows else self._high
            bottom = self._low if self._messages else 1
            found = await hs.store.messages(self.chat_id, before_seq=top + 1, limit=max(1, top - bottom + 1))
            self._messages = [m for m in self._messages if m.seq < low] + [m for m in found if m.seq >= bottom]
            if follows and not self.forward and len(self._messages) > MOST:  # a list that is not scrolled is cut here
                self._messages, self.has_older = self._messages[-PAGE:], True
                if self._unread_after is not None and self._unread_after < self._low:
                    self._unread_after = None  # the line would stand above what has long been read
            self._entries = await hs.outbox.entries(self.chat_id)
            self._members = await hs.store.members(self.chat_id)
        await self._show()
        if self.at_end:
            await self.seen()

    def _on_event(self, event: Event) -> None:
        # Messages from before the cache: nobody else keeps them up to date.
        if isinstance(event, MessageChanged) and event.message.chat_id == self.chat_id:
            self._messages = [event.message if m.id == event.message.id else m for m in self._messages]
        elif isinstance(event, MessageHidden) and event.chat_id == self.chat_id:
            self._messages = [m for m in self._messages if m.id != event.message_id]

    async def seen(self) -> None:
        """Everything in the window has been read."""
        if self.chat is not None and self._high > self.chat.read_seq and self.at_end:
            await self.app.hs.sync.mark_read(self.chat_id, self._high)

    # Writing

    def type(self, text: str) -> None:
        """The field holds this now; the others are told that one types."""
        if self.editing is not None:
            return
        self.app.set_draft(self.chat_id, text, self.reply.id if self.reply is not None else None)
        if text and time.monotonic() - self._typed_at > TYPING_EVERY_S:
            self._typed_at = time.monotonic()
            self.app.spawn(self.app.hs.connection.tell("typing", chat_id=self.chat_id))

    def answer(self, message: Message | None) -> None:
        self.editing = None
        self.reply = message
        draft = self.app.drafts.get(self.chat_id)
        self.app.set_draft(self.chat_id, draft.text if draft else "", message.id if message is not None else None)

    def edit(self, message: Message | None) -> None:
        self.reply = None
        self.editing = message

    async def send(self, text: str) -> bool:
        """Send, or save what is being changed; False where there was nothing to send, or it was refused."""
        text = text.strip()
        hs = self.app.hs
        editing = self.editing
        if editing is not None:
            if not text or len(text) > MAX_TEXT:
                return False
            if (
                text != editing.text
                and await self.app.attempt(hs.messages.edit(self.chat_id, editing.id, text)) is None
            ):
                return False
            self.editing = None
            return True
        if not text:
            return False
        reply_to = self.reply.id if self.reply is not None else None
        for part in split_text(text):
            if await self.app.attempt(hs.outbox.put(self.chat_id, part, reply_to=reply_to)) is None:
                return False
            reply_to = None
        self.reply = None
        self._typed_at = 0.0
        self._unread_after = None
        self.app.set_draft(self.chat_id, "")
        if self.has_newer or not self.at_end:
            await self.jump_to_end()
        return True

    def edit_last(self) -> bool:
        """Change one's newest message; False where none can be."""
        for message in reversed(self._messages):
            if message.sender_id == self.app.me_id and may_edit(message):
                self.edit(message)
                return True
        return False

    async def set_blocked(self, blocked: bool) -> None:
        """The other person of a direct chat. Raises: what Me.block raises."""
        assert self.chat is not None
        assert self.chat.peer is not None
        me = self.app.hs.me
        await (me.block if blocked else me.unblock)(self.chat.peer.id)
        self.blocked = blocked

    async def _learn_block(self, user_id: str) -> None:
        try:
            self.blocked = any(user.id == user_id for user in await self.app.hs.me.blocks())
        except HyperSendError:
            self.blocked = None  # without a network: then the server says so when something is sent

    async def react(self, message: Message, emoji: str) -> None:
        """Set a reaction, or take one's own away."""
        mine = any(r.emoji == emoji and self.app.me_id in r.user_ids for r in message.reactions)
        messages = self.app.hs.messages
        call = messages.unreact if mine else messages.react
        await self.app.attempt(call(self.chat_id, message.id, emoji))

    async def delete(self, message: Message, *, for_everyone: bool) -> None:
        await self.app.attempt(self.app.hs.messages.delete(self.chat_id, message.id, for_everyone=for_everyone))

    async def retry(self, entry: Entry) -> None:
        await self.app.attempt(self.app.hs.outbox.retry(entry.client_id))

    async def discard(self, entry: Entry) -> None:
        await self.app.attempt(self.app.hs.outbox.discard(entry.client_id))


def may_edit(message: Message) -> bool:
    """One's own, as far as its text goes."""
    return (
        bool(message.text)
        and message.kind in ("text", "file")
        and message.forwarded_from is None
        and message.deleted_at is None
    )


def split_text(text: str, most: int = MAX_TEXT) -> list[str]:
    """Parts of at most `most` characters, cut at white space where there is some in the last quarter."""
    parts = []
    while len(text) > most:
        cut = max(text.rfind(" ", most * 3 // 4, most + 1), text.rfind("\n", most * 3 // 4, most + 1))
        cut = cut if cut > 0 else most
        part = text[:cut].strip()
        if part:
            parts.append(part)
        text = text[cut:].lstrip()
    return [*parts, text] if text else parts
