"""Delivered and read marks on MongoDB: one document each, so neither a queue nor a transaction."""

from __future__ import annotations

from hypersend_server.metadata.chats import Marks
from hypersend_server.metadata.mongo.chats_rows import audience_of, member_id, membership
from hypersend_server.metadata.mongo.engine import STAMP, Engine, Tx


class MongoMarks:
    _engine: Engine

    async def set_marks(
        self, chat_id: str, user_id: str, delivered_seq: int, read_seq: int, known_members_rev: int
    ) -> Marks:
        async def job(tx: Tx) -> Marks:
            chat, me = await membership(tx, chat_id, user_id)
            read = min(read_seq, chat.seq)
            delivered = max(min(delivered_seq, chat.seq), read)
            had_delivered, had_read = me.delivered_seq, me.read_seq
            if delivered > had_delivered or read > had_read:
                before = await tx.changed("members", {
                    "_id": member_id(chat_id, user_id), "left_at": None,
                    "$or": [{"delivered_seq": {"$lt": delivered}}, {"read_seq": {"$lt": read}}],
                }, [{"$set": {
                    "changed": STAMP,
                    "read_seq": {"$max": ["$read_seq", read]},
                    "delivered_seq": {"$max": ["$delivered_seq", delivered, "$read_seq"]},
                }}], before=True)
                if before is None:  # another device of this person was quicker, or they left just now
                    _, me = await membership(tx, chat_id, user_id)
                    delivered, read, had_delivered, had_read = me.delivered_seq, me.read_seq, delivered, read
                else:
                    had_delivered, had_read = before["delivered_seq"], before["read_seq"]
            delivered, read = max(delivered, had_delivered), max(read, had_read)
            return Marks(
                delivered,
                read,
                delivered > had_delivered,
                read > had_read,
                chat.members_count,
                await audience_of(tx, chat_id, chat.members_rev, known_members_rev),
            )

        return await self._engine.single(job)
