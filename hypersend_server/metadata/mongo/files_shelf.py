"""What people have on MongoDB: who may read a file, lists of files, and how much room they take."""

from __future__ import annotations

import re
from collections.abc import Collection

from hypersend_server.metadata.files import FileRecord, FileState, Listing, Usage
from hypersend_server.metadata.mongo.chats_rows import files_by_id, membership
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.file_access import FILE, readable
from hypersend_server.metadata.mongo.files_rows import file_of
from hypersend_server.metadata.mongo.files_uploads import usage_of

LOOK_AT = 500  # rows of what a chat shows, at a time


class MongoShelf:
    _engine: Engine

    async def get_readable(self, file_id: str, user_id: str) -> FileRecord | None:
        return await self._engine.read(lambda tx: readable(tx, file_id, user_id))

    async def usage(self, user_id: str) -> Usage:
        async def job(tx: Tx) -> Usage:
            return Usage(*await usage_of(tx, user_id))

        return await self._engine.read(job)

    async def list_own(
        self, user_id: str, states: Collection[FileState], query: str, after: tuple[int, str] | None, limit: int
    ) -> Listing:
        if "\0" in query:  # in no file's name, and no expression may hold one
            return Listing([], None)

        async def job(tx: Tx) -> Listing:
            where: Doc = {"owner_id": user_id, "state": {"$in": list(states)}}
            if query:
                where["name_key"] = {"$regex": re.escape(query.casefold())}
            if after is not None:
                where["$or"] = [
                    {"created_at": {"$lt": after[0]}}, {"created_at": after[0], "_id": {"$lt": after[1]}}]
            docs = await tx.many("files", where, FILE, sort=[("created_at", -1), ("_id", -1)], limit=limit + 1)
            return _listing([(doc["created_at"], file_of(doc)) for doc in docs], limit)

        return await self._engine.read(job)

    async def list_chat(
        self, chat_id: str, user_id: str, query: str, after: tuple[int, str] | None, limit: int
    ) -> Listing:
        async def job(tx: Tx) -> Listing:
            _, me = await membership(tx, chat_id, user_id)
            hidden = {
                doc["seq"] for doc in await tx.many("hidden", {"user_id": user_id, "chat_id": chat_id}, {"seq": 1})}
            seen: set[str] = set()
            found: list[tuple[int, FileRecord]] = []
            below: Doc = {}
            while len(found) <= limit:
                rows = await tx.many(
                    "message_files", {"chat_id": chat_id, "seq": {"$gte": me.first_seq}, **below},
                    sort=[("seq", -1), ("file_id", -1)], limit=LOOK_AT)
                fresh = [row for row in rows if row["seq"] not in hidden and row["file_id"] not in seen]
                files = await files_by_id(tx, {row["file_id"] for row in fresh})
                for row in fresh:
                    if row["file_id"] in seen:
                        continue
                    seen.add(row["file_id"])
                    file = files.get(row["file_id"])
                    if (
                        file is not None and file.state == "complete" and query.casefold() in file.name.casefold()
                        and (after is None or (row["seq"], file.id) < after)
                    ):
                        found.append((row["seq"], file))
                if len(rows) < LOOK_AT:
                    break
                last = rows[-1]
                below = {"$or": [
                    {"seq": {"$lt": last["seq"]}}, {"seq": last["seq"], "file_id": {"$lt": last["file_id"]}}]}
            return _listing(found, limit)

        return await self._engine.read(job)

    async def owned(self, user_id: str, limit: int) -> list[FileRecord]:
        async def job(tx: Tx) -> list[FileRecord]:
            states = {"$in": ["uploading", "completing", "complete", "expired"]}
            return [
                file_of(doc) for doc in await tx.many("files", {"owner_id": user_id, "state": states}, FILE,
                                                      limit=limit)]

        return await self._engine.read(job)


def _listing(found: list[tuple[int, FileRecord]], limit: int) -> Listing:
    """found: (what they are ordered by, file)."""
    kept = found[:limit]
    return Listing([file for _, file in kept], (kept[-1][0], kept[-1][1].id) if len(found) > limit else None)
