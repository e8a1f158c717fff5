"""Invites and password resets on MongoDB."""

from __future__ import annotations

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import FIRST_INVITE, InviteRecord
from hypersend_server.metadata.mongo.accounts_rows import end_sessions, has_admin, require_user
from hypersend_server.metadata.mongo.engine import Engine, Tx
from hypersend_server.metadata.mongo.records import doc_of, record_of, stamp_accounts, write_audit
from hypersend_server.metadata.server import AuditEntry


class Codes:
    _engine: Engine

    async def add_invite(self, invite: InviteRecord, code_hash: bytes, audit: AuditEntry) -> None:
        async def job(tx: Tx) -> None:
            await tx.insert("invites", doc_of(invite, code_hash=code_hash))
            await write_audit(tx, audit)

        await self._engine.write("accounts", job)

    async def get_invite(self, code_hash: bytes, *, now_ms: int) -> InviteRecord | None:
        async def job(tx: Tx) -> InviteRecord | None:
            doc = await tx.one("invites", {"code_hash": code_hash})
            if doc is None:
                return None
            invite = record_of(InviteRecord, doc)
            if invite.uses >= invite.max_uses or (invite.expires_at is not None and invite.expires_at <= now_ms):
                return None
            return None if invite.id == FIRST_INVITE and await has_admin(tx) else invite

        return await self._engine.read(job)

    async def list_invites(self, *, before_id: str | None, limit: int) -> list[InviteRecord]:
        async def job(tx: Tx) -> list[InviteRecord]:
            ids = {} if before_id is None else {"$lt": before_id}
            if await has_admin(tx):
                ids["$ne"] = FIRST_INVITE
            docs = await tx.many("invites", {"_id": ids} if ids else {}, sort=[("_id", -1)], limit=limit)
            return [record_of(InviteRecord, doc) for doc in docs]

        return await self._engine.read(job)

    async def delete_invite(self, invite_id: str, audit: AuditEntry) -> None:
        async def job(tx: Tx) -> None:
            if not await tx.one("invites", {"_id": invite_id}, {"_id": 1}):
                raise HyperSendError("not_found", "There is no such invite.")
            await tx.delete("invites", {"_id": invite_id})
            await write_audit(tx, audit)

        await self._engine.write("accounts", job)

    async def renew_first_invite(self, code_hash: bytes, *, now_ms: int) -> bool:
        async def job(tx: Tx) -> bool:
            await stamp_accounts(tx)  # so that nobody becomes an administrator meanwhile
            await tx.delete("invites", {"_id": FIRST_INVITE})
            if await has_admin(tx):
                return False
            invite = InviteRecord(
                id=FIRST_INVITE, makes_admin=True, max_uses=1, uses=0, created_by=None, created_at=now_ms,
                expires_at=None)
            await tx.insert("invites", doc_of(invite, code_hash=code_hash))
            return True

        return await self._engine.write("accounts", job)

    async def add_reset(self, user_id: str, code_hash: bytes, *, expires_at: int, audit: AuditEntry) -> None:
        async def job(tx: Tx) -> None:
            await require_user(tx, user_id)
            await tx.delete("resets", {"user_id": user_id})
            await tx.insert("resets", {"_id": code_hash, "user_id": user_id, "expires_at": expires_at})
            await write_audit(tx, audit)

        await self._engine.write("accounts", job)

    async def get_reset(self, code_hash: bytes, *, now_ms: int) -> str | None:
        async def job(tx: Tx) -> str | None:
            doc = await tx.one("resets", {"_id": code_hash, "expires_at": {"$gt": now_ms}})
            return None if doc is None else str(doc["user_id"])

        return await self._engine.read(job)

    async def use_reset(self, code_hash: bytes, new_hash: str, *, now_ms: int) -> tuple[str, list[str]] | None:
        async def job(tx: Tx) -> tuple[str, list[str]] | None:
            doc = await tx.one("resets", {"_id": code_hash, "expires_at": {"$gt": now_ms}})
            if doc is None:
                return None
            user_id: str = doc["user_id"]
            change, changed = await stamp_accounts(tx)
            await tx.delete("resets", {"_id": code_hash})
            done = await tx.update(
                "users", {"_id": user_id, "deleted_at": None},
                {"$set": {"password_hash": new_hash, "changed": changed, "change": change}})
            return (user_id, await end_sessions(tx, user_id, now_ms, change)) if done else None

        return await self._engine.write("accounts", job)
