"""What administrators see and change of accounts, on MongoDB."""

from __future__ import annotations

from msgspec import UNSET

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Stats, UserAccount, UserPatch
from hypersend_server.metadata.mongo.accounts_rows import (
    ACTIVE,
    USER,
    end_sessions,
    keep_an_admin,
    require_user,
    user_of,
)
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import stamp_accounts, write_audit
from hypersend_server.metadata.server import AuditEntry


class Administration:
    _engine: Engine

    async def list_accounts(self, *, after_id: str, limit: int) -> list[UserAccount]:
        async def job(tx: Tx) -> list[UserAccount]:
            docs = await tx.many(
                "users", {"_id": {"$gt": after_id}, "deleted_at": None}, USER, sort=[("_id", 1)], limit=limit)
            return await _accounts(tx, docs)

        return await self._engine.read(job)

    async def patch_user(
        self,
        user_id: str,
        patch: UserPatch,
        *,
        now_ms: int,
        audit: AuditEntry,
    ) -> tuple[UserAccount, list[str]]:
        async def job(tx: Tx) -> tuple[UserAccount, list[str]]:
            user = await require_user(tx, user_id)
            is_admin = user.is_admin if patch.is_admin is UNSET else patch.is_admin
            disabled = user.disabled if patch.disabled is UNSET else patch.disabled
            quota = user.quota_bytes if patch.quota_bytes is UNSET else patch.quota_bytes
            if not is_admin or disabled:
                await keep_an_admin(tx, user)
            change, changed = await stamp_accounts(tx)
            doc = await tx.changed("users", {"_id": user_id}, {"$set": {
                "is_admin": is_admin, "disabled": disabled, "quota_bytes": quota, "changed": changed,
                "change": change}})
            if doc is None:
                raise HyperSendError("not_found", "There is no such person.")
            ended = await end_sessions(tx, user_id, now_ms, change) if disabled else []
            await write_audit(tx, audit)
            return (await _accounts(tx, [doc]))[0], ended

        return await self._engine.write("accounts", job)

    async def stats(self) -> Stats:
        async def job(tx: Tx) -> Stats:
            files, file_bytes = await _sum(tx, {"state": "complete"})
            uploads, upload_bytes = await _sum(tx, {"state": {"$in": ["uploading", "completing"]}})
            return Stats(
                users=await tx.count("users", {"deleted_at": None}),
                disabled_users=await tx.count("users", {"deleted_at": None, "disabled": True}),
                administrators=await tx.count("users", {"is_admin": True, **ACTIVE}),
                sessions=await tx.count("sessions", {"ended_at": None}),
                chats=await tx.count("chats", {"deleted_at": None, "kind": {"$ne": "saved"}}),
                # From the collection's own count: to count them one by one takes seconds at ten million.
                messages=int(await tx.db["messages"].estimated_document_count()),
                files=files,
                file_bytes=file_bytes,
                uploads=uploads,
                upload_bytes=upload_bytes,
            )

        return await self._engine.read(job)


async def _accounts(tx: Tx, docs: list[Doc]) -> list[UserAccount]:
    ids = [doc["_id"] for doc in docs]
    used = await tx.grouped("files", [
        {"$match": {"owner_id": {"$in": ids}, "state": "complete"}},
        {"$group": {"_id": "$owner_id", "total": {"$sum": "$size"}}}])
    live = await tx.grouped("sessions", [
        {"$match": {"user_id": {"$in": ids}, "ended_at": None}}, {"$group": {"_id": "$user_id", "total": {"$sum": 1}}}])
    bytes_of = {row["_id"]: int(row["total"]) for row in used}
    sessions_of = {row["_id"]: int(row["total"]) for row in live}
    return [UserAccount(user_of(doc), bytes_of.get(doc["_id"], 0), sessions_of.get(doc["_id"], 0)) for doc in docs]


async def _sum(tx: Tx, where: Doc) -> tuple[int, int]:
    rows = await tx.grouped(
        "files", [{"$match": where}, {"$group": {"_id": None, "count": {"$sum": 1}, "total": {"$sum": "$size"}}}])
    return (int(rows[0]["count"]), int(rows[0]["total"])) if rows else (0, 0)
