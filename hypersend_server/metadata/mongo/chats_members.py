"""Members of chats on MongoDB: coming, going, roles, and the system messages that tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import (
    MAX_MEMBERS,
    Audience,
    ChatRecord,
    Extra,
    MemberChange,
    MemberRecord,
    MessageRecord,
    Role,
)
from hypersend_server.metadata.mongo.chats_append import message_doc
from hypersend_server.metadata.mongo.chats_rows import (
    audience_of,
    bump,
    find_member,
    member_id,
    member_of,
    membership,
    set_members,
)
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import not_found


class MongoMembers:
    _engine: Engine

    async def get_member(self, chat_id: str, user_id: str) -> MemberRecord | None:
        return await self._engine.read(lambda tx: find_member(tx, chat_id, user_id))

    async def list_members(self, chat_id: str, user_id: str, after_user_id: str, limit: int) -> list[MemberRecord]:
        async def job(tx: Tx) -> list[MemberRecord]:
            await membership(tx, chat_id, user_id)
            docs = await tx.many(
                "members", {"chat_id": chat_id, "user_id": {"$gt": after_user_id}, "left_at": None},
                sort=[("user_id", 1)], limit=limit)
            return [member_of(doc) for doc in docs]

        return await self._engine.read(job)

    async def add_members(
        self, chat_id: str, actor_id: str, user_ids: Sequence[str], message_id: str, now: int
    ) -> MemberChange:
        async def job(tx: Tx) -> MemberChange:
            chat, me = await membership(tx, chat_id, actor_id)
            require_role(chat, me, "owner", "admin")
            await require_people(tx, user_ids)
            asked = list(dict.fromkeys(user_ids))
            there = await tx.distinct(
                "members", "user_id", {"chat_id": chat_id, "user_id": {"$in": asked}, "left_at": None})
            new = [user_id for user_id in asked if user_id not in there]
            if not new:
                return MemberChange(None, await audience_of(tx, chat_id, chat.members_rev))
            await require_unblocked(tx, new, actor_id)
            require_room(chat.members_count + len(new))
            first_seq = 1 if chat.history == "all" else chat.seq + 1
            system = {"event": "member_added", "actor_id": actor_id, "user_ids": new}
            message, stamp = await post_system(
                tx, chat_id, system, message_id, now, members_rev=chat.members_rev + 1,
                members_count=chat.members_count + len(new))
            await join(tx, chat_id, {user_id: "member" for user_id in new}, first_seq, chat.seq, now, stamp)
            return await _told(tx, chat, message, new)

        return await self._engine.write(f"chat:{chat_id}", job)

    async def remove_member(self, chat_id: str, actor_id: str, user_id: str, message_id: str, now: int) -> MemberChange:
        async def job(tx: Tx) -> MemberChange:
            chat, me = await membership(tx, chat_id, actor_id)
            if chat.kind != "group":
                raise HyperSendError("not_allowed", "Only groups have members who come and go.")
            if actor_id != user_id:
                require_role(chat, me, "owner", "admin")
                target = await find_member(tx, chat_id, user_id)
                if target is None:
                    raise not_found("member")
                if target.role == "owner" or (target.role == "admin" and me.role != "owner"):
                    raise HyperSendError("not_allowed", "Only the owner may remove an admin.")
            return await leave(tx, chat, actor_id, user_id, message_id, now)

        return await self._engine.write(f"chat:{chat_id}", job)

    async def set_role(
        self, chat_id: str, actor_id: str, user_id: str, role: Role, message_id: str, now: int
    ) -> MemberChange:
        async def job(tx: Tx) -> MemberChange:
            chat, me = await membership(tx, chat_id, actor_id)
            require_role(chat, me, "owner")
            target = await find_member(tx, chat_id, user_id)
            if target is None:
                raise not_found("member")
            if target.role == role:
                return MemberChange(None, await audience_of(tx, chat_id, chat.members_rev), (target,))
            if target.role == "owner":
                raise HyperSendError("owner_required", "Make somebody else the owner instead.")
            system = {"event": "role_changed", "actor_id": actor_id, "user_ids": [user_id], "role": role}
            message, stamp = await post_system(
                tx, chat_id, system, message_id, now, members_rev=chat.members_rev + 1)
            roles = {user_id: role, **({actor_id: "admin"} if role == "owner" else {})}
            for one, new in roles.items():
                await set_members(tx, chat_id, [one], stamp, role=new)
            return await _told(tx, chat, message, list(roles))

        return await self._engine.write(f"chat:{chat_id}", job)


async def join(
    tx: Tx, chat_id: str, roles: dict[str, str], first_seq: int, seq: int, now: int, stamp: int
) -> None:
    """Enter these people, who are not in the chat, or are no longer. seq: up to which all counts as read."""
    places = [
        {
            "_id": member_id(chat_id, user_id), "chat_id": chat_id, "user_id": user_id, "role": role,
            "first_seq": first_seq, "delivered_seq": seq, "read_seq": seq, "joined_at": now, "left_at": None,
            "began": stamp, "pinned": False, "archived": False, "muted_until": None, "changed": stamp,
        }
        for user_id, role in roles.items()
    ]
    await tx.delete("members", {"_id": {"$in": [place["_id"] for place in places]}})
    await tx.insert("members", *places)


async def post_system(
    tx: Tx, chat_id: str, system: dict[str, Any], message_id: str, now: int, **chat_fields: Any
) -> tuple[MessageRecord, int]:
    """Append a system message, and give the chat these fields with it: (the message, its stamp)."""
    chat, stamp = await bump(tx, chat_id, seqs=1, revs=1, updated_at=now, **chat_fields)
    message = MessageRecord(
        id=message_id, chat_id=chat_id, seq=chat.seq, rev=chat.rev, sender_id=None, client_id=None, kind="system",
        text="", extra=Extra(system=system), created_at=now)
    await tx.insert("messages", message_doc(message, stamp))
    return message, stamp


async def _told(
    tx: Tx, chat: ChatRecord, message: MessageRecord, user_ids: Iterable[str], gone: tuple[str, ...] = ()
) -> MemberChange:
    """chat: as it was before its members changed."""
    docs = {
        doc["user_id"]: doc
        for doc in await tx.many("members", {"_id": {"$in": [member_id(chat.id, one) for one in user_ids]}})}
    return MemberChange(
        message, await audience_of(tx, chat.id, chat.members_rev + 1),
        tuple(member_of(docs[user_id]) for user_id in user_ids), gone)


async def leave(tx: Tx, chat: ChatRecord, actor_id: str, user_id: str, message_id: str, now: int) -> MemberChange:
    """Take a present member out of a group."""
    target = await find_member(tx, chat.id, user_id)
    assert target is not None
    if chat.members_count == 1:
        await end_chat(tx, chat.id, now)
        return MemberChange(None, Audience(chat.id, chat.members_rev + 1, ()), (), (user_id,))
    system: dict[str, Any] = {
        "event": "member_left" if actor_id == user_id else "member_removed",
        "actor_id": actor_id,
        "user_ids": [user_id],
    }
    touched = [user_id]
    if target.role == "owner":
        others: Doc = {"chat_id": chat.id, "left_at": None, "user_id": {"$ne": user_id}}
        oldest = [("joined_at", 1), ("user_id", 1)]
        heirs = await tx.many("members", {**others, "role": "admin"}, sort=oldest, limit=1) or await tx.many(
            "members", others, sort=oldest, limit=1)
        touched.append(heirs[0]["user_id"])
        system["new_owner_id"] = touched[1]
    message, stamp = await post_system(
        tx, chat.id, system, message_id, now, members_rev=chat.members_rev + 1, members_count=chat.members_count - 1)
    await set_members(tx, chat.id, [user_id], stamp, left_at=now)
    await set_members(tx, chat.id, touched[1:], stamp, role="owner")
    return await _told(tx, chat, message, touched, (user_id,))


async def close_side(tx: Tx, chat: ChatRecord, user_id: str, now: int) -> None:
    """One person's side of a direct chat: nothing said so far is theirs any more. A new message opens it again."""
    _, stamp = await bump(
        tx, chat.id, members_count=chat.members_count - 1, members_rev=chat.members_rev + 1)
    await set_members(
        tx, chat.id, [user_id], stamp, left_at=now, first_seq=chat.seq + 1, read_seq=chat.seq, delivered_seq=chat.seq,
        pinned=False, archived=False, muted_until=None)


