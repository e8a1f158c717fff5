"""MongoDB as one end of `migrate-metadata`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from pymongo import ReplaceOne
from pymongo.errors import DuplicateKeyError

from hypersend_server.metadata.mongo import MongoMetadata
from hypersend_server.metadata.mongo.chats_append import NUMBERS_A_MS
from hypersend_server.metadata.mongo.chats_rows import client_key, terms_doc
from hypersend_server.metadata.mongo.engine import Doc
from hypersend_server.metadata.mongo.releases import slot_of
from hypersend_server.metadata.transport import OWN_META, Row, Table, is_own

PAGE = 1000
_OPTIONAL = {"users": ("email_key", "username"), "chats": ("pair_key",), "files": ("idempotency_key", "request_hash")}
"""Absent rather than null, since they are unique."""
_KEYED = {  # collections whose _id is made of the key, or is a column of another name
    "blocks": "{user_id}:{blocked_id}", "members": "{chat_id}:{user_id}", "hidden": "{user_id}:{chat_id}:{seq}",
    "message_files": "{file_id}:{chat_id}:{seq}", "chunks": "{file_id}:{idx}", "partials": "{file_id}:{idx}",
    "deletions": "{backend}:{location}",
}
_ID = {"resets": "code_hash", "guesses": "key", "meta": "key"}


class MongoPort:
    def __init__(self, metadata: MongoMetadata) -> None:
        self._db = metadata.db

    async def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        page: list[Row] = []
        async for doc in self._db[table.name].find({}).sort([("_id", 1)]).batch_size(PAGE):
            row = _row_of(table, doc)
            if table.name == "meta" and is_own(row["key"]):
                continue
            page.append(row)
            if len(page) == PAGE:
                yield page
                page = []
        if page:
            yield page

    async def count(self, table: Table) -> int:
        if table.name == "meta":
            return sum([not is_own(doc["_id"]) async for doc in self._db["meta"].find({}, {"_id": 1})])
        return int(await self._db[table.name].count_documents({}))

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        now = time.time_ns() // 1_000_000
        docs = [_doc_of(table, row, now) for row in rows]
        await self._db[table.name].bulk_write([ReplaceOne({"_id": doc["_id"]}, doc, upsert=True) for doc in docs],
                                              ordered=False)

    async def clear(self, table: Table) -> None:
        where = {"_id": {"$nin": sorted(OWN_META)}} if table.name == "meta" else {}
        await self._db[table.name].delete_many(where)

    async def note(self, source: str) -> str:
        found = await self._db["meta"].find_one({"_id": "migration"})
        if found is not None:
            return str(found["value"])
        if await self._db["meta"].find_one({"_id": "server_id"}) or await self._db["users"].find_one({}):
            return ""
        try:
            await self._db["meta"].insert_one({"_id": "migration", "value": source})
        except DuplicateKeyError:  # another one began at this moment
            return ""
        return source

    async def finish(self, epoch: str) -> None:
        now = time.time_ns() // 1_000_000
        for name in ("users", "chats", "members", "hidden"):
            await self._db[name].update_many({}, {"$set": {"changed": now}})
        await self._db["members"].update_many({}, {"$set": {"began": now}})
        await self._db["meta"].update_one({"_id": "releases"}, {"$inc": {"value": 1}}, upsert=True)
        await self._db["meta"].delete_one({"_id": "migration"})
        await self._db["meta"].update_one({"_id": "epoch"}, {"$set": {"value": epoch}}, upsert=True)


def _id_column(table: Table) -> str:
    return _ID.get(table.name, "id")


def _row_of(table: Table, doc: Doc) -> Row:
    if table.name == "jobs":
        return {"id": doc["_id"], "kind": doc["kind"], "payload": doc["subject"].encode()}
    name_of_id = "" if table.name in _KEYED else _id_column(table)
    return {name: doc.get("_id" if name == name_of_id else name) for name in table.columns}


def _doc_of(table: Table, row: Row, now: int) -> Doc:
    if table.name == "jobs":
        return {"_id": row["id"], "kind": row["kind"], "subject": bytes(row["payload"]).decode()}
    doc: dict[str, Any] = {name: bool(value) if name in table.flags else value for name, value in row.items()}
    if table.name in _KEYED:
        doc["_id"] = _KEYED[table.name].format(**row)
    else:
        doc["_id"] = doc.pop(_id_column(table))
    for name in _OPTIONAL.get(table.name, ()):
        if doc[name] is None:
            del doc[name]
    if table.name in ("users", "sessions"):
        doc["change"] = 0
    if table.name in ("users", "chats", "members", "hidden"):
        doc["changed"] = now
    if table.name == "members":
        doc["began"] = now
    elif table.name == "releases" and doc["withdrawn_at"] is None:
        doc["slot"] = slot_of(doc)
    elif table.name == "files":
        doc |= {"name_key": doc["name"].casefold(), "shows": 0}
    elif table.name == "messages":
        # Below all that is written from now on, and in the order of the revs of its chat.
        doc |= {"changed": doc["rev"], "number": doc["created_at"] * NUMBERS_A_MS + doc["seq"] % NUMBERS_A_MS,
                "terms": terms_doc(doc["text"])}
        if doc["sender_id"] is not None and doc["client_id"] is not None:
            doc["client_key"] = client_key(doc["chat_id"], doc["sender_id"], doc["client_id"])
    return doc

