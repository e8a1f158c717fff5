"""People, their pictures and blocks on MongoDB."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import (
    FIRST_INVITE,
    Credentials,
    NewSession,
    NewUser,
    PictureRecord,
    UserRecord,
    UserView,
)
from hypersend_server.metadata.mongo.accounts_rows import (
    ACTIVE,
    USER,
    end_sessions,
    has_admin,
    insert_session,
    keep_an_admin,
    read_user,
    require_user,
    user_of,
)
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import (
    beginning,
    doc_of,
    parts_of,
    record_of,
    stamp_accounts,
    write_audit,
)
from hypersend_server.metadata.server import AuditEntry


class Users:
    _engine: Engine

    async def create_user(
        self,
        user: NewUser,
        *,
        now_ms: int,
        invite_hash: bytes | None = None,
        session: NewSession | None = None,
        audit: AuditEntry | None = None,
    ) -> UserRecord:
        async def job(tx: Tx) -> UserRecord:
            invite = None if invite_hash is None else await _usable_invite(tx, invite_hash, now_ms)
            if await tx.one("users", {"email_key": user.email_key}, {"_id": 1}):
                raise HyperSendError("email_taken")
            if await tx.one("users", {"username": user.username}, {"_id": 1}):
                raise HyperSendError("username_taken")
            change, changed = await stamp_accounts(tx)
            if invite is not None:
                await tx.update("invites", {"_id": invite["_id"]}, {"$inc": {"uses": 1}})
            doc = doc_of(
                user, is_admin=user.is_admin or bool(invite and invite["makes_admin"]), about="", disabled=False,
                quota_bytes=None, avatar_id=None, created_at=now_ms, last_seen_at=None, deleted_at=None,
                changed=changed, change=change)
            await tx.insert("users", doc)
            if session is not None:
                await insert_session(tx, session, now_ms, change)
            await write_audit(tx, audit)
            return user_of(doc)

        return await self._engine.write("accounts", job)

    async def credentials(self, email_key: str) -> Credentials | None:
        return await self._credentials({"email_key": email_key})

    async def credentials_of(self, user_id: str) -> Credentials | None:
        return await self._credentials({"_id": user_id})

    async def _credentials(self, where: Doc) -> Credentials | None:
        async def job(tx: Tx) -> Credentials | None:
            doc = await tx.one("users", {**where, "deleted_at": None})
            return None if doc is None else Credentials(user_of(doc), doc["password_hash"])

        return await self._engine.read(job)

    async def get_user(self, user_id: str) -> UserRecord | None:
        return await self._engine.read(lambda tx: read_user(tx, user_id))

    async def view_users(self, user_ids: Collection[str], viewer_id: str) -> dict[str, UserView]:
        ids = sorted(set(user_ids))
        if not ids:
            return {}

        async def job(tx: Tx) -> dict[str, UserView]:
            users = [user for part in parts_of(ids) for user in await tx.many("users", {"_id": {"$in": part}}, USER)]
            return {view.user.id: view for view in await _views(tx, users, viewer_id)}

        return await self._engine.read(job)

    async def search_users(
        self,
        viewer_id: str,
        *,
        username_prefix: str,
        name_prefix: str,
        email_key: str,
        after: str,
        limit: int,
    ) -> list[UserView]:
        async def job(tx: Tx) -> list[UserView]:
            any_of: list[Doc] = [{"email_key": email_key}] if email_key else []
            if username_prefix:
                any_of.append({"username": beginning(username_prefix)})
            if name_prefix:
                any_of.append({"name_key": beginning(name_prefix)})
            if not any_of:
                return []
            where = {**ACTIVE, "_id": {"$nin": sorted(await _blocked_with(tx, viewer_id))}, "$or": any_of}
            docs = await tx.many(
                "users", {"$and": [where, {"username": {"$gt": after}}]}, USER, sort=[("username", 1)], limit=limit)
            return await _views(tx, docs, viewer_id)

        return await self._engine.read(job)

    async def update_profile(
        self,
        user_id: str,
        *,
        display_name: str | None = None,
        name_key: str | None = None,
        about: str | None = None,
    ) -> UserRecord:
        stated = {"display_name": display_name, "name_key": name_key, "about": about}

        async def job(tx: Tx) -> UserRecord:
            await require_user(tx, user_id)
            return await _set(tx, user_id, {name: text for name, text in stated.items() if text is not None})

        return await self._engine.write("accounts", job)

    async def set_avatar(self, user_id: str, picture: PictureRecord | None) -> UserRecord:
        async def job(tx: Tx) -> UserRecord:
            user = await require_user(tx, user_id)
            if picture is None and user.avatar_id is None:
                return user
            changed = await _set(tx, user_id, {"avatar_id": None if picture is None else picture.id})
            await tx.delete("pictures", {"_id": user.avatar_id})
            if picture is not None:
                await tx.insert("pictures", doc_of(picture))
            return changed

        return await self._engine.write("accounts", job)

    async def get_picture(self, picture_id: str) -> PictureRecord | None:
        async def job(tx: Tx) -> PictureRecord | None:
            doc = await tx.one("pictures", {"_id": picture_id})
            return None if doc is None else record_of(PictureRecord, doc)

        return await self._engine.read(job)

    async def set_last_seen(self, seen: Mapping[str, int]) -> None:
        for user_id, at in seen.items():

            async def job(tx: Tx, user_id: str = user_id, at: int = at) -> int:
                return await tx.update("users", {"_id": user_id}, {"$max": {"last_seen_at": at}})

            await self._engine.single(job)

    async def set_password(
        self,
        user_id: str,
        *,
        old_hash: str,
        new_hash: str,
        keep_session_id: str | None,
        now_ms: int,
    ) -> list[str] | None:
        async def job(tx: Tx) -> list[str] | None:
            if not await tx.one("users", {"_id": user_id, "password_hash": old_hash}, {"_id": 1}):
                return None
            change, changed = await stamp_accounts(tx)
            await tx.update(
                "users", {"_id": user_id},
                {"$set": {"password_hash": new_hash, "changed": changed, "change": change}})
            await tx.delete("resets", {"user_id": user_id})
            return await end_sessions(tx, user_id, now_ms, change, except_id=keep_session_id)

        return await self._engine.write("accounts", job)

    async def replace_hash(self, user_id: str, old_hash: str, new_hash: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update(
                "users", {"_id": user_id, "password_hash": old_hash}, {"$set": {"password_hash": new_hash}})

        await self._engine.single(job)

    async def begin_deletion(self, user_id: str, *, now_ms: int, audit: AuditEntry | None = None) -> list[str]:
        async def job(tx: Tx) -> list[str]:
            user = await read_user(tx, user_id)
            if user is None:
                raise HyperSendError("not_found", "There is no such person.")
            is_new = user.deleted_at is None
            if is_new:
                await keep_an_admin(tx, user)
            change, changed = await stamp_accounts(tx)
            if is_new:
                await tx.update("users", {"_id": user_id}, {"$set": {
                    "deleted_at": now_ms, "is_admin": False, "changed": changed, "change": change}})
                await write_audit(tx, audit)
            return await end_sessions(tx, user_id, now_ms, change)

        return await self._engine.write("accounts", job)

    async def finish_deletion(self, user_id: str) -> None:
        async def job(tx: Tx) -> None:
            user = await read_user(tx, user_id)
            if user is None or user.deleted_at is None:
                return
            change, changed = await stamp_accounts(tx)
            await tx.delete("pictures", {"_id": user.avatar_id})
            await tx.delete("blocks", {"user_id": user_id})
            await tx.delete("blocks", {"blocked_id": user_id})
            await tx.delete("resets", {"user_id": user_id})
            await tx.update_all(
                "sessions", {"user_id": user_id}, {"$set": {"device": "", "ip": "", "device_key": None}})
            await tx.update("users", {"_id": user_id}, {
                "$set": {"email": None, "display_name": "", "name_key": "", "about": "", "password_hash": "",
                         "avatar_id": None, "quota_bytes": None, "last_seen_at": None, "changed": changed,
                         "change": change},
                "$unset": {"email_key": "", "username": ""},  # absent, since these are unique
            })

        await self._engine.write("accounts", job)

    async def unfinished_deletions(self) -> list[str]:
        async def job(tx: Tx) -> list[str]:
            docs = await tx.many(
                "users", {"deleted_at": {"$gt": 0}, "email_key": {"$exists": True}}, {"_id": 1}, sort=[("_id", 1)])
            return [doc["_id"] for doc in docs]

        return await self._engine.read(job)

    async def block(self, user_id: str, blocked_id: str, *, now_ms: int) -> None:
        async def job(tx: Tx) -> None:
            await require_user(tx, blocked_id)
            await tx.update(
                "blocks", {"_id": f"{user_id}:{blocked_id}"},
                {"$setOnInsert": {"user_id": user_id, "blocked_id": blocked_id, "created_at": now_ms}}, upsert=True)

        await self._engine.write("accounts", job)

    async def unblock(self, user_id: str, blocked_id: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.delete("blocks", {"_id": f"{user_id}:{blocked_id}"})

        await self._engine.single(job)

    async def list_blocks(self, user_id: str, *, after_id: str, limit: int) -> list[UserView]:
        async def job(tx: Tx) -> list[UserView]:
            blocks = await tx.many(
                "blocks", {"user_id": user_id, "blocked_id": {"$gt": after_id}}, {"blocked_id": 1},
                sort=[("blocked_id", 1)], limit=limit)
            docs = await tx.many(
                "users", {"_id": {"$in": [block["blocked_id"] for block in blocks]}}, USER, sort=[("_id", 1)])
            return [UserView(user_of(doc), False) for doc in docs]

        return await self._engine.read(job)


async def _set(tx: Tx, user_id: str, fields: dict[str, Any]) -> UserRecord:
    change, changed = await stamp_accounts(tx)
    doc = await tx.changed("users", {"_id": user_id}, {"$set": {**fields, "changed": changed, "change": change}})
    assert doc is not None
    return user_of(doc)


async def _blocked_with(tx: Tx, user_id: str) -> set[str]:
    """Whom this person blocks, and who blocks them."""
    return {
        *(doc["blocked_id"] for doc in await tx.many("blocks", {"user_id": user_id}, {"blocked_id": 1})),
        *(doc["user_id"] for doc in await tx.many("blocks", {"blocked_id": user_id}, {"user_id": 1})),
    }


async def _views(tx: Tx, docs: list[Doc], viewer_id: str) -> list[UserView]:
    others = [doc["_id"] for doc in docs if doc["_id"] != viewer_id]
    near: set[str] = set()
    if others:
        chats = await my_chats(tx, viewer_id)
        if chats:
            near = await sharing(tx, others, chats) - await _blocked_with(tx, viewer_id)
    return [UserView(user_of(doc), doc["_id"] == viewer_id or doc["_id"] in near) for doc in docs]


async def my_chats(tx: Tx, user_id: str) -> list[str]:
    return [doc["chat_id"] for doc in await tx.many("members", {"user_id": user_id, "left_at": None}, {"chat_id": 1})]


async def sharing(tx: Tx, user_ids: Collection[str], chat_ids: Collection[str]) -> set[str]:
    """Those of these people who are in one of these chats."""
    found: set[str] = set()
    for part in parts_of(user_ids):
        found.update(await tx.distinct(
            "members", "user_id",
            {"user_id": {"$in": part}, "chat_id": {"$in": list(chat_ids)}, "left_at": None}))
    return found


async def _usable_invite(tx: Tx, code_hash: bytes, now_ms: int) -> Doc:
    """Raises: `invite_invalid`."""
    invite = await tx.one("invites", {"code_hash": code_hash})
    if (
        invite is None
        or invite["uses"] >= invite["max_uses"]
        or (invite["expires_at"] is not None and invite["expires_at"] <= now_ms)
        or (invite["_id"] == FIRST_INVITE and await has_admin(tx))
    ):
        raise HyperSendError("invite_invalid")
    return invite
