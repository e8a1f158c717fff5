"""Rows of chats, members and messages as records, and the questions every part of chats asks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import (
    MAX_UNREAD,
    NO_EXTRA,
    Audience,
    ChatRecord,
    ChatView,
    Extra,
    MemberRecord,
    MessageRecord,
)
from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.sqlite.files_rows import files_by_id

CHAT = (
    "c.id, c.kind, c.pair_key, c.title, c.about, c.avatar_id, c.history, c.seq, c.rev, c.members_rev,"
    " c.members_count, c.created_at, c.updated_at"
)
MEMBER = (
    "m.chat_id, m.user_id, m.role, m.first_seq, m.delivered_seq, m.read_seq, m.joined_at, m.left_at, m.began,"
    " m.pinned, m.archived, m.muted_until"
)
MESSAGE = (
    "x.id, x.chat_id, x.seq, x.rev, x.sender_id, x.client_id, x.kind, x.text, x.extra, x.created_at,"
    " x.edited_at, x.deleted_at"
)
_CHAT_COLUMNS = CHAT.count(",") + 1


def not_hidden(user: str) -> str:
    """The condition that message x was not deleted for the person; user: the statement's name for them."""
    return (
        f" AND NOT EXISTS (SELECT 1 FROM hidden h WHERE h.user_id = {user}"  # noqa: S608
        " AND h.chat_id = x.chat_id AND h.seq = x.seq)"
    )


LAST_MESSAGE = (
    f"SELECT {MESSAGE} FROM messages x WHERE x.chat_id = ?1 AND x.seq >= ?2 {not_hidden('?3')}"  # noqa: S608
    " ORDER BY x.seq DESC LIMIT 1"
)
UNREAD = (
    "SELECT count(*) FROM (SELECT 1 FROM messages x WHERE x.chat_id = ?1 AND x.seq > ?2"  # noqa: S608
    " AND x.sender_id IS NOT ?3 AND x.kind <> 'system' AND x.deleted_at IS NULL"
    f" {not_hidden('?3')} LIMIT {MAX_UNREAD})"
)


_decode_extra = msgspec.json.Decoder(Extra).decode
encode_extra = msgspec.json.Encoder().encode


def not_found(what: str = "chat") -> HyperSendError:
    return HyperSendError("not_found", f"There is no such {what}, or you may not see it.")


def chat_of(row: Sequence[Any]) -> ChatRecord:
    return ChatRecord(
        id=row[0],
        kind=row[1],
        pair_key=row[2],
        title=row[3],
        about=row[4],
        avatar_id=row[5],
        history=row[6],
        seq=row[7],
        rev=row[8],
        members_rev=row[9],
        members_count=row[10],
        created_at=row[11],
        updated_at=row[12],
    )


def member_of(row: Sequence[Any]) -> MemberRecord:
    return MemberRecord(
        chat_id=row[0],
        user_id=row[1],
        role=row[2],
        first_seq=row[3],
        delivered_seq=row[4],
        read_seq=row[5],
        joined_at=row[6],
        left_at=row[7],
        began=row[8],
        pinned=bool(row[9]),
        archived=bool(row[10]),
        muted_until=row[11],
    )


def messages_of(connection: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> list[MessageRecord]:
    """Rows of MESSAGE as records, with their files."""
    found = list(rows)
    extras = [NO_EXTRA if row[8] is None else _decode_extra(row[8]) for row in found]
    wanted = {file_id for extra in extras for file_id in extra.file_ids}
    files = files_by_id(connection, wanted) if wanted else {}
    return [message_of(row, extra, files) for row, extra in zip(found, extras, strict=True)]


def message_of(row: Sequence[Any], extra: Extra, files: dict[str, FileRecord]) -> MessageRecord:
    return MessageRecord(
        id=row[0],
        chat_id=row[1],
        seq=row[2],
        rev=row[3],
        sender_id=row[4],
        client_id=row[5],
        kind=row[6],
        text=row[7],
        extra=extra,
        created_at=row[9],
        edited_at=row[10],
        deleted_at=row[11],
        files=tuple(files[file_id] for file_id in extra.file_ids if file_id in files),
    )


def membership(connection: sqlite3.Connection, chat_id: str, user_id: str) -> tuple[ChatRecord, MemberRecord]:
    """The chat and this person's place in it. Raises: `not_found`."""
    row = connection.execute(
        f"SELECT {CHAT}, {MEMBER} FROM members m JOIN chats c ON c.id = m.chat_id"  # noqa: S608
        " WHERE m.chat_id = ? AND m.user_id = ? AND m.left_at IS NULL",
        (chat_id, user_id),
    ).fetchone()
    if row is None:
        raise not_found()
    return chat_of(row), member_of(row[_CHAT_COLUMNS:])


def visible_message(connection: sqlite3.Connection, me: MemberRecord, message_id: str) -> tuple[int, MessageRecord]:
    """(number, message) where this person may see it. Raises: `not_found`."""
    row = connection.execute(
        f"SELECT {MESSAGE}, x.number FROM messages x"  # noqa: S608
        " WHERE x.id = ?1 AND x.chat_id = ?2 AND x.seq >= ?3" + not_hidden("?4"),
        (message_id, me.chat_id, me.first_seq, me.user_id),
    ).fetchone()
    if row is None:
        raise not_found("message")
    return row[12], messages_of(connection, [row])[0]


def present_members(connection: sqlite3.Connection, chat_id: str) -> tuple[tuple[str, int], ...]:
    return tuple(
        connection.execute("SELECT user_id, first_seq FROM members WHERE chat_id = ? AND left_at IS NULL", (chat_id,))
    )


def audience_of(connection: sqlite3.Connection, chat_id: str, members_rev: int, known: int = -1) -> Audience:
    """known: the members_rev that the caller has the members of."""
    if known == members_rev:
        return Audience(chat_id, members_rev, None)
    kind, = connection.execute("SELECT kind FROM chats WHERE id = ?", (chat_id,)).fetchone()
    return Audience(chat_id, members_rev, present_members(connection, chat_id), kind == "direct")


def views_of(connection: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> list[ChatView]:
    """Rows of CHAT, MEMBER as each of these people sees the chat."""
    return [_view(connection, chat_of(row), member_of(row[_CHAT_COLUMNS:])) for row in list(rows)]


def _view(connection: sqlite3.Connection, chat: ChatRecord, me: MemberRecord) -> ChatView:
    last = connection.execute(LAST_MESSAGE, (chat.id, me.first_seq, me.user_id))
    messages = messages_of(connection, last)
    unread = 0
    # In the saved chat all is one's own: there is nothing to count, and nothing that would end the search.
    if chat.kind != "saved" and me.read_seq < chat.seq:
        above = max(me.read_seq, me.first_seq - 1)
        unread = connection.execute(UNREAD, (chat.id, above, me.user_id)).fetchone()[0]
    return ChatView(chat, me, unread, messages[0] if messages else None)
