"""The chat list: one frozen row a chat, with all that a row shows, so that only rows that changed are drawn again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import flet as ft

from hypersend_client.sdk import Chat, Draft, Entry, Message

TYPING_S = 6.0


@dataclass(frozen=True, slots=True)
class ChatRow:
    """preview: `draft`, `waiting` and `failed` are one's own words that are not on the server.

    sender: first name before the preview, "" for none; mine: "You:" instead. last: for a system line.
    """

    id: str
    kind: str
    title: str
    avatar_url: str | None
    colour_id: str
    peer_id: str | None
    online: bool
    preview: Literal["", "text", "file", "transfer", "system", "deleted", "draft", "waiting", "failed"]
    text: str
    sender: str
    mine: bool
    last: Message | None
    at: datetime | None
    unread: int
    pinned: bool
    archived: bool
    muted: bool
    role: str
    typing: tuple[str, ...] = ()


class ChatList(ft.Observable):
    """rows: pinned first, then by the last message, archived ones too.

    known: the server has told of the chats at least once, so that an empty list means that there are none.
    unread: chats with unread messages, muted and archived ones left out (the badge).
    """

    def __init__(self) -> None:
        self.rows: tuple[ChatRow, ...] = ()
        self.known = False
        self.unread = 0
        self.me = ""
        self.name_of: Callable[[str | None], str] = lambda user_id: ""
        self._chats: dict[str, Chat] = {}
        self._made: dict[str, ChatRow] = {}
        self._waiting: dict[str, Entry] = {}
        self._typing: dict[str, dict[str, asyncio.TimerHandle]] = {}

    def row(self, chat_id: str) -> ChatRow | None:
        return self._made.get(chat_id)

    def chat(self, chat_id: str) -> Chat | None:
        """As the store has it."""
        return self._chats.get(chat_id)

    def load(self, chats: Iterable[Chat], *, drafts: Mapping[str, Draft], known: bool) -> None:
        self._chats = {chat.id: chat for chat in chats}
        self._made = {chat.id: self._row(chat, drafts.get(chat.id)) for chat in self._chats.values()}
        self.known = self.known or known
        self._publish()

    def update(self, chats: Iterable[Chat], *, gone: Collection[str], drafts: Mapping[str, Draft]) -> None:
        for chat_id in gone:
            self._chats.pop(chat_id, None)
            self._made.pop(chat_id, None)
        for chat in chats:
            self._chats[chat.id] = chat
            self._made[chat.id] = self._row(chat, drafts.get(chat.id))
        self._publish()

    def set_waiting(self, entries: Iterable[Entry]) -> None:
        """Messages that are not on the server yet, in order; shown with the next `update` of their chats."""
        self._waiting = {entry.chat_id: entry for entry in entries}

    def typing(self, chat_id: str, user_id: str) -> None:
        """Somebody types; forgotten after some seconds."""
        if user_id == self.me or chat_id not in self._made:
            return
        timers = self._typing.setdefault(chat_id, {})
        if user_id in timers:
            timers[user_id].cancel()
        timers[user_id] = asyncio.get_running_loop().call_later(TYPING_S, self._typed, chat_id, user_id)
        self._retype(chat_id)

    def clear(self) -> None:
        for timers in self._typing.values():
            for timer in timers.values():
                timer.cancel()
        self._typing.clear()
        self._chats.clear()
        self._made.clear()
        self._waiting.clear()
        self.known = False
        self._publish()

    def _typed(self, chat_id: str, user_id: str) -> None:
        timer = self._typing.get(chat_id, {}).pop(user_id, None)
        if timer is not None:
            timer.cancel()
            self._retype(chat_id)

    def _retype(self, chat_id: str) -> None:
        row = self._made.get(chat_id)
        if row is not None:
            self._made[chat_id] = replace(row, typing=self._typing_names(chat_id))
            self._publish()

    def _typing_names(self, chat_id: str) -> tuple[str, ...]:
        return tuple(self.name_of(user_id) for user_id in self._typing.get(chat_id, ()))

    def _publish(self) -> None:
        shown = sorted(self._chats.values(), key=_order, reverse=True)
        self.rows = tuple(self._made[chat.id] for chat in shown)
        self.unread = sum(1 for row in self.rows if row.unread and not row.muted and not row.archived)

    def _row(self, chat: Chat, draft: Draft | None) -> ChatRow:
        last, entry = chat.last_message, self._waiting.get(chat.id)
        preview, text, mine, sender = _preview(last, self.me)
        at = last.created_at if last is not None else chat.updated_at
        if draft is not None and draft.text:
            preview, text, mine = "draft", draft.text, False
        elif entry is not None:
            preview, text, mine = ("failed" if entry.state == "failed" else "waiting"), entry.text, True
            at = entry.created_at
        elif sender is not None and chat.kind == "group" and not mine and preview != "system":
            sender = (self.name_of(sender).split() or [""])[0]
        else:
            sender = ""
        if last is not None and last.sender_id in self._typing.get(chat.id, {}):
            self._typing[chat.id].pop(last.sender_id).cancel()  # what was typed has arrived
        return ChatRow(
            id=chat.id,
            kind=chat.kind,
            title=chat.title or (_name(chat) if chat.peer is not None else ""),
            avatar_url=chat.avatar_url or (chat.peer.avatar_url if chat.peer is not None else None),
            colour_id=chat.peer.id if chat.peer is not None else chat.id,
            peer_id=chat.peer.id if chat.peer is not None else None,
            online=chat.peer is not None and chat.peer.online,
            preview=preview,
            text=" ".join(text.split()),
            sender=sender if preview in ("text", "file", "transfer", "deleted") and sender else "",
            mine=mine,
            last=last,
            at=at,
            unread=chat.unread,
            pinned=chat.pinned,
            archived=chat.archived,
            muted=chat.muted_until is not None and chat.muted_until > datetime.now(UTC),
            role=chat.role,
            typing=self._typing_names(chat.id),
        )


def _preview(
    last: Message | None, me: str
) -> tuple[
    Literal["", "text", "file", "transfer", "system", "deleted", "draft", "waiting", "failed"], str, bool, str | None
]:
    if last is None:
        return "", "", False, None
    mine = last.sender_id == me
    if last.deleted_at is not None:
        return "deleted", "", mine, last.sender_id
    if last.kind == "system":
        return "system", "", False, None
    if last.kind == "transfer":
        return "transfer", str((last.transfer or {}).get("name") or ""), mine, last.sender_id
    if last.files:
        return "file", last.text or last.files[0].name, mine, last.sender_id
    return "text", last.text, mine, last.sender_id


def _name(chat: Chat) -> str:
    return "" if chat.peer is None else chat.peer.display_name or chat.peer.username or ""


def _order(chat: Chat) -> tuple[bool, str, str]:
    when = chat.updated_at or chat.created_at
    return chat.pinned, when.isoformat() if when is not None else "", chat.id
