"""The life of an upload on SQLite: begun, completed, expired, aborted; and removing a file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import (
    DELETION_DELAY_MS,
    Begun,
    FileRecord,
    Finished,
    Preview,
    Range,
    is_taken_over,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx
from hypersend_server.metadata.sqlite.files_rows import FILE, file_of, get_file

UNDER_WAY = "f.state IN ('uploading', 'completing')"


class SqliteUploads:
    _engine: Engine

    async def begin(
        self, file: FileRecord, *, idempotency_key: str | None, request_hash: bytes, preview: Preview | None,
        default_quota_bytes: int | None, free_bytes: int | None,
    ) -> Begun:
        def job(tx: Tx) -> Begun:
            if idempotency_key is not None:
                row = tx.execute(
                    f"SELECT {FILE}, f.request_hash FROM files f"  # noqa: S608
                    " WHERE f.owner_id = ? AND f.idempotency_key = ?", (file.owner_id, idempotency_key)).fetchone()
                if row is not None:
                    if row[-1] != request_hash:
                        raise HyperSendError("idempotency_conflict")
                    known = file_of(row)
                    if is_taken_over(known, file):
                        tx.execute("UPDATE files SET ticket_id = ? WHERE id = ?", (file.ticket_id, known.id))
                        known = msgspec.structs.replace(known, ticket_id=file.ticket_id)
                    return Begun(known, False)
            _require_quota(tx, file, default_quota_bytes)
            _require_space(tx, file, free_bytes)
            if preview is not None:
                tx.execute("INSERT INTO pictures (id, mime, data) VALUES (?, ?, ?)",
                           (preview.id, preview.mime, preview.data))
            columns = {**msgspec.structs.asdict(file), "idempotency_key": idempotency_key,
                       "request_hash": request_hash if idempotency_key is not None else None}
            tx.execute(f"INSERT INTO files ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
                       tuple(columns.values()))
            return Begun(file, True)

        return await self._engine.write(job)

    async def set_location(self, file_id: str, location: str, instead_of: str = "") -> FileRecord | None:
        def job(tx: Tx) -> FileRecord | None:
            tx.execute("UPDATE files SET location = ? WHERE id = ? AND location = ? AND state = 'uploading'",
                       (location, file_id, instead_of))
            return get_file(tx.connection, file_id)

        return await self._engine.write(job)

    async def get(self, file_id: str) -> FileRecord | None:
        return await self._engine.read(lambda connection: get_file(connection, file_id))

    async def begin_completing(self, file_id: str) -> FileRecord:
        def job(tx: Tx) -> FileRecord:
            file = _require(tx, file_id)
            if file.state in ("completing", "complete"):
                return file
            if file.state == "expired":
                raise HyperSendError("upload_expired")
            count, unsure = tx.execute(
                "SELECT count(*), coalesce(sum(boot_id IS NOT NULL), 0) FROM chunks WHERE file_id = ?",
                (file_id,)).fetchone()
            if count < file.chunk_count:
                present = (row[0] for row in tx.execute(
                    "SELECT idx FROM chunks WHERE file_id = ? ORDER BY idx", (file_id,)))
                missing = gaps(present, file.chunk_count)
                raise HyperSendError("chunks_missing", f"{file.chunk_count - count} chunks have not arrived.",
                                     extra={"missing": missing})
            if unsure:
                raise HyperSendError("verifying", retry_after_s=1)
            tx.execute("UPDATE files SET state = 'completing' WHERE id = ?", (file_id,))
            return msgspec.structs.replace(file, state="completing")

        return await self._engine.write(job)

    async def reopen(self, file_id: str, gone: Sequence[int], expires_at: int) -> None:
        def job(tx: Tx) -> None:
            changed = tx.execute("UPDATE files SET state = 'uploading', expires_at = ? WHERE id = ?"
                                 " AND state = 'completing'", (expires_at, file_id)).rowcount
            if changed:
                tx.executemany("DELETE FROM chunks WHERE file_id = ? AND idx = ?", [(file_id, n) for n in gone])
                tx.execute("UPDATE files SET received_bytes = (SELECT coalesce(sum(size), 0) FROM chunks"
                           " WHERE file_id = ?1) WHERE id = ?1", (file_id,))

        await self._engine.write(job)

    async def finish(
        self, file_id: str, location: str, checksum: bytes, sniffed_mime: str | None, now: int
    ) -> Finished:
        def job(tx: Tx) -> Finished:
            file = _require(tx, file_id)
            if file.state == "complete":
                return Finished(file, False)
            if file.state != "completing":
                raise HyperSendError("upload_closed")
            tx.execute(
                "UPDATE files SET state = 'complete', location = ?2, checksum = ?3, sniffed_mime = ?4,"
                " completed_at = ?5, expires_at = NULL,"
                " unshown_since = CASE WHEN chat_id IS NULL THEN NULL ELSE ?5 END WHERE id = ?1",
                (file_id, location, checksum, sniffed_mime, now))
            tx.execute("UPDATE chunks SET boot_id = NULL WHERE file_id = ? AND boot_id IS NOT NULL", (file_id,))
            tx.execute("DELETE FROM partials WHERE file_id = ?", (file_id,))
            return Finished(_require(tx, file_id), True)

        return await self._engine.write(job)

    async def completing(self) -> list[FileRecord]:
        return await self._engine.read(lambda connection: [file_of(row) for row in connection.execute(
            f"SELECT {FILE} FROM files f WHERE {UNDER_WAY} AND f.state = 'completing'")])  # noqa: S608

    async def expire(self, now: int, limit: int) -> list[FileRecord]:
        def job(tx: Tx) -> list[FileRecord]:
            rows = tx.execute(
                f"SELECT {FILE} FROM files f WHERE {UNDER_WAY} AND f.state = 'uploading'"  # noqa: S608
                " AND f.expires_at <= ? LIMIT ?", (now, limit)).fetchall()
            ended = [msgspec.structs.replace(file_of(row), state="expired") for row in rows]
            for file in ended:
                _forget_preview(tx, file)
                tx.execute("UPDATE files SET state = 'expired', idempotency_key = NULL, preview_id = NULL"
                           " WHERE id = ?", (file.id,))
            return ended

        return await self._engine.write(job)

    async def extend_upload(self, file_id: str, expires_at: int) -> None:
        def job(tx: Tx) -> None:
            file = _require(tx, file_id)
            if file.state == "expired":
                raise HyperSendError("upload_expired")
            if file.state != "uploading":
                raise HyperSendError("upload_closed")
            tx.execute("UPDATE files SET expires_at = ? WHERE id = ?", (expires_at, file_id))

        await self._engine.write(job, durable=False)

    async def abandoned(self, limit: int, now: int | None = None) -> list[FileRecord]:
        def job(connection: ReadTx) -> list[FileRecord]:
            return [file_of(row) for row in connection.execute(
                f"SELECT {FILE} FROM files f WHERE f.completed_at IS NULL AND (f.state = 'deleted'"  # noqa: S608
                " OR f.state = 'expired' AND f.location <> '' OR f.state = 'uploading' AND f.expires_at <= ?2)"
                " LIMIT ?1", (limit, now))]

        return await self._engine.read(job)

    async def forget_upload(self, file_id: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute("DELETE FROM chunks WHERE file_id = ? AND EXISTS (SELECT 1 FROM files WHERE id = file_id"
                       " AND completed_at IS NULL AND state IN ('deleted', 'expired'))", (file_id,))
            tx.execute("DELETE FROM partials WHERE file_id = ?", (file_id,))
            tx.execute("DELETE FROM files WHERE id = ? AND state = 'deleted' AND completed_at IS NULL", (file_id,))
            tx.execute("UPDATE files SET location = '', received_bytes = 0 WHERE id = ? AND state = 'expired'",
                       (file_id,))

        await self._engine.write(job)

    async def forget_expired(self, before: int) -> int:
        return await self._engine.write(lambda tx: tx.execute(
            "DELETE FROM files WHERE state = 'expired' AND location = '' AND created_at < ?", (before,)).rowcount)

    async def remove(self, file_id: str, now: int, *, location: str | None = None) -> FileRecord | None:
        def job(tx: Tx) -> FileRecord | None:
            file = get_file(tx.connection, file_id)
            if file is None or file.state == "deleted" or location not in (None, file.location):
                return None
            _forget_preview(tx, file)
            tx.execute("UPDATE files SET state = 'deleted', deleted_at = ?, idempotency_key = NULL, preview_id = NULL,"
                       " unshown_since = NULL, expires_at = NULL WHERE id = ?", (now, file_id))
            if file.state == "complete":
                tx.execute("DELETE FROM chunks WHERE file_id = ?", (file_id,))
                enter_deletion(tx, file.backend, file.location, now)
                if tx.execute("SELECT 1 FROM message_files WHERE file_id = ? LIMIT 1", (file_id,)).fetchone():
                    # Where chats look for what is due: see their upkeep.
                    tx.execute("INSERT INTO jobs (id, kind, payload) VALUES (?, 'restamp_file', ?)"
                               " ON CONFLICT DO NOTHING", (f"restamp_file:{file_id}", file_id.encode()))
            return file

        return await self._engine.write(job)


def enter_deletion(tx: Tx, backend: str, location: str, now: int) -> None:
    """Not before an hour from now, nor before the end of a running backup's lease."""
    tx.execute(
        "INSERT INTO deletions (backend, location, not_before) VALUES (?1, ?2, max(?3,"
        " coalesce((SELECT expires_at FROM leases WHERE name = 'backup'), 0))) ON CONFLICT DO NOTHING",
        (backend, location, now + DELETION_DELAY_MS))


