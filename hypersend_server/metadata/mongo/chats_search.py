"""Search in messages on MongoDB: each keeps its `terms`, under an index with its chat.

All words must be there, the last one as a beginning, which is an anchored expression made of escaped letters.
"""

from __future__ import annotations

import re

from hypersend_server.metadata.chats import Found
from hypersend_server.metadata.mongo.accounts_users import my_chats
from hypersend_server.metadata.mongo.chats_rows import MESSAGE, member_id, membership, messages_of, not_hidden
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.words import fold, snippet, terms_of


class MongoSearch:
    _engine: Engine

    async def index_search(self) -> None:
        """The index is written with the messages."""

    async def search(
        self, user_id: str, query: str, chat_id: str | None, before: int | None, limit: int
    ) -> list[Found]:
        terms = [fold(term) for term in terms_of(query)]

        async def job(tx: Tx) -> list[Found]:
            if chat_id is not None:
                await membership(tx, chat_id, user_id)
            chats = [chat_id] if chat_id is not None else await my_chats(tx, user_id)
            if not chats or not terms:
                return []
            places = await tx.many(
                "members", {"_id": {"$in": [member_id(chat, user_id) for chat in chats]}, "left_at": None},
                {"chat_id": 1, "first_seq": 1})
            first_seq = {doc["chat_id"]: doc["first_seq"] for doc in places}
            docs = await _matching(tx, user_id, first_seq, terms, before, limit)
            return [
                Found(message, *snippet(message.text, terms), doc["number"])
                for doc, message in zip(docs, await messages_of(tx, docs), strict=True)
            ]

        return await self._engine.read(job)


async def _matching(
    tx: Tx, user_id: str, first_seq: dict[str, int], terms: list[str], before: int | None, limit: int
) -> list[Doc]:
    """At least `limit` where there are as many; more where several share the last one's number."""
    kept: list[Doc] = []
    below = before or 2**62
    while len(kept) < limit:
        docs = await tx.many("messages", {
            "chat_id": {"$in": list(first_seq)},
            "$and": [*({"terms": term} for term in terms[:-1]), {"terms": {"$regex": "^" + re.escape(terms[-1])}}],
            "number": {"$lt": below}, "deleted_at": None,
        }, MESSAGE, sort=[("number", -1), ("_id", 1)], limit=limit + 1)
        page = docs
        if len(docs) > limit:  # what shares a number stays together, so that no page begins in its midst
            last = docs[limit]["number"]
            page = [doc for doc in docs if doc["number"] > last] or docs
        for doc in page:
            if doc["seq"] >= first_seq[doc["chat_id"]]:
                kept += await not_hidden(tx, user_id, [doc])
        if len(docs) <= limit:
            break
        below = page[-1]["number"]
    return kept
