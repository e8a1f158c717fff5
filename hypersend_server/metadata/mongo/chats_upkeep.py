"""What follows other changes in chats on MongoDB, in small transactions that go on after a crash.

A document of `jobs` says what is due (_id `KIND:SUBJECT`); each step removes what it has done from what is still to
be found, so running a step again does no harm.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import Changed, MemberChange
from hypersend_server.metadata.mongo.chats_members import close_side, end_chat, leave
from hypersend_server.metadata.mongo.chats_messages import restamp, unshow
from hypersend_server.metadata.mongo.chats_rows import MESSAGE, client_key, membership, messages_of
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import beginning

KINDS = ("restamp_file", "forget_user", "purge_chat")


async def enqueue(tx: Tx, kind: str, subject: str) -> None:
    """Note what is due, in the transaction that makes it due. kind: one of KINDS."""
    await tx.update(
        "jobs", {"_id": f"{kind}:{subject}"}, {"$setOnInsert": {"kind": kind, "subject": subject}}, upsert=True)


class MongoUpkeep:
    _engine: Engine

    async def _finish(self, kind: str, subject: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.delete("jobs", {"_id": f"{kind}:{subject}"})

        await self._engine.single(job)

    async def pending_jobs(self) -> list[tuple[str, str]]:
        async def job(tx: Tx) -> list[tuple[str, str]]:
            docs = await tx.many("jobs", {}, sort=[("_id", 1)])
            return [(doc["kind"], doc["subject"]) for doc in docs if doc["kind"] in KINDS]

        return await self._engine.read(job)

    async def restamp_for_file(self, file_id: str, limit: int) -> list[Changed]:
        async def due(tx: Tx) -> list[Doc]:
            return await tx.many("message_files", {"file_id": file_id}, limit=limit)

        rows = await self._engine.read(due)
        if not rows:
            await self._finish("restamp_file", file_id)
        found: list[Changed] = []
        for row in rows:

            async def job(tx: Tx, row: Doc = row) -> list[Changed]:
                if not await tx.one("message_files", {"_id": row["_id"]}, {"_id": 1}):
                    return []
                docs = await tx.many("messages", {"chat_id": row["chat_id"], "seq": row["seq"]}, MESSAGE)
                changed = [await restamp(tx, message) for message in await messages_of(tx, docs)]
                await tx.delete("message_files", {"_id": row["_id"]})
                return changed

            found += await self._engine.write(f"chat:{row['chat_id']}", job)
        if rows and not found:  # nothing but remains of chats that are no more
            return await self.restamp_for_file(file_id, limit)
        return found

    async def forget_user(
        self, user_id: str, new_id: Callable[[], str], now: int
    ) -> AsyncGenerator[MemberChange | None]:
        async def chats(tx: Tx) -> list[str]:
            await enqueue(tx, "forget_user", user_id)
            await tx.delete("hidden", {"user_id": user_id})
            places = await tx.many("members", {"user_id": user_id, "left_at": None}, {"chat_id": 1})
            return [doc["chat_id"] for doc in places]

        for chat_id in await self._engine.write(f"user:{user_id}", chats):
            message_id = new_id()

            async def job(tx: Tx, chat_id: str = chat_id, message_id: str = message_id) -> MemberChange | None:
                chat, _ = await membership(tx, chat_id, user_id)
                if chat.kind == "group":
                    return await leave(tx, chat, user_id, user_id, message_id, now)
                if chat.kind == "direct":
                    await close_side(tx, chat, user_id, now)
                else:
                    await end_chat(tx, chat_id, now)
                return None

            try:
                change = await self._engine.write(f"chat:{chat_id}", job)
            except HyperSendError as error:
                if error.code == "not_found":  # left or removed at the same moment
                    continue
                raise
            yield change

    async def forget_sender(self, user_id: str, limit: int) -> list[Changed]:
        async def due(tx: Tx) -> list[Doc]:
            found: list[Doc] = []
            for place in await tx.many("members", {"user_id": user_id}, {"chat_id": 1}):
                # By the index that makes client ids unique: one of senders alone would cost every message.
                where = {"client_key": beginning(client_key(place["chat_id"], user_id, ""))}
                found += await tx.many("messages", where, {"chat_id": 1}, limit=limit - len(found))
                if len(found) >= limit:
                    break
            return found

        found: list[Changed] = []
        docs = await self._engine.read(due)
        if not docs:
            await self._finish("forget_user", user_id)
        for doc in docs:

            async def job(tx: Tx, doc: Doc = doc) -> list[Changed]:
                there = await tx.many("messages", {"_id": doc["_id"], "sender_id": user_id}, MESSAGE)
                return [await restamp(tx, message, sender_id=None, client_id=None)
                        for message in await messages_of(tx, there)]

            found += await self._engine.write(f"chat:{doc['chat_id']}", job)
        if docs and not found:  # another process was quicker
            return await self.forget_sender(user_id, limit)
        return found

    async def purge(self, chat_id: str, limit: int) -> bool:
        async def job(tx: Tx) -> bool:
            docs = await tx.many("messages", {"chat_id": chat_id}, {"seq": 1}, sort=[("seq", 1)], limit=limit)
            chat = await tx.one("chats", {"_id": chat_id}, {"deleted_at": 1})
            if docs and chat is not None:
                await unshow(tx, chat_id, [doc["seq"] for doc in docs], chat["deleted_at"])
                await tx.delete("messages", {"_id": {"$in": [doc["_id"] for doc in docs]}})
            else:
                await tx.delete("hidden", {"chat_id": chat_id})
                await tx.delete("jobs", {"_id": f"purge_chat:{chat_id}"})
            return bool(docs)

        return await self._engine.write(f"chat:{chat_id}", job)
