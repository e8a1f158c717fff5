"""Chats on MongoDB: making, listing, changing, deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import (
    Audience,
    ChatPosition,
    ChatRecord,
    ChatView,
    MemberChange,
    MemberRecord,
    pair_key,
)
from hypersend_server.metadata.mongo.chats_members import (
    close_side,
    end_chat,
    join,
    post_system,
    require_people,
    require_role,
    require_room,
    require_unblocked,
)
from hypersend_server.metadata.mongo.chats_messages import is_blocked_by
from hypersend_server.metadata.mongo.chats_rows import (
    audience_of,
    bump,
    chat_of,
    find_member,
    member_id,
    member_of,
    membership,
    stamp_member,
    views_of,
)
from hypersend_server.metadata.mongo.engine import Engine, Tx
from hypersend_server.metadata.mongo.records import not_found, parts_of


class MongoGroups:
    _engine: Engine

    async def ensure_saved(self, user_id: str, chat_id: str, now: int) -> str:
        async def find(tx: Tx) -> str | None:
            doc = await tx.one("chats", {"pair_key": user_id}, {"_id": 1})
            return None if doc is None else str(doc["_id"])

        async def job(tx: Tx) -> str:
            there = await find(tx)
            if there is not None:
                return there
            # As old as the account: made late, it must not stand above chats in which something was said.
            account = await tx.one("users", {"_id": user_id}, {"created_at": 1})
            began = now if account is None else int(account["created_at"])
            stamp = await _make(tx, chat_id, "saved", user_id, "", "all", 1, began)
            await join(tx, chat_id, {user_id: "owner"}, 1, 0, began, stamp)
            return chat_id

        found = await self._engine.read(find)
        return await self._engine.write(f"pair:{user_id}", job) if found is None else found

    async def create_direct(self, user_id: str, peer_id: str, chat_id: str, now: int) -> tuple[str, bool, Audience]:
        key = pair_key(user_id, peer_id)

        async def job(tx: Tx) -> tuple[str, bool, Audience]:
            doc = await tx.one("chats", {"pair_key": key})
            if doc is not None:
                chat = chat_of(doc)
                if await find_member(tx, chat.id, user_id) is None:
                    chat, stamp = await bump(
                        tx, chat.id, members_count=chat.members_count + 1, members_rev=chat.members_rev + 1)
                    await tx.update("members", {"_id": member_id(chat.id, user_id)}, {"$set": {
                        "left_at": None, "joined_at": now, "began": stamp, "changed": stamp}})
                return chat.id, False, await audience_of(tx, chat.id, chat.members_rev)
            await require_people(tx, [peer_id])
            if await is_blocked_by(tx, peer_id, user_id):
                raise HyperSendError("blocked")
            stamp = await _make(tx, chat_id, "direct", key, "", "all", 2, now)
            await join(tx, chat_id, {user_id: "member", peer_id: "member"}, 1, 0, now, stamp)
            return chat_id, True, await audience_of(tx, chat_id, 1)

        return await self._engine.write(f"pair:{key}", job)

    async def create_group(
        self,
        owner_id: str,
        member_ids: Sequence[str],
        title: str,
        history: Literal["all", "since_join"],
        chat_id: str,
        message_id: str,
        now: int,
    ) -> MemberChange:
        others = [user_id for user_id in dict.fromkeys(member_ids) if user_id != owner_id]

        async def job(tx: Tx) -> MemberChange:
            await require_people(tx, others)
            await require_unblocked(tx, others, owner_id)
            require_room(len(others) + 1)
            await _make(tx, chat_id, "group", None, title, history, len(others) + 1, now)
            system = {"event": "group_created", "actor_id": owner_id, "user_ids": others, "title": title}
            message, stamp = await post_system(tx, chat_id, system, message_id, now)
            await join(
                tx, chat_id, {owner_id: "owner", **dict.fromkeys(others, "member")}, 1, 0, now, stamp)
            return MemberChange(message, await audience_of(tx, chat_id, 1))

        return await self._engine.write(f"chat:{chat_id}", job)

    async def get_chat(self, chat_id: str, user_id: str) -> ChatView | None:
        async def job(tx: Tx) -> ChatView | None:
            return (await views_of(tx, [await membership(tx, chat_id, user_id)]))[0]

        try:
            return await self._engine.read(job)
        except HyperSendError as error:
            if error.code == "not_found":
                return None
            raise

    async def list_chats(self, user_id: str, archived: bool, after: ChatPosition | None, limit: int) -> list[ChatView]:
        at = after or ChatPosition(True, 2**62, "~")

        async def job(tx: Tx) -> list[ChatView]:
            places = {
                doc["chat_id"]: member_of(doc)
                for doc in await tx.many("members", {"user_id": user_id, "left_at": None, "archived": archived})}
            # A person is in some hundreds of chats: their times are read, and the page alone with all it shows.
            order = sorted([
                (places[doc["_id"]].pinned, doc["updated_at"], doc["_id"])
                for part in parts_of(places)
                for doc in await tx.many("chats", {"_id": {"$in": list(part)}}, {"updated_at": 1})], reverse=True)
            page = [place for place in order if place < (at.pinned, at.updated_at, at.chat_id)][:limit]
            return await views_of(tx, await _pairs(tx, [chat_id for _, _, chat_id in page], places))

        return await self._engine.read(job)

    async def update_group(
        self,
        chat_id: str,
        actor_id: str,
        fields: dict[str, str | None],
        picture: tuple[str, str, bytes] | None,
        message_id: str,
        now: int,
    ) -> MemberChange:
        async def job(tx: Tx) -> MemberChange:
            chat, me = await membership(tx, chat_id, actor_id)
            require_role(chat, me, "owner", "admin")
            new: dict[str, Any] = {name: value for name, value in fields.items() if getattr(chat, name) != value}
            if not new:
                return MemberChange(None, await audience_of(tx, chat_id, chat.members_rev))
            system: dict[str, Any] = {
                "event": "group_changed",
                "actor_id": actor_id,
                "fields": sorted("avatar" if name == "avatar_id" else name for name in new),
            }
            if "title" in new:
                system["title"] = new["title"]
            message, _ = await post_system(tx, chat_id, system, message_id, now, **new)
            if picture is not None:
                await tx.insert("pictures", {"_id": picture[0], "mime": picture[1], "data": picture[2]})
            if "avatar_id" in new and chat.avatar_id is not None:
                await tx.delete("pictures", {"_id": chat.avatar_id})
            return MemberChange(message, await audience_of(tx, chat_id, chat.members_rev))

        return await self._engine.write(f"chat:{chat_id}", job)

    async def delete_chat(self, chat_id: str, user_id: str, now: int) -> list[str]:
        async def job(tx: Tx) -> list[str]:
            chat, me = await membership(tx, chat_id, user_id)
            if chat.kind == "saved":
                raise HyperSendError("not_allowed", "The chat with oneself cannot be deleted.")
            if chat.kind == "direct":
                await close_side(tx, chat, user_id, now)
                return [user_id]
            require_role(chat, me, "owner")
            gone = await tx.distinct("members", "user_id", {"chat_id": chat_id, "left_at": None})
            await end_chat(tx, chat_id, now)
            return gone

        return await self._engine.write(f"chat:{chat_id}", job)

    async def set_own(self, chat_id: str, user_id: str, fields: dict[str, Any]) -> None:
        new: dict[str, Any] = {name: fields[name] for name in ("pinned", "archived", "muted_until") if name in fields}

        async def job(tx: Tx) -> None:
            if not new:
                await membership(tx, chat_id, user_id)
            elif not await stamp_member(tx, chat_id, user_id, new):
                raise not_found()

        await self._engine.single(job)

    async def audience(self, chat_id: str, user_id: str) -> Audience:
        async def job(tx: Tx) -> Audience:
            chat, _ = await membership(tx, chat_id, user_id)
            return await audience_of(tx, chat_id, chat.members_rev)

        return await self._engine.read(job)


async def _make(
    tx: Tx, chat_id: str, kind: str, key: str | None, title: str, history: str, members: int, now: int
) -> int:
    """Insert a chat; its first stamp."""
    doc = {
        "_id": chat_id, "kind": kind, "title": title, "about": "", "avatar_id": None, "history": history, "seq": 0,
        "rev": 0, "members_rev": 1, "members_count": members, "created_at": now, "updated_at": now,
        "deleted_at": None, "changed": 0,
    }
    if key is not None:
        doc["pair_key"] = key
    await tx.insert("chats", doc)
    return (await bump(tx, chat_id))[1]


async def _pairs(
    tx: Tx, chat_ids: Sequence[str], places: dict[str, MemberRecord]
) -> list[tuple[ChatRecord, MemberRecord]]:
    """In the order of chat_ids."""
    chats = {
        doc["_id"]: chat_of(doc)
        for part in parts_of(chat_ids) for doc in await tx.many("chats", {"_id": {"$in": list(part)}})}
    return [(chats[chat_id], places[chat_id]) for chat_id in chat_ids if chat_id in chats]
