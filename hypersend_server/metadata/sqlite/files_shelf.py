"""What people have on SQLite: who may read a file, lists of files, and how much room they take."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import FileRecord, FileState, Listing, Usage
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx
from hypersend_server.metadata.sqlite.file_access import readable
from hypersend_server.metadata.sqlite.files_rows import FILE, file_of


class SqliteShelf:
    _engine: Engine

    async def get_readable(self, file_id: str, user_id: str) -> FileRecord | None:
        return await self._engine.read(lambda connection: readable(connection, file_id, user_id))

    async def usage(self, user_id: str) -> Usage:
        def job(connection: ReadTx) -> Usage:
            row = connection.execute(
                "SELECT coalesce(sum(size) FILTER (WHERE state = 'complete'), 0),"
                " coalesce(sum(size) FILTER (WHERE state <> 'complete'), 0),"
                " count(*) FILTER (WHERE state = 'complete') FROM files"
                " WHERE owner_id = ? AND state IN ('uploading', 'completing', 'complete')", (user_id,)).fetchone()
            return Usage(*row)

        return await self._engine.read(job)

    async def list_own(
        self, user_id: str, states: Collection[FileState], query: str, after: tuple[int, str] | None, limit: int
    ) -> Listing:
        def job(connection: ReadTx) -> Listing:
            connection.create_function("casefold", 1, str.casefold, deterministic=True)
            rows = connection.execute(
                f"SELECT {FILE}, f.created_at, f.id FROM files f WHERE f.owner_id = ?"  # noqa: S608
                f" AND f.state IN ({', '.join('?' * len(states))}) AND (? = '' OR instr(casefold(f.name), ?))"
                " AND (f.created_at, f.id) < (?, ?) ORDER BY f.created_at DESC, f.id DESC LIMIT ?",
                (user_id, *states, query, query.casefold(), *_position(after), limit + 1)).fetchall()
            return _listing(rows, limit)

        return await self._engine.read(job)

    async def list_chat(
        self, chat_id: str, user_id: str, query: str, after: tuple[int, str] | None, limit: int
    ) -> Listing:
        def job(connection: ReadTx) -> Listing:
            member = connection.execute(
                "SELECT first_seq FROM members WHERE chat_id = ? AND user_id = ? AND left_at IS NULL",
                (chat_id, user_id)).fetchone()
            if member is None:
                raise HyperSendError("not_found", "There is no such chat, or you may not see it.")
            connection.create_function("casefold", 1, str.casefold, deterministic=True)
            rows = connection.execute(
                "WITH shown AS (SELECT s.file_id, max(s.seq) AS seq FROM message_files s"  # noqa: S608
                " WHERE s.chat_id = ?1 AND s.seq >= ?2 AND NOT EXISTS (SELECT 1 FROM hidden h"
                " WHERE h.user_id = ?3 AND h.chat_id = s.chat_id AND h.seq = s.seq) GROUP BY s.file_id)"
                f" SELECT {FILE}, shown.seq, f.id FROM shown JOIN files f ON f.id = shown.file_id"
                " WHERE f.state = 'complete' AND (?4 = '' OR instr(casefold(f.name), ?5))"
                " AND (shown.seq, f.id) < (?6, ?7) ORDER BY shown.seq DESC, f.id DESC LIMIT ?8",
                (chat_id, member[0], user_id, query, query.casefold(), *_position(after), limit + 1)).fetchall()
            return _listing(rows, limit)

        return await self._engine.read(job)

    async def owned(self, user_id: str, limit: int) -> list[FileRecord]:
        return await self._engine.read(lambda connection: [file_of(row) for row in connection.execute(
            f"SELECT {FILE} FROM files f WHERE f.owner_id = ? AND f.state <> 'deleted' LIMIT ?",  # noqa: S608
            (user_id, limit))])


def _position(after: tuple[int, str] | None) -> tuple[int, str]:
    return after or (2**62, "")


def _listing(rows: Sequence[Sequence[Any]], limit: int) -> Listing:
    kept = rows[:limit]
    return Listing([file_of(row) for row in kept],
                   (kept[-1][-2], kept[-1][-1]) if len(rows) > limit else None)
