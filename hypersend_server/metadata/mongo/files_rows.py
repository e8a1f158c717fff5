"""Documents of files as records, and the steps that several jobs about files share."""

from __future__ import annotations

from collections.abc import Iterable

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import DELETION_DELAY_MS, ChunkRecord, FileRecord
from hypersend_server.metadata.mongo.engine import Doc, Tx
from hypersend_server.metadata.mongo.file_access import FILE
from hypersend_server.metadata.mongo.records import record_of

UNDER_WAY = {"$in": ["uploading", "completing"]}


def file_of(doc: Doc) -> FileRecord:
    return record_of(FileRecord, doc)


def chunk_of(doc: Doc) -> ChunkRecord:
    return ChunkRecord(doc["idx"], doc["size"], doc["sha256"], doc["tag"], doc["boot_id"])


def chunk_id(file_id: str, index: int) -> str:
    return f"{file_id}:{index}"


def chunk_doc(file_id: str, chunk: ChunkRecord) -> Doc:
    return {"_id": chunk_id(file_id, chunk.index), "file_id": file_id, "idx": chunk.index, "size": chunk.size,
            "sha256": chunk.sha256, "tag": chunk.tag, "boot_id": chunk.boot_id}


async def get_file(tx: Tx, file_id: str) -> FileRecord | None:
    doc = await tx.one("files", {"_id": file_id}, FILE)
    return None if doc is None else file_of(doc)


async def require_file(tx: Tx, file_id: str) -> FileRecord:
    file = await get_file(tx, file_id)
    if file is None or file.state == "deleted":
        raise HyperSendError("not_found")
    return file


async def recount(tx: Tx, file_id: str) -> None:
    """received_bytes of the receipts that are there."""
    rows = await tx.grouped(
        "chunks", [{"$match": {"file_id": file_id}}, {"$group": {"_id": None, "total": {"$sum": "$size"}}}])
    await tx.update("files", {"_id": file_id}, {"$set": {"received_bytes": int(rows[0]["total"]) if rows else 0}})


async def delete_chunks(tx: Tx, name: str, file_id: str, indexes: Iterable[int]) -> None:
    """name: chunks or partials."""
    ids = [chunk_id(file_id, index) for index in indexes]
    if ids:
        await tx.delete(name, {"_id": {"$in": ids}})


async def forget_preview(tx: Tx, file: FileRecord) -> None:
    if file.preview_id is not None:
        await tx.delete("pictures", {"_id": file.preview_id})


def deletion_id(backend: str, location: str) -> str:
    return f"{backend}:{location}"


async def enter_deletion(tx: Tx, backend: str, location: str, now: int) -> None:
    """Not before an hour from now, nor before the end of a running backup's lease."""
    backup = await tx.one("leases", {"_id": "backup"})
    not_before = max(now + DELETION_DELAY_MS, 0 if backup is None else backup["expires_at"])
    await tx.update(
        "deletions", {"_id": deletion_id(backend, location)},
        {"$setOnInsert": {"backend": backend, "location": location, "not_before": not_before}}, upsert=True)
