"""The life of an upload on MongoDB: begun, completed, expired, aborted; and removing a file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import Begun, FileRecord, Finished, Preview, Range, is_taken_over
from hypersend_server.metadata.mongo.chats_upkeep import enqueue
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.file_access import FILE
from hypersend_server.metadata.mongo.files_rows import (
    UNDER_WAY,
    delete_chunks,
    enter_deletion,
    file_of,
    forget_preview,
    get_file,
    recount,
    require_file,
)
from hypersend_server.metadata.mongo.records import doc_of


class MongoUploads:
    _engine: Engine

    async def begin(
        self, file: FileRecord, *, idempotency_key: str | None, request_hash: bytes, preview: Preview | None,
        default_quota_bytes: int | None, free_bytes: int | None,
    ) -> Begun:
        async def job(tx: Tx) -> Begun:
            if idempotency_key is not None:
                doc = await tx.one("files", {"owner_id": file.owner_id, "idempotency_key": idempotency_key})
                if doc is not None:
                    if doc["request_hash"] != request_hash:
                        raise HyperSendError("idempotency_conflict")
                    known = file_of(doc)
                    if is_taken_over(known, file):
                        await tx.update("files", {"_id": known.id}, {"$set": {"ticket_id": file.ticket_id}})
                        known = msgspec.structs.replace(known, ticket_id=file.ticket_id)
                    return Begun(known, False)
            await _require_quota(tx, file, default_quota_bytes)
            await _require_space(tx, file, free_bytes)
            # Whoever reserves of the same room, or with the same key, collides here and begins again.
            await tx.update("meta", {"_id": f"room:{file.owner_id}"}, {"$inc": {"value": 1}}, upsert=True)
            if free_bytes is not None:
                await tx.update("meta", {"_id": f"room:{file.backend}"}, {"$inc": {"value": 1}}, upsert=True)
            if preview is not None:
                await tx.insert("pictures", doc_of(preview))
            doc = doc_of(file, name_key=file.name.casefold(), shows=0)
            if idempotency_key is not None:
                doc |= {"idempotency_key": idempotency_key, "request_hash": request_hash}
            await tx.insert("files", doc)
            return Begun(file, True)

        return await self._engine.write("begin", job)

    async def set_location(self, file_id: str, location: str, instead_of: str = "") -> FileRecord | None:
        async def job(tx: Tx) -> FileRecord | None:
            await tx.update(
                "files", {"_id": file_id, "location": instead_of, "state": "uploading"},
                {"$set": {"location": location}})
            return await get_file(tx, file_id)

        return await self._engine.write(f"file:{file_id}", job)

    async def get(self, file_id: str) -> FileRecord | None:
        return await self._engine.read(lambda tx: get_file(tx, file_id))

    async def begin_completing(self, file_id: str) -> FileRecord:
        async def job(tx: Tx) -> FileRecord:
            file = await require_file(tx, file_id)
            if file.state in ("completing", "complete"):
                return file
            if file.state == "expired":
                raise HyperSendError("upload_expired")
            chunks = await tx.many("chunks", {"file_id": file_id}, {"idx": 1, "boot_id": 1}, sort=[("idx", 1)])
            if len(chunks) < file.chunk_count:
                missing = gaps([chunk["idx"] for chunk in chunks], file.chunk_count)
                raise HyperSendError("chunks_missing", f"{file.chunk_count - len(chunks)} chunks have not arrived.",
                                     extra={"missing": missing})
            if any(chunk["boot_id"] is not None for chunk in chunks):
                raise HyperSendError("verifying", retry_after_s=1)
            await tx.update("files", {"_id": file_id}, {"$set": {"state": "completing"}})
            return msgspec.structs.replace(file, state="completing")

        return await self._engine.write(f"file:{file_id}", job)

    async def reopen(self, file_id: str, gone: Sequence[int], expires_at: int) -> None:
        async def job(tx: Tx) -> None:
            if await tx.update("files", {"_id": file_id, "state": "completing"},
                               {"$set": {"state": "uploading", "expires_at": expires_at}}):
                await delete_chunks(tx, "chunks", file_id, gone)
                await recount(tx, file_id)

        await self._engine.write(f"file:{file_id}", job)

    async def finish(
        self, file_id: str, location: str, checksum: bytes, sniffed_mime: str | None, now: int
    ) -> Finished:
        async def job(tx: Tx) -> Finished:
            file = await require_file(tx, file_id)
            if file.state == "complete":
                return Finished(file, False)
            if file.state != "completing":
                raise HyperSendError("upload_closed")
            await tx.update("files", {"_id": file_id}, {"$set": {
                "state": "complete", "location": location, "checksum": checksum, "sniffed_mime": sniffed_mime,
                "completed_at": now, "expires_at": None,
                "unshown_since": None if file.chat_id is None else now}})
            await tx.update_all("chunks", {"file_id": file_id, "boot_id": {"$gt": ""}}, {"$set": {"boot_id": None}})
            await tx.delete("partials", {"file_id": file_id})
            return Finished(await require_file(tx, file_id), True)

        return await self._engine.write(f"file:{file_id}", job)

    async def completing(self) -> list[FileRecord]:
        async def job(tx: Tx) -> list[FileRecord]:
            return [file_of(doc) for doc in await tx.many("files", {"state": "completing"}, FILE)]

        return await self._engine.read(job)

    async def expire(self, now: int, limit: int) -> list[FileRecord]:
        async def job(tx: Tx) -> list[FileRecord]:
            docs = await tx.many("files", {"state": "uploading", "expires_at": {"$lte": now}}, FILE, limit=limit)
            ended = [msgspec.structs.replace(file_of(doc), state="expired") for doc in docs]
            for file in ended:
                await forget_preview(tx, file)
                await tx.update("files", {"_id": file.id}, {
                    "$set": {"state": "expired", "preview_id": None}, "$unset": {"idempotency_key": ""}})
            return ended

        return await self._engine.write("expire", job)

    async def extend_upload(self, file_id: str, expires_at: int) -> None:
        async def job(tx: Tx) -> None:
            file = await require_file(tx, file_id)
            if file.state == "expired":
                raise HyperSendError("upload_expired")
            if file.state != "uploading":
                raise HyperSendError("upload_closed")
            await tx.update("files", {"_id": file_id, "state": "uploading"}, {"$set": {"expires_at": expires_at}})

        await self._engine.single(job)

    async def abandoned(self, limit: int, now: int | None = None) -> list[FileRecord]:
        async def job(tx: Tx) -> list[FileRecord]:
            any_of: list[Doc] = [{"state": "deleted"}, {"state": "expired", "location": {"$gt": ""}}]
            if now is not None:
                any_of.append({"state": "uploading", "expires_at": {"$lte": now}})
            docs: list[Doc] = []
            for where in any_of:
                if len(docs) < limit:
                    docs += await tx.many("files", {**where, "completed_at": None}, FILE, limit=limit - len(docs))
            return [file_of(doc) for doc in docs]

        return await self._engine.read(job)

    async def forget_upload(self, file_id: str) -> None:
        async def job(tx: Tx) -> None:
            file = await get_file(tx, file_id)
            if file is not None and file.completed_at is None and file.state in ("deleted", "expired"):
                await tx.delete("chunks", {"file_id": file_id})
            await tx.delete("partials", {"file_id": file_id})
            await tx.delete("files", {"_id": file_id, "state": "deleted", "completed_at": None})
            await tx.update(
                "files", {"_id": file_id, "state": "expired"}, {"$set": {"location": "", "received_bytes": 0}})

        await self._engine.write(f"file:{file_id}", job)

    async def forget_expired(self, before: int) -> int:
        async def job(tx: Tx) -> int:
            return await tx.delete("files", {"state": "expired", "location": "", "created_at": {"$lt": before}})

        return await self._engine.single(job)

    async def remove(self, file_id: str, now: int, *, location: str | None = None) -> FileRecord | None:
        async def job(tx: Tx) -> FileRecord | None:
            file = await get_file(tx, file_id)
            if file is None or file.state == "deleted" or location not in (None, file.location):
                return None
            await tx.update("files", {"_id": file_id}, {
                "$set": {"state": "deleted", "deleted_at": now, "preview_id": None, "unshown_since": None,
                         "expires_at": None},
                "$unset": {"idempotency_key": ""}})
            await forget_preview(tx, file)
            if file.state == "complete":
                await tx.delete("chunks", {"file_id": file_id})
                await enter_deletion(tx, file.backend, file.location, now)
                if await tx.one("message_files", {"file_id": file_id}, {"_id": 1}) is not None:
                    await enqueue(tx, "restamp_file", file_id)  # where chats look for what is due: see their upkeep
            return file

        return await self._engine.write(f"file:{file_id}", job)


def gaps(present: Sequence[int], count: int) -> list[Range]:
    """The runs of 0 … count-1 that ascending `present` leaves out."""
    missing: list[Range] = []
    expected = 0
    for index in present:
        if index > expected:
            missing.append((expected, index - 1))
        expected = index + 1
    if expected < count:
        missing.append((expected, count - 1))
    return missing


async def _require_quota(tx: Tx, file: FileRecord, default_quota_bytes: int | None) -> None:
    owner = await tx.one("users", {"_id": file.owner_id}, {"quota_bytes": 1})
    quota = default_quota_bytes if owner is None or owner["quota_bytes"] is None else int(owner["quota_bytes"])
    if quota is None:
        return
    used, reserved, _ = await usage_of(tx, file.owner_id)
    if used + reserved + file.size > quota:
        raise HyperSendError(
            "quota_exceeded", f"The file has {file.size} bytes; {max(0, quota - used - reserved)} of {quota} are left.",
            extra={"size": file.size, "quota_bytes": quota, "used_bytes": used, "reserved_bytes": reserved})


async def usage_of(tx: Tx, user_id: str) -> tuple[int, int, int]:
    """(bytes of complete files, bytes reserved by uploads, how many are complete)."""
    rows = await tx.grouped("files", [
        {"$match": {"owner_id": user_id, "state": {"$in": ["uploading", "completing", "complete"]}}},
        {"$group": {"_id": "$state", "count": {"$sum": 1}, "total": {"$sum": "$size"}}}])
    totals = {row["_id"]: (int(row["total"]), int(row["count"])) for row in rows}
    used, files = totals.pop("complete", (0, 0))
    return used, sum(total for total, _ in totals.values()), files


async def _require_space(tx: Tx, file: FileRecord, free_bytes: int | None) -> None:
    if free_bytes is None:
        return
    rows = await tx.grouped("files", [
        {"$match": {"state": UNDER_WAY, "backend": file.backend}},
        {"$group": {"_id": None, "size": {"$sum": "$size"}, "received": {"$sum": "$received_bytes"}}}])
    pending = int(rows[0]["size"] - rows[0]["received"]) if rows else 0
    if free_bytes - pending < file.size:
        raise HyperSendError(
            "storage_full", f"The file has {file.size} bytes; the server has room for {max(0, free_bytes - pending)}.",
            extra={"size": file.size, "free_bytes": max(0, free_bytes - pending), "reserved_bytes": pending})