def gaps(present: object, count: int) -> list[Range]:
    """The runs of 0 … count-1 that ascending `present` leaves out."""
    missing: list[Range] = []
    expected = 0
    for index in present:  # type: ignore[attr-defined]
        if index > expected:
            missing.append((expected, index - 1))
        expected = index + 1
    if expected < count:
        missing.append((expected, count - 1))
    return missing


def _require(tx: Tx, file_id: str) -> FileRecord:
    file = get_file(tx.connection, file_id)
    if file is None or file.state == "deleted":
        raise HyperSendError("not_found")
    return file


def _forget_preview(tx: Tx, file: FileRecord) -> None:
    if file.preview_id is not None:
        tx.execute("DELETE FROM pictures WHERE id = ?", (file.preview_id,))


def _require_quota(tx: Tx, file: FileRecord, default_quota_bytes: int | None) -> None:
    row = tx.execute("SELECT quota_bytes FROM users WHERE id = ?", (file.owner_id,)).fetchone()
    quota = default_quota_bytes if row is None or row[0] is None else row[0]
    if quota is None:
        return
    used, reserved = tx.execute(
        "SELECT coalesce(sum(size) FILTER (WHERE state = 'complete'), 0),"
        " coalesce(sum(size) FILTER (WHERE state <> 'complete'), 0) FROM files"
        " WHERE owner_id = ? AND state IN ('uploading', 'completing', 'complete')", (file.owner_id,)).fetchone()
    if used + reserved + file.size > quota:
        raise HyperSendError(
            "quota_exceeded", f"The file has {file.size} bytes; {max(0, quota - used - reserved)} of {quota} are left.",
            extra={"size": file.size, "quota_bytes": quota, "used_bytes": used, "reserved_bytes": reserved})


def _require_space(tx: Tx, file: FileRecord, free_bytes: int | None) -> None:
    if free_bytes is None:
        return
    pending: int = tx.execute(
        f"SELECT coalesce(sum(f.size - f.received_bytes), 0) FROM files f"  # noqa: S608
        f" WHERE {UNDER_WAY} AND f.backend = ?", (file.backend,)).fetchone()[0]
    if free_bytes - pending < file.size:
        raise HyperSendError(
            "storage_full", f"The file has {file.size} bytes; the server has room for {max(0, free_bytes - pending)}.",
            extra={"size": file.size, "free_bytes": max(0, free_bytes - pending), "reserved_bytes": pending})
