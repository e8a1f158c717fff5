"""What follows other changes in chats, in small transactions that go on after a crash.

A row of `jobs` says what is due (id `KIND:SUBJECT`, payload the subject); each step removes what it has done
from what is still to be found, so running a step again does no harm.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import msgspec

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import Changed, MemberChange
from hypersend_server.metadata.sqlite.chats_members import close_side, end_chat, leave
from hypersend_server.metadata.sqlite.chats_messages import restamp, unshow
from hypersend_server.metadata.sqlite.chats_rows import MESSAGE, audience_of, membership, messages_of
from hypersend_server.metadata.sqlite.chats_search import reindex
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx

KINDS = ("restamp_file", "forget_user", "purge_chat")
# By the index that makes client ids unique: one of senders alone would cost every message a page of the log.
OF_SENDER = ("FROM messages x WHERE x.chat_id IN (SELECT chat_id FROM members WHERE user_id = ?1)"
             " AND x.sender_id = ?1 AND x.client_id IS NOT NULL")


def enqueue(tx: Tx, kind: str, subject: str) -> None:
    """Note what is due, in the transaction that makes it due. kind: one of KINDS."""
    tx.execute(
        "INSERT INTO jobs (id, kind, payload) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (f"{kind}:{subject}", kind, subject.encode()),
    )


def _finish(tx: Tx, kind: str, subject: str) -> None:
    tx.execute("DELETE FROM jobs WHERE id = ?", (f"{kind}:{subject}",))



class SqliteUpkeep:
    _engine: Engine

    async def pending_jobs(self) -> list[tuple[str, str]]:
        def job(connection: ReadTx) -> list[tuple[str, str]]:
            rows = connection.execute("SELECT kind, payload FROM jobs WHERE kind IN (?, ?, ?) ORDER BY id", KINDS)
            return [(kind, bytes(payload).decode()) for kind, payload in rows]

        return await self._engine.read(job)

    async def restamp_for_file(self, file_id: str, limit: int) -> list[Changed]:
        def job(tx: Tx) -> list[Changed]:
            rows = tx.execute(
                f"SELECT {MESSAGE}, x.number FROM message_files f"  # noqa: S608
                " CROSS JOIN messages x ON x.chat_id = f.chat_id AND x.seq = f.seq"
                " WHERE f.file_id = ? LIMIT ?",
                (file_id, limit),
            ).fetchall()
            changed = _restamp_all(tx, rows, {})
            for row in rows:
                tx.execute(
                    "DELETE FROM message_files WHERE file_id = ? AND chat_id = ? AND seq = ?",
                    (file_id, row[1], row[2]),
                )
            if not rows:
                _finish(tx, "restamp_file", file_id)
            return changed

        return await self._engine.write(job)

    async def forget_user(
        self, user_id: str, new_id: Callable[[], str], now: int
    ) -> AsyncGenerator[MemberChange | None]:
        def chats(tx: Tx) -> list[str]:
            enqueue(tx, "forget_user", user_id)
            tx.execute("DELETE FROM hidden WHERE user_id = ?", (user_id,))
            return [
                row[0]
                for row in tx.execute("SELECT chat_id FROM members WHERE user_id = ? AND left_at IS NULL", (user_id,))
            ]

        for chat_id in await self._engine.write(chats):
            message_id = new_id()

            def job(tx: Tx, chat_id: str = chat_id, message_id: str = message_id) -> MemberChange | None:
                chat, _ = membership(tx.connection, chat_id, user_id)
                if chat.kind == "group":
                    return leave(tx, chat, user_id, user_id, message_id, now)
                if chat.kind == "direct":
                    close_side(tx, chat, user_id, now)
                else:
                    end_chat(tx, chat_id, now)
                return None

            try:
                change = await self._engine.write(job)
            except HyperSendError as error:
                if error.code == "not_found":  # left or removed at the same moment
                    continue
                raise
            yield change

    async def forget_sender(self, user_id: str, limit: int) -> list[Changed]:
        def job(tx: Tx) -> list[Changed]:
            rows = tx.execute(
                f"SELECT {MESSAGE}, x.number {OF_SENDER} LIMIT ?2",
                (user_id, limit),
            ).fetchall()
            if not rows:
                _finish(tx, "forget_user", user_id)
            return _restamp_all(tx, rows, {"sender_id": None, "client_id": None})

        return await self._engine.write(job)

    async def purge(self, chat_id: str, limit: int) -> bool:
        def job(tx: Tx) -> bool:
            rows = tx.execute(
                "SELECT number, seq, text FROM messages WHERE chat_id = ? ORDER BY seq LIMIT ?",
                (chat_id, limit),
            ).fetchall()
            now = tx.execute("SELECT deleted_at FROM chats WHERE id = ?", (chat_id,)).fetchone()[0]
            unshow(tx, chat_id, [seq for _, seq, _ in rows], now)
            for number, _, text in rows:
                reindex(tx, number, chat_id, text, "")
                tx.execute("DELETE FROM messages WHERE number = ?", (number,))
            if not rows:
                tx.execute("DELETE FROM hidden WHERE chat_id = ?", (chat_id,))
                _finish(tx, "purge_chat", chat_id)
            return bool(rows)

        return await self._engine.write(job)


def _restamp_all(tx: Tx, rows: list[tuple[object, ...]], fields: dict[str, None]) -> list[Changed]:
    changed = []
    for message, row in zip(messages_of(tx.connection, rows), rows, strict=True):
        number = row[12]
        assert isinstance(number, int)
        rev = restamp(tx, message.chat_id, number, fields)
        members_rev = tx.execute("SELECT members_rev FROM chats WHERE id = ?", (message.chat_id,)).fetchone()[0]
        changed.append(
            Changed(
                msgspec.structs.replace(message, rev=rev, **fields),
                True,
                audience_of(tx.connection, message.chat_id, members_rev),
            )
        )
    return changed