async def end_chat(tx: Tx, chat_id: str, now: int) -> None:
    """The chat is no more; its messages are removed by upkeep."""
    stamped = await tx.one("chats", {"_id": chat_id}, {"members_rev": 1})
    assert stamped is not None
    _, stamp = await bump(tx, chat_id, deleted_at=now, members_count=0, members_rev=stamped["members_rev"] + 1)
    await tx.update("chats", {"_id": chat_id}, {"$unset": {"pair_key": ""}})
    await tx.update_all("members", {"chat_id": chat_id, "left_at": None}, {"$set": {"left_at": now, "changed": stamp}})
    await tx.update(
        "jobs", {"_id": f"purge_chat:{chat_id}"}, {"$setOnInsert": {"kind": "purge_chat", "subject": chat_id}},
        upsert=True)


def require_role(chat: ChatRecord, me: MemberRecord, *roles: Role) -> None:
    if chat.kind != "group":
        raise HyperSendError("not_allowed", "Only groups can be changed in this way.")
    if me.role not in roles:
        raise HyperSendError("not_allowed", f"This takes the role {' or '.join(roles)}.")


def require_room(members_count: int) -> None:
    if members_count > MAX_MEMBERS:
        raise HyperSendError("chat_full", f"A group has at most {MAX_MEMBERS} members.")


async def require_unblocked(tx: Tx, user_ids: Sequence[str], actor_id: str) -> None:
    """Nobody is brought into a group by somebody they block. Raises: `blocked`."""
    by = await tx.many("blocks", {"_id": {"$in": [f"{user_id}:{actor_id}" for user_id in user_ids]}}, {"user_id": 1})
    if by:
        raise HyperSendError("blocked", f"{by[0]['user_id']} does not want to be in a chat with you.")


async def require_people(tx: Tx, user_ids: Sequence[str]) -> None:
    found = await tx.many("users", {"_id": {"$in": list(user_ids)}, "deleted_at": None}, {"_id": 1})
    missing = set(user_ids) - {doc["_id"] for doc in found}
    if missing:
        raise HyperSendError("not_found", f"There is no person {min(missing)}.")
