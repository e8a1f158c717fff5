"""What housekeeping asks of files on MongoDB: bytes to remove, files nothing shows, walks through all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypersend_server.metadata.files import Deletion, FileRecord, Sha256State, Stored
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.file_access import FILE
from hypersend_server.metadata.mongo.files_rows import UNDER_WAY, deletion_id, enter_deletion, file_of, get_file
from hypersend_server.metadata.mongo.records import parts_of

STATES = ["uploading", "completing", "complete", "expired"]  # all but deleted


class MongoFileUpkeep:
    _engine: Engine

    async def claimed(self, backends: Collection[str], after_id: str, limit: int) -> list[FileRecord]:
        return await self._walk({
            "state": "complete", "sha256_state": "claimed", "backend": {"$in": list(backends)},
            "_id": {"$gt": after_id}}, limit)

    async def set_sha256_state(self, file_id: str, state: Sha256State) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update("files", {"_id": file_id}, {"$set": {"sha256_state": state}})

        await self._engine.single(job)

    async def complete_after(self, after_id: str, limit: int, backend: str | None = None) -> list[FileRecord]:
        where: Doc = {"state": "complete", "_id": {"$gt": after_id}}
        return await self._walk(where if backend is None else {**where, "backend": backend}, limit)

    async def _walk(self, where: Doc, limit: int) -> list[FileRecord]:
        async def job(tx: Tx) -> list[FileRecord]:
            return [file_of(doc) for doc in await tx.many("files", where, FILE, sort=[("_id", 1)], limit=limit)]

        return await self._engine.read(job)

    async def stored(self, backend: str, completed_before: int) -> Stored:
        async def job(tx: Tx) -> Stored:
            rows = await tx.grouped("files", [
                {"$match": {"state": "complete", "backend": backend, "completed_at": {"$lt": completed_before}}},
                {"$group": {"_id": None, "count": {"$sum": 1}, "total": {"$sum": "$size"}}}])
            uploads = await tx.count("files", {"state": UNDER_WAY, "backend": backend})
            return Stored(int(rows[0]["count"]) if rows else 0, int(rows[0]["total"]) if rows else 0, uploads)

        return await self._engine.read(job)

    async def move(
        self, file_id: str, source: Deletion, target: Deletion, upload_location: str, now: int
    ) -> FileRecord | None:
        async def job(tx: Tx) -> FileRecord | None:
            here = {"_id": file_id, "state": "complete", "backend": source.backend, "location": source.location}
            if not await tx.update(
                    "files", here, {"$set": {"backend": target.backend, "location": target.location}}):
                return None
            await tx.delete("deletions", {"_id": {"$in": [
                deletion_id(*target), deletion_id(target.backend, upload_location)]}})
            await enter_deletion(tx, *source, now)
            return await get_file(tx, file_id)

        return await self._engine.write(f"file:{file_id}", job)

    async def unshown(self, before: int, limit: int) -> list[FileRecord]:
        async def job(tx: Tx) -> list[FileRecord]:
            docs = await tx.many(
                "files", {"unshown_since": {"$gt": 0, "$lte": before}, "state": "complete"}, FILE, limit=limit)
            shown = set(await tx.distinct(
                "message_files", "file_id", {"file_id": {"$in": [doc["_id"] for doc in docs]}})) if docs else set()
            return [file_of(doc) for doc in docs if doc["_id"] not in shown]

        return await self._engine.read(job)

    async def due_deletions(self, now: int, limit: int) -> list[Deletion]:
        async def job(tx: Tx) -> list[Deletion]:
            if await _backup_runs(tx, now):
                return []
            due: list[Deletion] = []
            skip_to: Doc = {}
            while len(due) < limit:
                docs = await tx.many(
                    "deletions", {"not_before": {"$lt": now + 1}, **skip_to}, sort=[("not_before", 1), ("_id", 1)],
                    limit=limit)
                for doc in docs:
                    used = {"backend": doc["backend"], "location": doc["location"], "state": {"$in": STATES}}
                    if await tx.one("files", used, {"_id": 1}) is None:
                        due.append(Deletion(doc["backend"], doc["location"]))
                if len(docs) < limit:
                    break
                last = docs[-1]  # what is in use stays, and must not hide what comes after it
                skip_to = {"$or": [
                    {"not_before": {"$gt": last["not_before"]}},
                    {"not_before": last["not_before"], "_id": {"$gt": last["_id"]}}]}
            return due[:limit]

        return await self._engine.read(job)

    async def deletion_done(self, deletion: Deletion) -> None:
        async def job(tx: Tx) -> int:
            return await tx.delete("deletions", {"_id": deletion_id(*deletion)})

        await self._engine.single(job)

    async def hasten_deletions(self, now: int) -> int:
        async def job(tx: Tx) -> int:
            if await _backup_runs(tx, now):
                return 0
            return await tx.update_all("deletions", {"not_before": {"$gt": now}}, {"$set": {"not_before": now}})

        return await self._engine.write("deletions", job)

    async def add_deletions(self, deletions: Sequence[Deletion], now: int) -> None:
        async def job(tx: Tx) -> None:
            for deletion in deletions:
                await enter_deletion(tx, deletion.backend, deletion.location, now)

        await self._engine.write("deletions", job)

    async def known(self, backend: str, locations: Sequence[str], file_ids: Sequence[str]) -> set[str]:
        async def job(tx: Tx) -> set[str]:
            found: set[str] = set()
            for part in parts_of(locations):
                docs = await tx.many(
                    "files", {"backend": backend, "location": {"$in": list(part)}, "state": {"$in": STATES}},
                    {"location": 1})
                docs += await tx.many(
                    "deletions", {"_id": {"$in": [deletion_id(backend, location) for location in part]}},
                    {"location": 1})
                found.update(doc["location"] for doc in docs)
            for part in parts_of(file_ids):
                docs = await tx.many("files", {"_id": {"$in": list(part)}, "completed_at": None}, {"_id": 1})
                found.update(doc["_id"] for doc in docs)
            return found

        return await self._engine.read(job)

    async def backends(self) -> set[str]:
        async def job(tx: Tx) -> set[str]:
            return {
                *await tx.distinct("files", "backend", {"state": {"$in": STATES}}),
                *await tx.distinct("deletions", "backend", {})}

        return await self._engine.read(job)


async def _backup_runs(tx: Tx, now: int) -> bool:
    return await tx.one("leases", {"_id": "backup", "expires_at": {"$gt": now}}, {"_id": 1}) is not None
