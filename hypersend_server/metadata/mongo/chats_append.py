"""Appending messages on MongoDB: the hot path.

Messages that wait for the same chat are one step of one transaction: the chat, its senders and the client ids that
are known already are read, the chat's `$inc` takes as many places as remain, and they are inserted together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import (
    NO_EXTRA,
    Audience,
    ChatRecord,
    Draft,
    Extra,
    Forwarded,
    MemberRecord,
    MessageKind,
    MessageRecord,
    Posted,
)
from hypersend_server.metadata.files import FileRecord
from hypersend_server.metadata.mongo.chats_messages import is_blocked_by, require_not_deleted
from hypersend_server.metadata.mongo.chats_rows import (
    MESSAGE,
    audience_of,
    bump,
    chat_of,
    client_key,
    extra_doc,
    find_member,
    member_id,
    member_of,
    membership,
    messages_of,
    terms_doc,
    visible_message,
)
from hypersend_server.metadata.mongo.engine import Doc, Engine, Grouped, Tx
from hypersend_server.metadata.mongo.file_access import readable
from hypersend_server.metadata.mongo.records import not_found

NUMBERS_A_MS = 2048  # of messages that one millisecond and chat may make: more than a transaction takes


class Asked(NamedTuple):
    draft: Draft
    known_members_rev: int


class _Composed(NamedTuple):
    kind: MessageKind
    text: str
    extra: Extra
    files: tuple[FileRecord, ...]


class MongoAppending:
    _engine: Engine

    async def append(self, draft: Draft, known_members_rev: int) -> Posted:
        posted: Posted = await self._engine.write(
            f"chat:{draft.chat_id}", Grouped(append_all, Asked(draft, known_members_rev)))
        return posted


async def append_all(tx: Tx, asked: list[Asked]) -> list[Posted | HyperSendError]:
    """All for one chat."""
    chat_id = asked[0].draft.chat_id
    senders = {one.draft.sender_id for one in asked}
    members = {
        doc["user_id"]: member_of(doc)
        for doc in await tx.many(
            "members", {"_id": {"$in": [member_id(chat_id, sender) for sender in sorted(senders)]}, "left_at": None})
    }
    chat_doc = await tx.one("chats", {"_id": chat_id}) if members else None
    if chat_doc is None:
        return [not_found() for _ in asked]
    chat = chat_of(chat_doc)
    first = await _known(tx, asked)
    blocked = {sender for sender in members if (peer := chat.peer_of(sender)) and await is_blocked_by(tx, peer, sender)}
    closed = chat.kind == "direct" and chat.members_count < 2
    gone_peer = closed and await _is_gone(tx, chat, next(iter(members)))

    answers: list[Any] = [None] * len(asked)
    fresh: list[tuple[int, Draft, _Composed]] = []
    repeats: list[tuple[int, str]] = []  # of one that comes in this very step
    coming: set[str] = set()
    for index, (draft, _) in enumerate(asked):
        key = client_key(chat_id, draft.sender_id, draft.client_id)
        me = members.get(draft.sender_id)
        if me is None:
            answers[index] = not_found()
        elif key in first:
            answers[index] = first[key]
        elif key in coming:
            repeats.append((index, key))
        elif draft.sender_id in blocked:
            answers[index] = HyperSendError("blocked")
        elif gone_peer:
            answers[index] = HyperSendError("not_allowed", "This account was deleted.")
        else:
            try:
                fresh.append((index, draft, await _compose(tx, draft, me)))
                coming.add(key)
            except HyperSendError as error:
                answers[index] = error

    made: dict[str, MessageRecord] = {}
    reopened: tuple[str, ...] = ()
    if fresh:
        more = {"members_count": 2, "members_rev": chat.members_rev + 1} if closed else {}
        chat, stamp = await bump(
            tx, chat_id, seqs=len(fresh), revs=len(fresh), updated_at=fresh[-1][1].now, **more)
        if closed:
            reopened = (chat.peer_of(fresh[0][1].sender_id) or "",)
            await tx.update("members", {"_id": member_id(chat_id, reopened[0])}, {"$set": {
                "left_at": None, "joined_at": fresh[0][1].now, "began": stamp, "changed": stamp}})
        made = await _insert(tx, chat, stamp, fresh)
    audience = await _audience(tx, chat, asked)
    for index, (draft, known) in enumerate(asked):
        told = Audience(chat_id, chat.members_rev, None) if known == chat.members_rev else audience
        if isinstance(answers[index], MessageRecord):
            answers[index] = Posted(answers[index], False, told)
        elif answers[index] is None and draft.id in made:
            answers[index] = Posted(made[draft.id], True, told, reopened)
            reopened = ()
    by_key = {client_key(chat_id, draft.sender_id, draft.client_id): made[draft.id] for _, draft, _ in fresh}
    for index, key in repeats:
        told = Audience(chat_id, chat.members_rev, None) if asked[index][1] == chat.members_rev else audience
        answers[index] = Posted(by_key[key], False, told)
    return answers


async def _audience(tx: Tx, chat: ChatRecord, asked: list[Asked]) -> Audience:
    """For those who do not know the members."""
    if all(one.known_members_rev == chat.members_rev for one in asked):
        return Audience(chat.id, chat.members_rev, None)
    return await audience_of(tx, chat.id, chat.members_rev)


async def _known(tx: Tx, asked: list[Asked]) -> dict[str, MessageRecord]:
    """Messages of these client ids that are there already. What was accepted once stays accepted, also where it would
    be refused today."""
    keys = {client_key(one.draft.chat_id, one.draft.sender_id, one.draft.client_id) for one in asked}
    docs = await tx.many("messages", {"client_key": {"$in": sorted(keys)}}, {**MESSAGE, "client_key": 1})
    messages = await messages_of(tx, docs)
    return {doc["client_key"]: message for doc, message in zip(docs, messages, strict=True)}


async def _is_gone(tx: Tx, chat: ChatRecord, sender_id: str) -> bool:
    """Whether the other person of a direct chat has deleted their account."""
    return await tx.one("users", {"_id": chat.peer_of(sender_id), "deleted_at": None}, {"_id": 1}) is None


async def _compose(tx: Tx, draft: Draft, me: MemberRecord) -> _Composed:
    """What the message will be. Raises: as `append`."""
    if draft.transfer is not None:
        return _Composed("transfer", draft.text, Extra(transfer=draft.transfer), ())
    if not (draft.file_ids or draft.reply_to or draft.mentions or draft.forward):
        return _Composed("text", draft.text, NO_EXTRA, ())
    text, file_ids, forwarded = draft.text, draft.file_ids, None
    if draft.forward is not None:
        _, there = await membership(tx, draft.forward[0], draft.sender_id)
        source = await visible_message(tx, there, draft.forward[1])
        require_not_deleted(source)
        if source.kind not in ("text", "file"):
            raise HyperSendError("not_allowed", "Only texts and files can be forwarded.")
        text = source.text
        file_ids = tuple(file.id for file in source.files if file.state == "complete")
        if not text and not file_ids:
            raise not_found("file")
        # A forward of a forward still names who said it first.
        forwarded = source.extra.forwarded_from or Forwarded(
            chat_id=source.chat_id, message_id=source.id, sender_id=source.sender_id)
    files = tuple([await _readable_file(tx, file_id, draft.sender_id) for file_id in file_ids])
    if draft.reply_to is not None:
        quoted = {"_id": draft.reply_to, "chat_id": draft.chat_id, "seq": {"$gte": me.first_seq}}
        if await tx.one("messages", quoted, {"_id": 1}) is None:
            raise not_found("message to reply to")
    # Who has left in the meantime is no reason to lose the message.
    mentions = tuple([
        user_id for user_id in draft.mentions if await find_member(tx, draft.chat_id, user_id) is not None])
    extra = Extra(file_ids=tuple(file_ids), reply_to=draft.reply_to, mentions=mentions, forwarded_from=forwarded)
    return _Composed("file" if files else "text", text, extra, files)


async def _readable_file(tx: Tx, file_id: str, user_id: str) -> FileRecord:
    file = await readable(tx, file_id, user_id)
    if file is None:
        raise not_found("file")
    if file.state != "complete":
        raise HyperSendError("upload_incomplete", f"The file {file_id} is not complete yet.")
    return file


async def _insert(
    tx: Tx, chat: ChatRecord, stamp: int, fresh: list[tuple[int, Draft, _Composed]]
) -> dict[str, MessageRecord]:
    """chat: as it is after its places were taken. Returns: the messages by id."""
    made: dict[str, MessageRecord] = {}
    docs: list[Doc] = []
    shown: list[Doc] = []
    for place, (_, draft, composed) in enumerate(fresh):
        seq, rev = chat.seq - len(fresh) + place + 1, chat.rev - len(fresh) + place + 1
        made[draft.id] = MessageRecord(
            id=draft.id, chat_id=chat.id, seq=seq, rev=rev, sender_id=draft.sender_id, client_id=draft.client_id,
            kind=composed.kind, text=composed.text, extra=composed.extra, created_at=draft.now, files=composed.files)
        docs.append(message_doc(made[draft.id], stamp, place))
        shown += [
            {"_id": f"{file.id}:{chat.id}:{seq}", "file_id": file.id, "chat_id": chat.id, "seq": seq}
            for file in {file.id: file for file in composed.files}.values()]
    await tx.insert("messages", *docs)
    if shown:
        await tx.insert("message_files", *shown)
        # Always written: whoever removes the file at this moment collides with us, and begins again.
        await tx.update_all(
            "files", {"_id": {"$in": sorted({row["file_id"] for row in shown})}},
            {"$set": {"unshown_since": None}, "$inc": {"shows": 1}})
    return made


def message_doc(message: MessageRecord, stamp: int, place: int = 0) -> Doc:
    """place: among the messages of the same stamp."""
    doc = {
        "_id": message.id, "chat_id": message.chat_id, "seq": message.seq, "rev": message.rev, "changed": stamp,
        # Grows with time over all chats: the order of what a search finds.
        "number": stamp * NUMBERS_A_MS + place,
        "sender_id": message.sender_id, "client_id": message.client_id, "kind": message.kind, "text": message.text,
        "extra": extra_doc(message.extra), "terms": terms_doc(message.text), "created_at": message.created_at,
        "edited_at": None, "deleted_at": None,
    }
    if message.sender_id is not None and message.client_id is not None:
        doc["client_key"] = client_key(message.chat_id, message.sender_id, message.client_id)
    return doc
