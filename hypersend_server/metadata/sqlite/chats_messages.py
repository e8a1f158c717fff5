"""Messages on SQLite: appending, editing, deleting, reacting, reading."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.metadata.chats import (
    NO_EXTRA,
    Changed,
    ChatRecord,
    Draft,
    Extra,
    Forwarded,
    MessageKind,
    MessagePage,
    MessageRecord,
    Posted,
)
from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.reactions import with_reaction, without_reaction
from hypersend_server.metadata.sqlite.chats_rows import (
    CHAT,
    MESSAGE,
    audience_of,
    chat_of,
    encode_extra,
    membership,
    messages_of,
    not_found,
    not_hidden,
    visible_message,
)
from hypersend_server.metadata.sqlite.chats_search import reindex
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx
from hypersend_server.metadata.sqlite.file_access import readable
from hypersend_server.names import is_blank

VISIBLE = " AND x.seq >= ?2" + not_hidden("?3")

# A message's number is the stamp of the change that made it: it grows with time and is never used twice.
INSERT_MESSAGE = (
    "INSERT INTO messages"
    " (number, id, chat_id, seq, rev, changed, sender_id, client_id, kind, text, extra, created_at)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?1, ?6, ?7, ?8, ?9, ?10, ?11)"
    " ON CONFLICT (chat_id, sender_id, client_id) WHERE client_id IS NOT NULL DO NOTHING"
)
SENDER = (
    "SELECT c.kind, c.pair_key, c.seq, c.rev, c.members_rev, c.members_count, m.first_seq"
    " FROM members m JOIN chats c ON c.id = m.chat_id"
    " WHERE m.chat_id = ? AND m.user_id = ? AND m.left_at IS NULL"
)


class SqliteMessages:
    _engine: Engine

    async def append(self, draft: Draft, known_members_rev: int) -> Posted:
        return await self._engine.write(lambda tx: append(tx, draft, known_members_rev))

    async def edit(self, chat_id: str, message_id: str, user_id: str, text: str, now: int) -> Changed:
        def job(tx: Tx) -> Changed:
            chat, me = membership(tx.connection, chat_id, user_id)
            number, message = visible_message(tx.connection, me, message_id)
            if message.sender_id != user_id or message.kind not in ("text", "file"):
                raise HyperSendError("not_allowed", "Only its sender may edit a message.")
            if message.extra.forwarded_from is not None:
                raise HyperSendError("not_allowed", "A forwarded message stays as it was written.")
            require_not_deleted(message)
            require_not_blocked(tx, chat, user_id)
            if is_blank(text) and not message.extra.file_ids:
                raise validation_failed(("text", "is empty, and there is no file"))
            if text == message.text:
                return Changed(message, False, audience_of(tx.connection, chat_id, chat.members_rev))
            reindex(tx, number, chat_id, message.text, text)
            return _restamp(tx, chat, number, message, text=text, edited_at=now)

        return await self._engine.write(job)

    async def delete_message(self, chat_id: str, message_id: str, user_id: str, now: int) -> Changed:
        def job(tx: Tx) -> Changed:
            chat, me = membership(tx.connection, chat_id, user_id)
            number, message = visible_message(tx.connection, me, message_id)
            by_admin = chat.kind == "group" and me.role != "member"
            if message.kind == "system" or not (message.sender_id == user_id or by_admin):
                raise HyperSendError("not_allowed", "Only its sender or an admin may delete a message for everyone.")
            if message.deleted_at is not None:
                return Changed(message, False, audience_of(tx.connection, chat_id, chat.members_rev))
            reindex(tx, number, chat_id, message.text, "")
            unshow(tx, chat_id, [message.seq], now)
            return _restamp(tx, chat, number, message, text="", extra=NO_EXTRA, edited_at=None, deleted_at=now)

        return await self._engine.write(job)

    async def hide(self, chat_id: str, message_id: str, user_id: str) -> bool:
        def job(tx: Tx) -> bool:
            _, me = membership(tx.connection, chat_id, user_id)
            row = tx.execute(
                "SELECT seq FROM messages WHERE id = ? AND chat_id = ? AND seq >= ?",
                (message_id, chat_id, me.first_seq),
            ).fetchone()
            if row is None:
                raise not_found("message")
            stamp = tx.stamp()
            done = tx.execute(
                "INSERT INTO hidden (user_id, chat_id, seq, message_id, changed) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (user_id, chat_id, row[0], message_id, stamp),
            )
            if done.rowcount != 1:
                return False
            # The chat's preview and unread count may be others now.
            tx.execute("UPDATE members SET changed = ? WHERE chat_id = ? AND user_id = ?", (stamp, chat_id, user_id))
            return True

        return await self._engine.write(job)

    async def react(self, chat_id: str, message_id: str, user_id: str, emoji: str, present: bool) -> Changed:
        def job(tx: Tx) -> Changed:
            chat, me = membership(tx.connection, chat_id, user_id)
            number, message = visible_message(tx.connection, me, message_id)
            if message.kind == "system":
                raise HyperSendError("not_allowed", "This message takes no reactions.")
            require_not_deleted(message)
            before = message.extra.reactions
            after = with_reaction(before, user_id, emoji) if present else without_reaction(before, user_id, emoji)
            if after == before:
                return Changed(message, False, audience_of(tx.connection, chat_id, chat.members_rev))
            if present:
                require_not_blocked(tx, chat, user_id)
            return _restamp(tx, chat, number, message, extra=msgspec.structs.replace(message.extra, reactions=after))

        return await self._engine.write(job)

    async def show_transfer(self, chat_id: str, message_id: str, transfer: dict[str, Any]) -> Changed | None:
        def job(tx: Tx) -> Changed | None:
            row = tx.execute(
                f"SELECT {MESSAGE}, x.number FROM messages x WHERE x.id = ? AND x.chat_id = ?",  # noqa: S608
                (message_id, chat_id),
            ).fetchone()
            found = tx.execute(f"SELECT {CHAT} FROM chats c WHERE c.id = ?", (chat_id,)).fetchone()  # noqa: S608
            if row is None or found is None:
                return None
            chat, message = chat_of(found), messages_of(tx.connection, [row])[0]
            if message.deleted_at is not None or message.extra.transfer == transfer:
                return Changed(message, False, audience_of(tx.connection, chat_id, chat.members_rev))
            extra = msgspec.structs.replace(message.extra, transfer=transfer)
            return _restamp(tx, chat, row[12], message, extra=extra)

        return await self._engine.write(job)

    async def get_message(self, chat_id: str, message_id: str, user_id: str) -> MessageRecord | None:
        def job(connection: ReadTx) -> MessageRecord | None:
            _, me = membership(connection, chat_id, user_id)
            return visible_message(connection, me, message_id)[1]

        try:
            return await self._engine.read(job)
        except HyperSendError as error:
            if error.code == "not_found":
                return None
            raise

    async def messages_by_seq(
        self, chat_id: str, user_id: str, limit: int, *, before: int | None = None, after: int | None = None
    ) -> MessagePage:
        def job(connection: ReadTx) -> MessagePage:
            chat, me = membership(connection, chat_id, user_id)
            bound, order = ("x.seq < ?4", "DESC") if after is None else ("x.seq > ?4", "ASC")
            rows = connection.execute(
                f"SELECT {MESSAGE} FROM messages x WHERE x.chat_id = ?1 {VISIBLE} AND {bound}"  # noqa: S608
                f" ORDER BY x.seq {order} LIMIT ?5",
                (
                    chat_id,
                    me.first_seq,
                    user_id,
                    chat.seq + 1 if before is after is None else before or after or 0,
                    limit,
                ),
            )
            messages = messages_of(connection, rows)
            return MessagePage(messages[::-1] if after is None else messages, chat.rev)

        return await self._engine.read(job)

    async def messages_after_rev(self, chat_id: str, user_id: str, rev: int, limit: int) -> MessagePage:
        def job(connection: ReadTx) -> MessagePage:
            chat, me = membership(connection, chat_id, user_id)
            rows = connection.execute(
                f"SELECT {MESSAGE} FROM messages x WHERE x.chat_id = ?1 {VISIBLE} AND x.rev > ?4"  # noqa: S608
                " ORDER BY x.rev LIMIT ?5",
                (chat_id, me.first_seq, user_id, rev, limit),
            )
            messages = messages_of(connection, rows)
            return MessagePage(messages, messages[-1].rev if len(messages) == limit else chat.rev)

        return await self._engine.read(job)


def append(tx: Tx, draft: Draft, known_members_rev: int) -> Posted:
    """The hot path: a plain text costs one SELECT, one INSERT and one UPDATE."""
    execute = tx.execute
    chat_id, sender_id = draft.chat_id, draft.sender_id
    row = execute(SENDER, (chat_id, sender_id)).fetchone()
    if row is None:
        raise not_found()
    kind, pair_key, seq, rev, members_rev, members_count, first_seq = row
    seq += 1
    rev += 1
    text, extra = draft.text, NO_EXTRA
    files: tuple[FileRecord, ...] = ()
    reopened: tuple[str, ...] = ()
    try:
        if kind == "direct":
            one, _, other = pair_key.partition(":")
            peer_id = other if one == sender_id else one
            if execute("SELECT 1 FROM blocks WHERE user_id = ? AND blocked_id = ?", (peer_id, sender_id)).fetchone():
                raise HyperSendError("blocked")
            if members_count < 2:
                reopened = (peer_id,)
                _require_account(tx, peer_id)
        if draft.transfer is not None:
            extra = Extra(transfer=draft.transfer)
        elif draft.file_ids or draft.reply_to or draft.mentions or draft.forward:
            text, extra, files = _compose(tx, draft, first_seq)
    except HyperSendError:
        # What was accepted once stays accepted, also where it would be refused today.
        first = _first_with(tx, draft)
        if first is None:
            raise
        return Posted(first, False, audience_of(tx.connection, chat_id, members_rev, known_members_rev))
    message_kind: MessageKind = "transfer" if draft.transfer is not None else "file" if files else "text"
    stamp = tx.stamp()
    done = execute(
        INSERT_MESSAGE,
        (
            stamp,
            draft.id,
            chat_id,
            seq,
            rev,
            sender_id,
            draft.client_id,
            message_kind,
            text,
            None if extra is NO_EXTRA else encode_extra(extra),
            draft.now,
        ),
    )
    if done.rowcount != 1:
        first = _first_with(tx, draft)
        assert first is not None
        return Posted(first, False, audience_of(tx.connection, chat_id, members_rev, known_members_rev))
    if reopened:
        members_rev += 1
        execute(
            "UPDATE members SET left_at = NULL, joined_at = ?1, began = ?2, changed = ?2"
            " WHERE chat_id = ?3 AND user_id = ?4",
            (draft.now, stamp, chat_id, reopened[0]),
        )
        execute("UPDATE chats SET members_count = 2, members_rev = ? WHERE id = ?", (members_rev, chat_id))
    execute(
        "UPDATE chats SET seq = ?, rev = ?, updated_at = ?, changed = ? WHERE id = ?",
        (seq, rev, draft.now, stamp, chat_id),
    )
    for file in files:
        execute("INSERT INTO message_files (file_id, chat_id, seq) VALUES (?, ?, ?)", (file.id, chat_id, seq))
        execute("UPDATE files SET unshown_since = NULL WHERE id = ? AND unshown_since IS NOT NULL", (file.id,))
    message = MessageRecord(
        id=draft.id,
        chat_id=chat_id,
        seq=seq,
        rev=rev,
        sender_id=sender_id,
        client_id=draft.client_id,
        kind=message_kind,
        text=text,
        extra=extra,
        created_at=draft.now,
        files=files,
    )
    return Posted(message, True, audience_of(tx.connection, chat_id, members_rev, known_members_rev), reopened)


def _first_with(tx: Tx, draft: Draft) -> MessageRecord | None:
    rows = tx.execute(
        f"SELECT {MESSAGE} FROM messages x WHERE x.chat_id = ? AND x.sender_id = ? AND x.client_id = ?",  # noqa: S608
        (draft.chat_id, draft.sender_id, draft.client_id),
    )
    found = messages_of(tx.connection, rows)
    return found[0] if found else None


def _require_account(tx: Tx, user_id: str) -> None:
    if not tx.execute("SELECT 1 FROM users WHERE id = ? AND deleted_at IS NULL", (user_id,)).fetchone():
        raise HyperSendError("not_allowed", "This account was deleted.")


def _compose(tx: Tx, draft: Draft, first_seq: int) -> tuple[str, Extra, tuple[FileRecord, ...]]:
    """(text, extra, files) of a message that quotes, mentions, forwards or shows something."""
    text, file_ids, forwarded = draft.text, draft.file_ids, None
    if draft.forward is not None:
        _, there = membership(tx.connection, draft.forward[0], draft.sender_id)
        _, source = visible_message(tx.connection, there, draft.forward[1])
        require_not_deleted(source)
        if source.kind not in ("text", "file"):
            raise HyperSendError("not_allowed", "Only texts and files can be forwarded.")
        text = source.text
        file_ids = tuple(file.id for file in source.files if file.state == "complete")
        if not text and not file_ids:
            raise not_found("file")
        # A forward of a forward still names who said it first.
        forwarded = source.extra.forwarded_from or Forwarded(
            chat_id=source.chat_id, message_id=source.id, sender_id=source.sender_id
        )
    files = tuple(_readable_file(tx.connection, file_id, draft.sender_id) for file_id in file_ids)
    if (
        draft.reply_to is not None
        and not tx.execute(
            "SELECT 1 FROM messages WHERE id = ? AND chat_id = ? AND seq >= ?",
            (draft.reply_to, draft.chat_id, first_seq),
        ).fetchone()
    ):
        raise not_found("message to reply to")
    # Who has left in the meantime is no reason to lose the message.
    mentions = tuple(
        user_id
        for user_id in draft.mentions
        if tx.execute(
            "SELECT 1 FROM members WHERE chat_id = ? AND user_id = ? AND left_at IS NULL",
            (draft.chat_id, user_id),
        ).fetchone()
    )
    return (
        text,
        Extra(file_ids=tuple(file_ids), reply_to=draft.reply_to, mentions=mentions, forwarded_from=forwarded),
        files,
    )


def _readable_file(connection: sqlite3.Connection, file_id: str, user_id: str) -> FileRecord:
    file = readable(connection, file_id, user_id)
    if file is None:
        raise not_found("file")
    if file.state != "complete":
        raise HyperSendError("upload_incomplete", f"The file {file_id} is not complete yet.")
    return file


def require_not_deleted(message: MessageRecord) -> None:
    if message.deleted_at is not None:
        raise HyperSendError("message_deleted")


def require_not_blocked(tx: Tx, chat: ChatRecord, user_id: str) -> None:
    peer_id = chat.peer_of(user_id)
    if (
        peer_id is not None
        and tx.execute("SELECT 1 FROM blocks WHERE user_id = ? AND blocked_id = ?", (peer_id, user_id)).fetchone()
    ):
        raise HyperSendError("blocked")


def _restamp(tx: Tx, chat: ChatRecord, number: int, message: MessageRecord, **fields: Any) -> Changed:
    """Write these fields of the message (those of MessageRecord) under the chat's next rev."""
    rev = restamp(
        tx,
        chat.id,
        number,
        {
            name: (encode_extra(value) if value != NO_EXTRA else None) if name == "extra" else value
            for name, value in fields.items()
        },
    )
    if fields.get("deleted_at") is not None:
        fields["files"] = ()
    changed = msgspec.structs.replace(message, rev=rev, **fields)
    return Changed(changed, True, audience_of(tx.connection, chat.id, chat.members_rev))


def restamp(tx: Tx, chat_id: str, number: int, fields: dict[str, Any] | None = None) -> int:
    """Give a message its chat's next rev, and these columns new values. Returns: the rev."""
    stamp = tx.stamp()
    rev: int = tx.execute(
        "UPDATE chats SET rev = rev + 1, changed = ? WHERE id = ? RETURNING rev", (stamp, chat_id)
    ).fetchone()[0]
    columns = {"rev": rev, "changed": stamp, **(fields or {})}
    tx.execute(
        f"UPDATE messages SET {', '.join(f'{name} = ?' for name in columns)} WHERE number = ?",  # noqa: S608
        (*columns.values(), number),
    )
    return rev


def unshow(tx: Tx, chat_id: str, seqs: Sequence[int], now: int) -> None:
    """Take the files from these messages; one that lived by what shows it starts to wait for its end."""
    for seq in seqs:
        for (file_id,) in tx.execute(
            "DELETE FROM message_files WHERE chat_id = ? AND seq = ? RETURNING file_id", (chat_id, seq)
        ).fetchall():
            tx.execute(
                "UPDATE files SET unshown_since = ?1 WHERE id = ?2 AND chat_id IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM message_files WHERE file_id = ?2)",
                (now, file_id),
            )
