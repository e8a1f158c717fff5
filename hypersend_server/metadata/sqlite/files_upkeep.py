"""What housekeeping asks of files on SQLite: bytes to remove, files nothing shows, walks through all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypersend_server.metadata.files import Deletion, FileRecord, Sha256State, Stored
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx
from hypersend_server.metadata.sqlite.files_rows import FILE, file_of, get_file, parts_of
from hypersend_server.metadata.sqlite.files_uploads import UNDER_WAY, enter_deletion

_BACKUP_RUNS = "EXISTS (SELECT 1 FROM leases WHERE name = 'backup' AND expires_at > ?1)"


class SqliteFileUpkeep:
    _engine: Engine

    async def claimed(self, backends: Collection[str], after_id: str, limit: int) -> list[FileRecord]:
        marks = ", ".join("?" * len(backends))
        return await self._engine.read(lambda connection: [file_of(row) for row in connection.execute(
            f"SELECT {FILE} FROM files f WHERE f.state = 'complete' AND f.sha256_state = 'claimed'"  # noqa: S608
            f" AND f.backend IN ({marks}) AND f.id > ? ORDER BY f.id LIMIT ?", (*backends, after_id, limit))])

    async def set_sha256_state(self, file_id: str, state: Sha256State) -> None:
        def job(tx: Tx) -> None:
            tx.execute("UPDATE files SET sha256_state = ? WHERE id = ?", (state, file_id))

        await self._engine.write(job)

    async def complete_after(self, after_id: str, limit: int, backend: str | None = None) -> list[FileRecord]:
        return await self._engine.read(lambda connection: [file_of(row) for row in connection.execute(
            f"SELECT {FILE} FROM files f WHERE f.state = 'complete' AND f.id > ?1"  # noqa: S608
            " AND (?2 IS NULL OR f.backend = ?2) ORDER BY f.id LIMIT ?3", (after_id, backend, limit))])

    async def stored(self, backend: str, completed_before: int) -> Stored:
        def job(connection: ReadTx) -> Stored:
            files, size = connection.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM files WHERE state = 'complete' AND backend = ?"
                " AND completed_at < ?", (backend, completed_before)).fetchone()
            uploads = connection.execute(
                f"SELECT count(*) FROM files f WHERE {UNDER_WAY} AND f.backend = ?", (backend,)).fetchone()[0]  # noqa: S608
            return Stored(files, size, uploads)

        return await self._engine.read(job)

    async def move(
        self, file_id: str, source: Deletion, target: Deletion, upload_location: str, now: int
    ) -> FileRecord | None:
        def job(tx: Tx) -> FileRecord | None:
            moved = tx.execute(
                "UPDATE files SET backend = ?, location = ? WHERE id = ? AND state = 'complete' AND backend = ?"
                " AND location = ?", (*target, file_id, *source)).rowcount
            if not moved:
                return None
            tx.execute("DELETE FROM deletions WHERE backend = ? AND location IN (?, ?)", (*target, upload_location))
            enter_deletion(tx, *source, now)
            return get_file(tx.connection, file_id)

        return await self._engine.write(job)

    async def unshown(self, before: int, limit: int) -> list[FileRecord]:
        return await self._engine.read(lambda connection: [file_of(row) for row in connection.execute(
            f"SELECT {FILE} FROM files f WHERE f.state = 'complete' AND f.unshown_since <= ?"  # noqa: S608
            " AND NOT EXISTS (SELECT 1 FROM message_files s WHERE s.file_id = f.id) LIMIT ?", (before, limit))])

    async def due_deletions(self, now: int, limit: int) -> list[Deletion]:
        def job(connection: ReadTx) -> list[Deletion]:
            rows = connection.execute(
                f"SELECT d.backend, d.location FROM deletions d WHERE d.not_before <= ?1 AND NOT {_BACKUP_RUNS}"  # noqa: S608
                " AND NOT EXISTS (SELECT 1 FROM files f WHERE f.backend = d.backend AND f.location = d.location"
                " AND f.state <> 'deleted') ORDER BY d.not_before LIMIT ?2", (now, limit))
            return [Deletion(*row) for row in rows]

        return await self._engine.read(job)

    async def deletion_done(self, deletion: Deletion) -> None:
        def job(tx: Tx) -> None:
            tx.execute("DELETE FROM deletions WHERE backend = ? AND location = ?", deletion)

        await self._engine.write(job)

    async def hasten_deletions(self, now: int) -> int:
        return await self._engine.write(lambda tx: tx.execute(
            f"UPDATE deletions SET not_before = ?1 WHERE not_before > ?1 AND NOT {_BACKUP_RUNS}",  # noqa: S608
            (now,)).rowcount)

    async def add_deletions(self, deletions: Sequence[Deletion], now: int) -> None:
        def job(tx: Tx) -> None:
            for deletion in deletions:
                enter_deletion(tx, deletion.backend, deletion.location, now)

        await self._engine.write(job)

    async def known(self, backend: str, locations: Sequence[str], file_ids: Sequence[str]) -> set[str]:
        def job(connection: ReadTx) -> set[str]:
            found: set[str] = set()
            for part in parts_of(locations):
                marks = ", ".join("?" * len(part))
                found.update(row[0] for row in connection.execute(
                    f"SELECT location FROM files WHERE backend = ? AND location IN ({marks})"  # noqa: S608
                    " AND state <> 'deleted' UNION SELECT location FROM deletions"
                    f" WHERE backend = ? AND location IN ({marks})", (backend, *part, backend, *part)))
            for part in parts_of(file_ids):
                marks = ", ".join("?" * len(part))
                found.update(row[0] for row in connection.execute(
                    f"SELECT id FROM files WHERE id IN ({marks}) AND completed_at IS NULL", part))  # noqa: S608
            return found

        return await self._engine.read(job)

    async def backends(self) -> set[str]:
        return await self._engine.read(lambda connection: {row[0] for row in connection.execute(
            "SELECT DISTINCT backend FROM files WHERE state <> 'deleted' UNION SELECT backend FROM deletions")})
