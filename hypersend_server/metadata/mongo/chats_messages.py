"""Messages on MongoDB: editing, deleting, reacting, reading. Appending is in `chats_append`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hypersend_server.errors import HyperSendError, validation_failed
from hypersend_server.metadata.chats import NO_EXTRA, Changed, ChatRecord, MessagePage, MessageRecord
from hypersend_server.metadata.mongo.chats_rows import (
    MESSAGE,
    audience_of,
    bump,
    chat_of,
    extra_doc,
    from_seq,
    member_id,
    membership,
    messages_of,
    not_hidden,
    terms_doc,
    visible_message,
)
from hypersend_server.metadata.mongo.engine import STAMP, Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import not_found
from hypersend_server.metadata.reactions import with_reaction, without_reaction
from hypersend_server.names import is_blank


class MongoMessages:
    _engine: Engine

    async def edit(self, chat_id: str, message_id: str, user_id: str, text: str, now: int) -> Changed:
        async def job(tx: Tx) -> Changed:
            chat, me = await membership(tx, chat_id, user_id)
            message = await visible_message(tx, me, message_id)
            if message.sender_id != user_id or message.kind not in ("text", "file"):
                raise HyperSendError("not_allowed", "Only its sender may edit a message.")
            if message.extra.forwarded_from is not None:
                raise HyperSendError("not_allowed", "A forwarded message stays as it was written.")
            require_not_deleted(message)
            await require_not_blocked(tx, chat, user_id)
            if is_blank(text) and not message.extra.file_ids:
                raise validation_failed(("text", "is empty, and there is no file"))
            if text == message.text:
                return Changed(message, False, await audience_of(tx, chat_id, chat.members_rev))
            return await restamp(tx, message, text=text, edited_at=now)

        return await self._engine.write(f"chat:{chat_id}", job)

    async def delete_message(self, chat_id: str, message_id: str, user_id: str, now: int) -> Changed:
        async def job(tx: Tx) -> Changed:
            chat, me = await membership(tx, chat_id, user_id)
            message = await visible_message(tx, me, message_id)
            by_admin = chat.kind == "group" and me.role != "member"
            if message.kind == "system" or not (message.sender_id == user_id or by_admin):
                raise HyperSendError("not_allowed", "Only its sender or an admin may delete a message for everyone.")
            if message.deleted_at is not None:
                return Changed(message, False, await audience_of(tx, chat_id, chat.members_rev))
            changed = await restamp(tx, message, text="", extra=NO_EXTRA, edited_at=None, deleted_at=now)
            await unshow(tx, chat_id, [message.seq], now)
            return changed

        return await self._engine.write(f"chat:{chat_id}", job)

    async def hide(self, chat_id: str, message_id: str, user_id: str) -> bool:
        async def job(tx: Tx) -> bool:
            _, me = await membership(tx, chat_id, user_id)
            doc = await tx.one(
                "messages", {"_id": message_id, "chat_id": chat_id, "seq": {"$gte": me.first_seq}}, {"seq": 1})
            if doc is None:
                raise not_found("message")
            mark = f"{user_id}:{chat_id}:{doc['seq']}"
            if await tx.one("hidden", {"_id": mark}, {"_id": 1}) is not None:
                return False
            # The chat's preview and unread count may be others now, so the member changes with it.
            place = await tx.changed(
                "members", {"_id": member_id(chat_id, user_id), "left_at": None}, [{"$set": {"changed": STAMP}}])
            if place is None:
                raise not_found()
            await tx.insert("hidden", {
                "_id": mark, "user_id": user_id, "chat_id": chat_id, "seq": doc["seq"], "message_id": message_id,
                "changed": place["changed"]})
            return True

        return await self._engine.write(f"member:{chat_id}:{user_id}", job)

    async def react(self, chat_id: str, message_id: str, user_id: str, emoji: str, present: bool) -> Changed:
        async def job(tx: Tx) -> Changed:
            chat, me = await membership(tx, chat_id, user_id)
            message = await visible_message(tx, me, message_id)
            if message.kind == "system":
                raise HyperSendError("not_allowed", "This message takes no reactions.")
            require_not_deleted(message)
            before = message.extra.reactions
            after = with_reaction(before, user_id, emoji) if present else without_reaction(before, user_id, emoji)
            if after == before:
                return Changed(message, False, await audience_of(tx, chat_id, chat.members_rev))
            if present:
                await require_not_blocked(tx, chat, user_id)
            return await restamp(tx, message, extra=msgspec.structs.replace(message.extra, reactions=after))

        return await self._engine.write(f"chat:{chat_id}", job)

    async def show_transfer(self, chat_id: str, message_id: str, transfer: dict[str, Any]) -> Changed | None:
        async def job(tx: Tx) -> Changed | None:
            doc = await tx.one("messages", {"_id": message_id, "chat_id": chat_id}, MESSAGE)
            found = await tx.one("chats", {"_id": chat_id})
            if doc is None or found is None:
                return None
            message = (await messages_of(tx, [doc]))[0]
            if message.deleted_at is not None or message.extra.transfer == transfer:
                return Changed(message, False, await audience_of(tx, chat_id, chat_of(found).members_rev))
            return await restamp(tx, message, extra=msgspec.structs.replace(message.extra, transfer=transfer))

        return await self._engine.write(f"chat:{chat_id}", job)

    async def get_message(self, chat_id: str, message_id: str, user_id: str) -> MessageRecord | None:
        async def job(tx: Tx) -> MessageRecord | None:
            _, me = await membership(tx, chat_id, user_id)
            return await visible_message(tx, me, message_id)

        try:
            return await self._engine.read(job)
        except HyperSendError as error:
            if error.code == "not_found":
                return None
            raise

    async def messages_by_seq(
        self, chat_id: str, user_id: str, limit: int, *, before: int | None = None, after: int | None = None
    ) -> MessagePage:
        async def job(tx: Tx) -> MessagePage:
            chat, me = await membership(tx, chat_id, user_id)
            kept: list[Doc] = []
            low, high, step = me.first_seq, chat.seq, -1
            if after is not None:
                low, step = max(low, after + 1), 1
            elif before is not None:
                high = min(high, before - 1)
            while len(kept) < limit and low <= high:  # again only where this person deleted some for themselves
                docs = await tx.many(
                    "messages", {"chat_id": chat_id, "seq": {"$gte": low, "$lte": high}}, MESSAGE,
                    sort=[("seq", step)], limit=limit - len(kept))
                if not docs:
                    break
                kept += await not_hidden(tx, user_id, docs)
                if step > 0:
                    low = docs[-1]["seq"] + 1
                else:
                    high = docs[-1]["seq"] - 1
            messages = await messages_of(tx, kept)
            return MessagePage(messages[::-1] if after is None else messages, chat.rev)

        return await self._engine.read(job)

    async def messages_after_rev(self, chat_id: str, user_id: str, rev: int, limit: int) -> MessagePage:
        async def job(tx: Tx) -> MessagePage:
            chat, me = await membership(tx, chat_id, user_id)
            kept: list[Doc] = []
            low = rev
            while len(kept) < limit and low < chat.rev:
                docs = await tx.many(
                    "messages",
                    {"chat_id": chat_id, "rev": {"$gt": low, "$lt": chat.rev + 1}, **from_seq(me)},
                    MESSAGE, sort=[("rev", 1)], limit=limit - len(kept))
                if not docs:
                    break
                kept += await not_hidden(tx, user_id, docs)
                low = docs[-1]["rev"]
            messages = await messages_of(tx, kept)
            return MessagePage(messages, messages[-1].rev if len(messages) == limit else chat.rev)

        return await self._engine.snapshot(job)  # the chat's rev and its messages of one moment


def require_not_deleted(message: MessageRecord) -> None:
    if message.deleted_at is not None:
        raise HyperSendError("message_deleted")


async def is_blocked_by(tx: Tx, peer_id: str, user_id: str) -> bool:
    return await tx.one("blocks", {"_id": f"{peer_id}:{user_id}"}, {"_id": 1}) is not None


async def require_not_blocked(tx: Tx, chat: ChatRecord, user_id: str) -> None:
    peer_id = chat.peer_of(user_id)
    if peer_id is not None and await is_blocked_by(tx, peer_id, user_id):
        raise HyperSendError("blocked")


async def restamp(tx: Tx, message: MessageRecord, **fields: Any) -> Changed:
    """Write these fields of the message (those of MessageRecord) under the chat's next rev."""
    chat, stamp = await bump(tx, message.chat_id, revs=1)
    stored: dict[str, Any] = {"rev": chat.rev, "changed": stamp, **fields}
    if "extra" in fields:
        stored["extra"] = extra_doc(fields["extra"])
    if "text" in fields:
        stored["terms"] = terms_doc(fields["text"])
    change: Doc = {"$set": stored}
    if "client_id" in fields:  # None: the sender is forgotten
        change["$unset"] = {"client_key": ""}
    await tx.update("messages", {"_id": message.id}, change)
    if fields.get("deleted_at") is not None:
        fields["files"] = ()
    changed = msgspec.structs.replace(message, rev=chat.rev, **fields)
    return Changed(changed, True, await audience_of(tx, chat.id, chat.members_rev))


async def unshow(tx: Tx, chat_id: str, seqs: Sequence[int], now: int) -> None:
    """Take the files from these messages; one that lived by what shows it starts to wait for its end."""
    where = {"chat_id": chat_id, "seq": {"$in": list(seqs)}}
    shown = {doc["file_id"] for doc in await tx.many("message_files", where, {"file_id": 1})}
    if not shown:
        return
    await tx.delete("message_files", where)
    for file_id in sorted(shown):
        # Written in any case, so that this and a message that shows it just now cannot both go unnoticed.
        if await tx.one("message_files", {"file_id": file_id}, {"_id": 1}) is None:
            await tx.update("files", {"_id": file_id}, [{"$set": {
                "shows": {"$add": [{"$ifNull": ["$shows", 0]}, 1]},
                "unshown_since": {"$cond": [{"$eq": [{"$ifNull": ["$chat_id", None]}, None]}, None, now]}}}])
        else:
            await tx.update("files", {"_id": file_id}, {"$inc": {"shows": 1}})


