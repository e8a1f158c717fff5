"""Delivered and read marks on SQLite."""

from __future__ import annotations

from hypersend_server.metadata.chats import Marks
from hypersend_server.metadata.sqlite.chats_rows import audience_of, not_found
from hypersend_server.metadata.sqlite.engine import Engine, Tx

MARKS = (
    "SELECT c.seq, c.members_rev, c.members_count, m.delivered_seq, m.read_seq FROM members m"
    " JOIN chats c ON c.id = m.chat_id WHERE m.chat_id = ? AND m.user_id = ? AND m.left_at IS NULL"
)


class SqliteMarks:
    _engine: Engine

    async def set_marks(
        self, chat_id: str, user_id: str, delivered_seq: int, read_seq: int, known_members_rev: int
    ) -> Marks:
        def job(tx: Tx) -> Marks:
            row = tx.execute(MARKS, (chat_id, user_id)).fetchone()
            if row is None:
                raise not_found()
            seq, members_rev, members_count, had_delivered, had_read = row
            read = max(had_read, min(read_seq, seq))
            delivered = max(had_delivered, min(delivered_seq, seq), read)
            if (delivered, read) != (had_delivered, had_read):
                tx.execute(
                    "UPDATE members SET delivered_seq = ?, read_seq = ?, changed = ? WHERE chat_id = ? AND user_id = ?",
                    (delivered, read, tx.stamp(), chat_id, user_id),
                )
            return Marks(
                delivered,
                read,
                delivered > had_delivered,
                read > had_read,
                members_count,
                audience_of(tx.connection, chat_id, members_rev, known_members_rev),
            )

        return await self._engine.write(job)
