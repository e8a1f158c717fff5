"""Receipts and prefixes of chunks on SQLite.

What is written here for each chunk is not synced by itself: a crash of the machine may take a receipt back, and the
chunk is sent again, as one whose bytes did not reach the disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import ChunkRecord, ChunkState, Progress, Volatile, runs
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx
from hypersend_server.metadata.sqlite.files_rows import FILE, file_of, get_file

CHUNK = "c.idx, c.size, c.sha256, c.tag, c.boot_id"


class SqliteReceipts:
    _engine: Engine

    async def get_chunk(self, file_id: str, index: int) -> ChunkState | None:
        def job(connection: ReadTx) -> ChunkState | None:
            row = connection.execute(
                f"SELECT {CHUNK}, p.bytes, p.boot_id, {FILE} FROM files f"  # noqa: S608
                " LEFT JOIN chunks c ON c.file_id = f.id AND c.idx = ?2"
                " LEFT JOIN partials p ON p.file_id = f.id AND p.idx = ?2 WHERE f.id = ?1", (file_id, index)).fetchone()
            if row is None:
                return None
            receipt = None if row[0] is None else ChunkRecord(*row[:5])
            return ChunkState(file_of(row[7:]), receipt, row[5] or 0, row[6] or "")

        return await self._engine.read(job)

    async def progress(self, file_id: str, boot_id: str | None) -> Progress:
        def job(connection: ReadTx) -> Progress:
            received: list[int] = []
            verifying: list[int] = []
            total = 0
            for index, size, written in connection.execute(
                "SELECT idx, size, boot_id FROM chunks WHERE file_id = ? ORDER BY idx", (file_id,)
            ):
                if written is None or written == boot_id:
                    received.append(index)
                    total += size
                else:
                    verifying.append(index)
            partial = connection.execute(
                "SELECT idx, bytes FROM partials WHERE file_id = ? AND boot_id = ? AND bytes > 0 ORDER BY idx",
                (file_id, boot_id or "")).fetchall()
            return Progress(runs(received), total, [(index, size) for index, size in partial], runs(verifying))

        return await self._engine.read(job)

    async def add_receipt(self, file_id: str, chunk: ChunkRecord, expires_at: int) -> int:
        def job(tx: Tx) -> int:
            file = get_file(tx.connection, file_id)
            if file is None or file.state == "deleted":
                raise HyperSendError("not_found")
            if file.state == "expired":
                raise HyperSendError("upload_expired")
            row = tx.execute("SELECT sha256 FROM chunks WHERE file_id = ? AND idx = ?",
                             (file_id, chunk.index)).fetchone()
            if row is not None:
                if row[0] != chunk.sha256:
                    raise HyperSendError("chunk_conflict")
                return file.received_bytes
            if file.state != "uploading":
                raise HyperSendError("upload_closed")
            tx.execute("INSERT INTO chunks (file_id, idx, size, sha256, tag, boot_id) VALUES (?, ?, ?, ?, ?, ?)",
                       (file_id, chunk.index, chunk.size, chunk.sha256, chunk.tag, chunk.boot_id))
            tx.execute("DELETE FROM partials WHERE file_id = ? AND idx = ?", (file_id, chunk.index))
            tx.execute("UPDATE files SET received_bytes = received_bytes + ?, expires_at = ? WHERE id = ?",
                       (chunk.size, expires_at, file_id))
            return file.received_bytes + chunk.size

        return await self._engine.write(job, durable=False)

    async def reconcile(self, file_id: str, chunks: Sequence[ChunkRecord], gone: Sequence[int]) -> None:
        def job(tx: Tx) -> None:
            file = get_file(tx.connection, file_id)
            if file is None or file.state != "uploading":
                return
            tx.executemany("DELETE FROM chunks WHERE file_id = ? AND idx = ?", [(file_id, index) for index in gone])
            tx.executemany(
                "INSERT OR REPLACE INTO chunks (file_id, idx, size, sha256, tag, boot_id)"
                " VALUES (?, ?, ?, ?, ?, NULL)", [(file_id, c.index, c.size, c.sha256, c.tag) for c in chunks])
            tx.executemany("DELETE FROM partials WHERE file_id = ? AND idx = ?", [(file_id, c.index) for c in chunks])
            tx.execute("UPDATE files SET received_bytes = (SELECT coalesce(sum(size), 0) FROM chunks"
                       " WHERE file_id = ?1) WHERE id = ?1", (file_id,))

        await self._engine.write(job)

    async def set_partial(self, file_id: str, index: int, size: int, boot_id: str, expires_at: int) -> None:
        def job(tx: Tx) -> None:
            if size == 0:
                tx.execute("DELETE FROM partials WHERE file_id = ? AND idx = ?", (file_id, index))
                return
            tx.execute(
                "INSERT INTO partials (file_id, idx, bytes, boot_id) SELECT ?1, ?2, ?3, ?4"
                " WHERE EXISTS (SELECT 1 FROM files WHERE id = ?1 AND state = 'uploading')"
                " AND NOT EXISTS (SELECT 1 FROM chunks WHERE file_id = ?1 AND idx = ?2)"
                " ON CONFLICT (file_id, idx) DO UPDATE SET bytes = ?3, boot_id = ?4", (file_id, index, size, boot_id))
            tx.execute("UPDATE files SET expires_at = ? WHERE id = ? AND state = 'uploading'", (expires_at, file_id))

        await self._engine.write(job, durable=False)

    async def mark_durable(self, file_id: str, indexes: Sequence[int], boot_id: str) -> None:
        def job(tx: Tx) -> None:
            tx.executemany("UPDATE chunks SET boot_id = NULL WHERE file_id = ? AND idx = ? AND boot_id = ?",
                           [(file_id, index, boot_id) for index in indexes])

        await self._engine.write(job, durable=False)

    async def drop_volatile(self, file_id: str) -> int:
        def job(tx: Tx) -> int:
            sizes = tx.execute("DELETE FROM chunks WHERE file_id = ? AND boot_id IS NOT NULL RETURNING size",
                               (file_id,)).fetchall()
            tx.execute("DELETE FROM partials WHERE file_id = ?", (file_id,))
            tx.execute("UPDATE files SET received_bytes = received_bytes - ? WHERE id = ?",
                       (sum(row[0] for row in sizes), file_id))
            return len(sizes)

        return await self._engine.write(job)

    async def volatile(self) -> list[Volatile]:
        def job(connection: ReadTx) -> list[Volatile]:
            rows = connection.execute(
                "SELECT c.file_id, c.idx, c.boot_id FROM chunks c JOIN files f ON f.id = c.file_id"
                " WHERE c.boot_id IS NOT NULL AND f.state = 'uploading' ORDER BY c.file_id, c.idx")
            return [Volatile(*row) for row in rows]

        return await self._engine.read(job)

    async def settle(self, file_id: str, index: int, boot_id: str, is_intact: bool) -> None:
        def job(tx: Tx) -> None:
            if is_intact:
                tx.execute("UPDATE chunks SET boot_id = NULL WHERE file_id = ? AND idx = ? AND boot_id = ?",
                           (file_id, index, boot_id))
                return
            row = tx.execute("DELETE FROM chunks WHERE file_id = ? AND idx = ? AND boot_id = ? RETURNING size",
                             (file_id, index, boot_id)).fetchone()
            if row is not None:
                tx.execute("UPDATE files SET received_bytes = received_bytes - ? WHERE id = ?", (row[0], file_id))

        await self._engine.write(job)

    async def chunks(self, file_id: str) -> list[ChunkRecord]:
        return await self._engine.read(lambda connection: [ChunkRecord(*row) for row in connection.execute(
            f"SELECT {CHUNK} FROM chunks c WHERE c.file_id = ? ORDER BY c.idx", (file_id,))])  # noqa: S608
