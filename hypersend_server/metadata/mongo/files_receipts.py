"""Receipts and prefixes of chunks on MongoDB."""

from __future__ import annotations

from collections.abc import Sequence

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.files import ChunkRecord, ChunkState, Progress, Volatile, runs
from hypersend_server.metadata.mongo.engine import Engine, Tx
from hypersend_server.metadata.mongo.files_rows import (
    chunk_doc,
    chunk_id,
    chunk_of,
    delete_chunks,
    get_file,
    recount,
)

VOLATILE = {"$gt": ""}  # a boot id: the bytes may not survive a crash of the machine


class MongoReceipts:
    _engine: Engine

    async def get_chunk(self, file_id: str, index: int) -> ChunkState | None:
        async def job(tx: Tx) -> ChunkState | None:
            file = await get_file(tx, file_id)
            if file is None:
                return None
            chunk = await tx.one("chunks", {"_id": chunk_id(file_id, index)})
            partial = await tx.one("partials", {"_id": chunk_id(file_id, index)}) if chunk is None else None
            return ChunkState(
                file, None if chunk is None else chunk_of(chunk),
                0 if partial is None else partial["bytes"], "" if partial is None else partial["boot_id"])

        return await self._engine.read(job)

    async def progress(self, file_id: str, boot_id: str | None) -> Progress:
        async def job(tx: Tx) -> Progress:
            received: list[int] = []
            verifying: list[int] = []
            total = 0
            for doc in await tx.many(
                    "chunks", {"file_id": file_id}, {"idx": 1, "size": 1, "boot_id": 1}, sort=[("idx", 1)]):
                if doc["boot_id"] is None or doc["boot_id"] == boot_id:
                    received.append(doc["idx"])
                    total += doc["size"]
                else:
                    verifying.append(doc["idx"])
            partial = await tx.many(
                "partials", {"file_id": file_id, "boot_id": boot_id or "", "bytes": {"$gt": 0}}, sort=[("idx", 1)])
            return Progress(
                runs(received), total, [(doc["idx"], doc["bytes"]) for doc in partial], runs(verifying))

        return await self._engine.read(job)

    async def add_receipt(self, file_id: str, chunk: ChunkRecord, expires_at: int) -> int:
        async def job(tx: Tx) -> int:
            file = await get_file(tx, file_id)
            if file is None or file.state == "deleted":
                raise HyperSendError("not_found")
            if file.state == "expired":
                raise HyperSendError("upload_expired")
            there = await tx.one("chunks", {"_id": chunk_id(file_id, chunk.index)}, {"sha256": 1})
            if there is not None:
                if there["sha256"] != chunk.sha256:
                    raise HyperSendError("chunk_conflict")
                return file.received_bytes
            if file.state != "uploading":
                raise HyperSendError("upload_closed")
            await tx.update("files", {"_id": file_id}, {
                "$inc": {"received_bytes": chunk.size}, "$set": {"expires_at": expires_at}})
            await tx.insert("chunks", chunk_doc(file_id, chunk))
            await tx.delete("partials", {"_id": chunk_id(file_id, chunk.index)})
            return file.received_bytes + chunk.size

        return await self._engine.write(f"file:{file_id}", job)

    async def reconcile(self, file_id: str, chunks: Sequence[ChunkRecord], gone: Sequence[int]) -> None:
        async def job(tx: Tx) -> None:
            # Written first, so that no receipt and no completing comes between.
            if not await tx.update("files", {"_id": file_id, "state": "uploading"}, {"$inc": {"shows": 1}}):
                return
            indexes = [chunk.index for chunk in chunks]
            await delete_chunks(tx, "chunks", file_id, [*gone, *indexes])
            await delete_chunks(tx, "partials", file_id, indexes)
            if chunks:
                await tx.insert("chunks", *(
                    {**chunk_doc(file_id, chunk), "boot_id": None} for chunk in chunks))
            await recount(tx, file_id)

        await self._engine.write(f"file:{file_id}", job)

    async def set_partial(self, file_id: str, index: int, size: int, boot_id: str, expires_at: int) -> None:
        async def job(tx: Tx) -> None:
            if size == 0:
                await tx.delete("partials", {"_id": chunk_id(file_id, index)})
            elif await tx.update(
                    "files", {"_id": file_id, "state": "uploading"}, {"$set": {"expires_at": expires_at}}) and (
                    await tx.one("chunks", {"_id": chunk_id(file_id, index)}, {"_id": 1}) is None):
                await tx.update("partials", {"_id": chunk_id(file_id, index)}, {"$set": {
                    "file_id": file_id, "idx": index, "bytes": size, "boot_id": boot_id}}, upsert=True)

        await self._engine.write(f"file:{file_id}", job)

    async def mark_durable(self, file_id: str, indexes: Sequence[int], boot_id: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update_all(
                "chunks", {"_id": {"$in": [chunk_id(file_id, index) for index in indexes]}, "boot_id": boot_id},
                {"$set": {"boot_id": None}})

        await self._engine.write(f"file:{file_id}", job)

    async def drop_volatile(self, file_id: str) -> int:
        async def job(tx: Tx) -> int:
            count = await tx.delete("chunks", {"file_id": file_id, "boot_id": VOLATILE})
            await tx.delete("partials", {"file_id": file_id})
            await recount(tx, file_id)
            return count

        return await self._engine.write(f"file:{file_id}", job)

    async def volatile(self) -> list[Volatile]:
        async def job(tx: Tx) -> list[Volatile]:
            docs = await tx.many(
                "chunks", {"boot_id": VOLATILE}, {"file_id": 1, "idx": 1, "boot_id": 1},
                sort=[("file_id", 1), ("idx", 1)])
            uploading = set()
            for file_id in {doc["file_id"] for doc in docs}:
                if await tx.one("files", {"_id": file_id, "state": "uploading"}, {"_id": 1}) is not None:
                    uploading.add(file_id)
            return [Volatile(doc["file_id"], doc["idx"], doc["boot_id"]) for doc in docs if doc["file_id"] in uploading]

        return await self._engine.read(job)

    async def settle(self, file_id: str, index: int, boot_id: str, is_intact: bool) -> None:
        async def job(tx: Tx) -> None:
            where = {"_id": chunk_id(file_id, index), "boot_id": boot_id}
            if is_intact:
                await tx.update("chunks", where, {"$set": {"boot_id": None}})
            elif await tx.delete("chunks", where):
                await recount(tx, file_id)

        await self._engine.write(f"file:{file_id}", job)

    async def chunks(self, file_id: str) -> list[ChunkRecord]:
        async def job(tx: Tx) -> list[ChunkRecord]:
            return [chunk_of(doc) for doc in await tx.many("chunks", {"file_id": file_id}, sort=[("idx", 1)])]

        return await self._engine.read(job)
