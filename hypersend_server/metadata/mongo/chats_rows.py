"""Documents of chats, members and messages as records, and the questions every part of chats asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from hypersend_server.metadata.chats import (
    MAX_UNREAD,
    NO_EXTRA,
    Audience,
    ChatRecord,
    ChatView,
    Extra,
    MemberRecord,
    MessageRecord,
)
from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.mongo.engine import STAMP, Doc, Tx
from hypersend_server.metadata.mongo.records import fields_of, not_found, parts_of, record_of
from hypersend_server.metadata.words import fold, words_of

FILE = fields_of(FileRecord)
MESSAGE = {
    name: 1 for name in (
        "_id", "chat_id", "seq", "rev", "sender_id", "client_id", "kind", "text", "extra", "created_at", "edited_at",
        "deleted_at", "changed", "number")
}


_decode_extra = msgspec.json.Decoder(Extra).decode
_encode_extra = msgspec.json.Encoder().encode


def extra_doc(extra: Extra) -> bytes | None:
    """Kept as JSON, so that nothing a person wrote becomes a field's name."""
    return None if extra == NO_EXTRA else _encode_extra(extra)


def terms_doc(text: str) -> list[str]:
    """What search finds a text by."""
    return sorted({fold(word) for word in words_of(text)})


def member_id(chat_id: str, user_id: str) -> str:
    return f"{chat_id}:{user_id}"


def client_key(chat_id: str, sender_id: str, client_id: str) -> str:
    """What makes a client id unique per chat and sender."""
    return f"{chat_id}:{sender_id}:{client_id}"


def chat_of(doc: Doc) -> ChatRecord:
    return record_of(ChatRecord, doc)


def member_of(doc: Doc) -> MemberRecord:
    return record_of(MemberRecord, doc)


async def bump(
    tx: Tx, chat_id: str, *, seqs: int = 0, revs: int = 0, **fields: Any
) -> tuple[ChatRecord, int]:
    """Take the chat's next seqs and revs and set these fields: (the chat then, the stamp for what changes with it).

    Whoever does this first decides the order: MongoDB lets no other transaction write the chat until this one ends.
    """
    doc = await tx.changed("chats", {"_id": chat_id}, [{"$set": {
        "seq": {"$add": ["$seq", seqs]},
        "rev": {"$add": ["$rev", revs]},
        "changed": STAMP,
        **{name: {"$literal": value} for name, value in fields.items()},
    }}])
    if doc is None:
        raise not_found()
    return chat_of(doc), doc["changed"]


async def stamp_member(tx: Tx, chat_id: str, user_id: str, fields: dict[str, Any]) -> int:
    """Change one's own place in a chat, where nothing of the chat itself changes."""
    return await tx.update("members", {"_id": member_id(chat_id, user_id), "left_at": None}, [{"$set": {
        "changed": STAMP, **{name: {"$literal": value} for name, value in fields.items()}}}])


async def set_members(tx: Tx, chat_id: str, user_ids: Iterable[str], stamp: int, **fields: Any) -> None:
    for user_id in user_ids:
        await tx.update("members", {"_id": member_id(chat_id, user_id)}, {"$set": {"changed": stamp, **fields}})


def from_seq(me: MemberRecord) -> Doc:
    """The condition that a message lies within this person's time; for most people there is none."""
    return {"seq": {"$gte": me.first_seq}} if me.first_seq > 1 else {}


async def membership(tx: Tx, chat_id: str, user_id: str) -> tuple[ChatRecord, MemberRecord]:
    """The chat and this person's place in it. Raises: `not_found`."""
    member = await find_member(tx, chat_id, user_id)
    chat = None if member is None else await tx.one("chats", {"_id": chat_id})
    if member is None or chat is None:
        raise not_found()
    return chat_of(chat), member


async def find_member(tx: Tx, chat_id: str, user_id: str) -> MemberRecord | None:
    doc = await tx.one("members", {"_id": member_id(chat_id, user_id), "left_at": None})
    return None if doc is None else member_of(doc)


async def is_hidden(tx: Tx, user_id: str, chat_id: str, seq: int) -> bool:
    return await tx.one("hidden", {"_id": f"{user_id}:{chat_id}:{seq}"}, {"_id": 1}) is not None


async def hidden_seqs(tx: Tx, user_id: str, chat_id: str, low: int, high: int) -> set[int]:
    docs = await tx.many(
        "hidden", {"user_id": user_id, "chat_id": chat_id, "seq": {"$gte": low, "$lte": high}}, {"seq": 1})
    return {doc["seq"] for doc in docs}


async def not_hidden(tx: Tx, user_id: str, docs: Sequence[Doc]) -> list[Doc]:
    """Those messages of one chat that this person did not delete for themselves."""
    if not docs:
        return []
    seqs = [doc["seq"] for doc in docs]
    hidden = await hidden_seqs(tx, user_id, docs[0]["chat_id"], min(seqs), max(seqs))
    return [doc for doc in docs if doc["seq"] not in hidden]


