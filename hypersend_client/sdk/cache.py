"""How what the server tells changes the cache: one class, used inside a transaction of the store.

Everything may come twice and late: a message counts only with a higher `rev` than the one that is here. A
chat's numbers (`seq`, `unread`, `last_message`) come with its `rev`; a message with a higher one moves them
on.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from hypersend_client.sdk.models import Chat, Member, Message, User, format_time

if TYPE_CHECKING:
    from hypersend_client.sdk.store import Changes

UNREAD_MAX = 1000


class Writer:
    """behind: chats of which changes are missing. unknown: chats that a message named and that are not here.

    fresh: chats that are new here.
    """

    def __init__(self, db: sqlite3.Connection, me: str, changes: Changes) -> None:
        self.db = db
        self.me = me
        self.changes = changes
        self.behind: set[str] = set()
        self.unknown: set[str] = set()
        self.fresh: set[str] = set()

    # Chats

    def chat(self, chat: Chat, *, reset: bool = False, exact: bool = False) -> None:
        """A chat as the server sees it now.

        reset: forget the messages up to its `rev`. exact: what it is ahead of the messages here is sure to
        follow.
        """
        row = self.db.execute("SELECT data, synced_rev, low_seq FROM chats WHERE id = ?", (chat.id,)).fetchone()
        if row is None or reset:
            self.db.execute("DELETE FROM messages WHERE chat_id = ? AND rev <= ?", (chat.id, chat.rev))
            if row is None:
                self.fresh.add(chat.id)
            # The members that are here stay to be looked at until they are asked for again.
            self.db.execute("UPDATE chats SET members_known = 0 WHERE id = ?", (chat.id,))
            last = chat.last_message
            low_seq = last.seq if last is not None else chat.seq + 1
            self._save(chat, synced_rev=chat.rev, low_seq=low_seq)
            self.changes.messages.add(chat.id)
            later = self.db.execute(
                "SELECT data FROM messages WHERE chat_id = ? AND rev > ? ORDER BY rev", (chat.id, chat.rev)
            ).fetchall()
        else:
            mine = Chat.from_json(json.loads(row[0]))
            if mine.rev > chat.rev:
                chat = replace(
                    chat,
                    seq=mine.seq,
                    rev=mine.rev,
                    unread=mine.unread,
                    last_message=mine.last_message,
                    updated_at=mine.updated_at,
                )
            if mine.read_seq > chat.read_seq:  # read here, and not yet told
                chat = replace(chat, read_seq=mine.read_seq, unread=min(chat.unread, mine.unread))
            self._save(chat, synced_rev=row[1], low_seq=row[2])
            if chat.rev > row[1] and not exact:
                self.behind.add(chat.id)
            later = []
        if chat.last_message is not None:
            self._put(chat.last_message)
        for (data,) in later:
            self._move_on(Message.from_json(json.loads(data)), None)
        if chat.peer is not None:
            self.user(chat.peer)

    def gone(self, chat_id: str) -> None:
        """No access any more; what was to be sent there has failed."""
        for table in ("messages", "members", "marks", "drafts"):
            self.db.execute(f"DELETE FROM {table} WHERE chat_id = ?", (chat_id,))  # noqa: S608
        self.db.execute("DELETE FROM chats WHERE id = ?", (chat_id,))
        unsent = self.db.execute(
            "UPDATE outbox SET state = 'failed', code = 'not_found', detail = '' WHERE chat_id = ?",
            (chat_id,),
        )
        if unsent.rowcount:
            self.changes.outbox.add(chat_id)
        self.changes.gone.add(chat_id)

    def chats_other_than(self, seen: set[str]) -> list[str]:
        return [chat_id for (chat_id,) in self.db.execute("SELECT id FROM chats") if chat_id not in seen]

    def complete_to(self, chat_id: str, rev: int) -> None:
        """Nothing up to `rev` is missing; nor what follows it, as far as that overtook it."""
        while self.db.execute("SELECT 1 FROM messages WHERE chat_id = ? AND rev = ?", (chat_id, rev + 1)).fetchone():
            rev += 1
        self.db.execute("UPDATE chats SET synced_rev = max(synced_rev, ?) WHERE id = ?", (rev, chat_id))

    # Messages

    def message(self, message: Message, *, live: bool) -> None:
        """live: it came by itself, so one with a lower `rev` may be missing; else all below it are here."""
        row = self.db.execute("SELECT synced_rev FROM chats WHERE id = ?", (message.chat_id,)).fetchone()
        if row is None:
            self.unknown.add(message.chat_id)
            return
        before = self.db.execute("SELECT counts FROM messages WHERE id = ?", (message.id,)).fetchone()
        if self._put(message):
            self._move_on(message, None if before is None else before[0])
        if not live or message.rev == row[0] + 1:
            self.complete_to(message.chat_id, message.rev)
        elif message.rev > row[0]:
            self.behind.add(message.chat_id)
        self._count_unread(message.chat_id)

    def older(self, chat_id: str, messages: list[Message], low_seq: int) -> None:
        """A page that ends where the cache begins; the cache now begins at `low_seq`."""
        for message in messages:
            self._put(message)
        self.db.execute("UPDATE chats SET low_seq = min(low_seq, ?) WHERE id = ?", (low_seq, chat_id))
        self.changes.messages.add(chat_id)

    def hidden(self, chat_id: str, message_id: str) -> None:
        """Deleted for me. Remembered, since a later change of it goes to all members."""
        fresh = self.db.execute("INSERT OR IGNORE INTO hidden VALUES (?)", (message_id,)).rowcount
        row = self.db.execute("SELECT counts, seq FROM messages WHERE id = ?", (message_id,)).fetchone()
        self.db.execute("DELETE FROM messages WHERE id = ?", (message_id,))
        chat = self._chat(chat_id)
        if chat is None or not fresh:
            return
        self.changes.messages.add(chat_id)
        if row is not None and row[1] > chat.read_seq:
            chat = replace(chat, unread=max(0, chat.unread - row[0]))
        if chat.last_message is not None and chat.last_message.id == message_id:
            chat = replace(chat, last_message=self._newest(chat_id))
        self._resave(chat)

    def _put(self, message: Message) -> bool:
        """Whether it is news."""
        if self.db.execute("SELECT 1 FROM hidden WHERE message_id = ?", (message.id,)).fetchone():
            return False
        known = self.db.execute("SELECT rev FROM messages WHERE id = ?", (message.id,)).fetchone()
        if known is not None and known[0] >= message.rev:
            return False
        self.db.execute(
            "INSERT OR REPLACE INTO messages (chat_id, seq, id, rev, counts, data) VALUES (?, ?, ?, ?, ?, ?)",
            (message.chat_id, message.seq, message.id, message.rev, self._counts(message), _dump(message.to_json())),
        )
        if message.client_id is not None and message.sender_id == self.me:
            self.sent(message.chat_id, message.client_id)
        self.changes.messages.add(message.chat_id)
        return True

    def sent(self, chat_id: str, client_id: str) -> None:
        """The server has it: it waits no longer."""
        if self.db.execute("DELETE FROM outbox WHERE client_id = ?", (client_id,)).rowcount:
            self.changes.outbox.add(chat_id)

    def _move_on(self, message: Message, before: int | None) -> None:
        """What a message changes of its chat. before: whether it counted as unread, None where it is new here."""
        chat = self._chat(message.chat_id)
        if chat is None:
            return
        last, counts, change = chat.last_message, self._counts(message), 0
        if message.seq > chat.seq:
            change = counts
            chat = replace(
                chat, seq=message.seq, last_message=message, updated_at=message.created_at or chat.updated_at
            )
        else:
            if before is not None and message.rev > chat.rev and message.seq > chat.read_seq:
                change = counts - before
            if last is not None and last.id == message.id and message.rev > last.rev:
                chat = replace(chat, last_message=message)
        unread = min(UNREAD_MAX, max(0, chat.unread + change))
        self._resave(replace(chat, unread=unread, rev=max(chat.rev, message.rev)))

    def _counts(self, message: Message) -> int:
        return int(message.sender_id != self.me and message.kind != "system" and message.deleted_at is None)

    def _count_unread(self, chat_id: str) -> None:
        """Exactly, where all that could be unread is here; else the number goes by what was told."""
        row = self.db.execute("SELECT data, synced_rev, low_seq FROM chats WHERE id = ?", (chat_id,)).fetchone()
        chat = Chat.from_json(json.loads(row[0]))
        if row[1] < chat.rev or row[2] > chat.read_seq + 1:
            return
        unread = self.db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM messages WHERE chat_id = ? AND seq > ? AND counts LIMIT ?)",
            (chat_id, chat.read_seq, UNREAD_MAX),
        ).fetchone()[0]
        if unread != chat.unread:
            self._resave(replace(chat, unread=unread))

    def _newest(self, chat_id: str) -> Message | None:
        row = self.db.execute(
            "SELECT m.data FROM messages m JOIN chats c ON c.id = m.chat_id"
            " WHERE m.chat_id = ? AND m.seq >= c.low_seq ORDER BY m.seq DESC LIMIT 1",
            (chat_id,),
        ).fetchone()
        return Message.from_json(json.loads(row[0])) if row else None

    # Marks

    def read(self, chat_id: str, user_id: str, seq: int) -> None:
        self._mark(
            chat_id,
            user_id,
            lambda m: replace(m, read_seq=max(m.read_seq, seq), delivered_seq=max(m.delivered_seq, seq)),
        )
        chat = self._chat(chat_id)
        if user_id != self.me or chat is None or seq <= chat.read_seq:
            return
        self._resave(replace(chat, read_seq=seq, unread=min(chat.unread, max(0, chat.seq - seq))))
        self._count_unread(chat_id)

    def delivered(self, chat_id: str, user_id: str, seq: int) -> None:
        self._mark(chat_id, user_id, lambda m: replace(m, delivered_seq=max(m.delivered_seq, seq)))

    def to_tell(self, chat_id: str, kind: Literal["read", "delivered"], seq: int) -> None:
        """A mark of one's own that the server must hear of."""
        self.db.execute(
            "INSERT INTO marks VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
            (chat_id, kind, seq),
        )

    def _mark(self, chat_id: str, user_id: str, change: Callable[[Member], Member]) -> None:
        row = self.db.execute(
            "SELECT data FROM members WHERE chat_id = ? AND user_id = ?", (chat_id, user_id)
        ).fetchone()
        if row is None:
            return
        member = Member.from_json(json.loads(row[0]))
        changed = change(member)
        if changed != member:
            self.member(chat_id, changed)

    # People

    def member(self, chat_id: str, member: Member) -> None:
        if member.left_at is not None:
            self.db.execute("DELETE FROM members WHERE chat_id = ? AND user_id = ?", (chat_id, member.user.id))
        else:
            self.db.execute(
                "INSERT OR REPLACE INTO members VALUES (?, ?, ?)",
                (chat_id, member.user.id, _dump(member.to_json())),
            )
        self.changes.members.add(chat_id)
        self.user(member.user, presence=False)

    def members(self, chat_id: str, members: list[Member]) -> None:
        """All of a chat's."""
        self.db.execute("DELETE FROM members WHERE chat_id = ?", (chat_id,))
        for member in members:
            self.member(chat_id, member)
            self.user(member.user)
        self.db.execute("UPDATE chats SET members_known = 1 WHERE id = ?", (chat_id,))

    def user(self, user: User, *, presence: bool = True) -> None:
        """presence: `online` and `last_seen_at` are told too; what goes to many people alike has none."""
        row = self.db.execute("SELECT data FROM users WHERE id = ?", (user.id,)).fetchone()
        if row is not None and not presence:
            known = User.from_json(json.loads(row[0]))
            user = replace(user, online=known.online, last_seen_at=known.last_seen_at)
        data = _dump(user.to_json())
        if row is not None and row[0] == data:
            return
        self.db.execute("INSERT OR REPLACE INTO users VALUES (?, ?)", (user.id, data))
        self.changes.users.add(user.id)
        for (chat_id,) in self.db.execute("SELECT id FROM chats WHERE peer_id = ?", (user.id,)).fetchall():
            chat = self._chat(chat_id)
            if chat is not None:
                self._resave(replace(chat, peer=user))

    def presence(self, user_id: str, online: bool, last_seen_at: datetime | None) -> None:
        row = self.db.execute("SELECT data FROM users WHERE id = ?", (user_id,)).fetchone()
        if row is not None:
            user = User.from_json(json.loads(row[0]))
            self.user(replace(user, online=online, last_seen_at=last_seen_at or user.last_seen_at))

    # Settings

    def setting(self, key: str, value: str | None) -> None:
        if value is None:
            self.db.execute("DELETE FROM meta WHERE key = ?", (key,))
        else:
            self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # Inside

    def _chat(self, chat_id: str) -> Chat | None:
        row = self.db.execute("SELECT data FROM chats WHERE id = ?", (chat_id,)).fetchone()
        return Chat.from_json(json.loads(row[0])) if row else None

    def _save(self, chat: Chat, *, synced_rev: int, low_seq: int) -> None:
        when = chat.updated_at or chat.created_at
        self.db.execute(
            "INSERT INTO chats (id, data, pinned, archived, updated_at, peer_id, synced_rev, low_seq)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data,"
            " pinned = excluded.pinned, archived = excluded.archived, updated_at = excluded.updated_at,"
            " peer_id = excluded.peer_id, synced_rev = excluded.synced_rev, low_seq = excluded.low_seq",
            (
                chat.id,
                _dump(chat.to_json()),
                chat.pinned,
                chat.archived,
                format_time(when) if when else "",
                chat.peer.id if chat.peer else None,
                synced_rev,
                low_seq,
            ),
        )
        self.changes.chats.add(chat.id)

    def _resave(self, chat: Chat) -> None:
        row = self.db.execute("SELECT synced_rev, low_seq FROM chats WHERE id = ?", (chat.id,)).fetchone()
        self._save(chat, synced_rev=row[0], low_seq=row[1])


def _dump(data: dict[str, Any]) -> str:
    return json.dumps(data, separators=(",", ":"))
