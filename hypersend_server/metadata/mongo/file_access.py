"""Who may read a file: its owner, and the members of a chat in which a message that they may see shows it."""

from __future__ import annotations

from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.mongo.engine import Tx
from hypersend_server.metadata.mongo.records import fields_of, record_of

FILE = fields_of(FileRecord)


async def readable(tx: Tx, file_id: str, user_id: str) -> FileRecord | None:
    """The file where this person may read it, whatever its state short of deleted.

    A message below their first_seq grants nothing; one that they deleted for themselves still does.
    """
    doc = await tx.one("files", {"_id": file_id, "state": {"$ne": "deleted"}}, FILE)
    if doc is None or doc["owner_id"] == user_id:
        return None if doc is None else record_of(FileRecord, doc)
    shown = await tx.grouped("message_files", [
        {"$match": {"file_id": file_id}}, {"$group": {"_id": "$chat_id", "seq": {"$max": "$seq"}}}])
    newest = {row["_id"]: row["seq"] for row in shown}
    places = await tx.many(
        "members", {"user_id": user_id, "chat_id": {"$in": list(newest)}, "left_at": None},
        {"chat_id": 1, "first_seq": 1}) if newest else []
    return record_of(FileRecord, doc) if any(newest[m["chat_id"]] >= m["first_seq"] for m in places) else None