async def visible_doc(tx: Tx, me: MemberRecord, message_id: str) -> Doc:
    """Raises: `not_found`."""
    doc = await tx.one("messages", {"_id": message_id, "chat_id": me.chat_id, "seq": {"$gte": me.first_seq}}, MESSAGE)
    if doc is None or await is_hidden(tx, me.user_id, me.chat_id, doc["seq"]):
        raise not_found("message")
    return doc


async def visible_message(tx: Tx, me: MemberRecord, message_id: str) -> MessageRecord:
    """Raises: `not_found`."""
    return (await messages_of(tx, [await visible_doc(tx, me, message_id)]))[0]


async def files_by_id(tx: Tx, file_ids: Iterable[str]) -> dict[str, FileRecord]:
    """Those of these files that have a record, deleted ones included."""
    return {
        doc["_id"]: record_of(FileRecord, doc)
        for part in parts_of(set(file_ids))
        for doc in await tx.many("files", {"_id": {"$in": list(part)}}, FILE)
    }


async def messages_of(tx: Tx, docs: Sequence[Doc]) -> list[MessageRecord]:
    """Documents as records, with their files."""
    extras = [NO_EXTRA if doc.get("extra") is None else _decode_extra(doc["extra"]) for doc in docs]
    wanted = {file_id for extra in extras for file_id in extra.file_ids}
    files = await files_by_id(tx, wanted) if wanted else {}
    return [
        MessageRecord(
            id=doc["_id"], chat_id=doc["chat_id"], seq=doc["seq"], rev=doc["rev"], sender_id=doc.get("sender_id"),
            client_id=doc.get("client_id"), kind=doc["kind"], text=doc["text"], extra=extra,
            created_at=doc["created_at"], edited_at=doc.get("edited_at"), deleted_at=doc.get("deleted_at"),
            files=tuple(files[file_id] for file_id in extra.file_ids if file_id in files),
        )
        for doc, extra in zip(docs, extras, strict=True)
    ]


async def audience_of(tx: Tx, chat_id: str, members_rev: int, known: int = -1) -> Audience:
    """known: the members_rev that the caller has the members of."""
    if known == members_rev:
        return Audience(chat_id, members_rev, None)
    docs = await tx.many("members", {"chat_id": chat_id, "left_at": None}, {"user_id": 1, "first_seq": 1})
    chat = await tx.one("chats", {"_id": chat_id}, {"kind": 1})
    return Audience(chat_id, members_rev, tuple((doc["user_id"], doc["first_seq"]) for doc in docs),
                    chat is not None and chat["kind"] == "direct")


async def views_of(tx: Tx, pairs: Sequence[tuple[ChatRecord, MemberRecord]]) -> list[ChatView]:
    """Each chat as the member sees it."""
    if len(pairs) > 1 and not tx.session.in_transaction:
        apart = Tx(tx.db, None)  # a session takes one operation at a time
        return list(await asyncio.gather(*(_view(apart, chat, me) for chat, me in pairs)))
    return [await _view(tx, chat, me) for chat, me in pairs]


async def _view(tx: Tx, chat: ChatRecord, me: MemberRecord) -> ChatView:
    last: list[Doc] = []
    before = chat.seq + 1
    while before > me.first_seq and not last:  # nearly always the first look finds it
        docs = await tx.many(
            "messages", {"chat_id": chat.id, "seq": {"$gte": me.first_seq, "$lt": before}}, MESSAGE,
            sort=[("seq", -1)], limit=1 if before > chat.seq else 100)
        if not docs:
            break
        before = docs[-1]["seq"]
        last = (await not_hidden(tx, me.user_id, docs))[:1]
    unread = 0
    # In the saved chat all is one's own: there is nothing to count, and nothing that would end the search.
    if chat.kind != "saved" and me.read_seq < chat.seq:
        unread = await _unread(tx, chat, me)
    messages = await messages_of(tx, last)
    return ChatView(chat, me, unread, messages[0] if messages else None)


async def _unread(tx: Tx, chat: ChatRecord, me: MemberRecord) -> int:
    above = max(me.read_seq, me.first_seq - 1)
    where: Doc = {
        "chat_id": chat.id, "seq": {"$gt": above}, "sender_id": {"$ne": me.user_id}, "kind": {"$ne": "system"},
        "deleted_at": None,
    }
    hidden = await hidden_seqs(tx, me.user_id, chat.id, above + 1, chat.seq)
    if hidden:
        where["$nor"] = [{"seq": {"$in": sorted(hidden)}}]
    return await tx.count("messages", where, limit=MAX_UNREAD)
