"""Invites and password resets on SQLite."""

from __future__ import annotations

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import FIRST_INVITE, InviteRecord
from hypersend_server.metadata.server import AuditEntry
from hypersend_server.metadata.sqlite.accounts_rows import (
    INVITE,
    end_sessions,
    has_admin,
    invite_of,
    require_user,
    write_audit,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx


class Codes:
    _engine: Engine

    async def add_invite(self, invite: InviteRecord, code_hash: bytes, audit: AuditEntry) -> None:
        def job(tx: Tx) -> None:
            _insert_invite(tx, invite, code_hash)
            write_audit(tx, audit)

        await self._engine.write(job)

    async def get_invite(self, code_hash: bytes, *, now_ms: int) -> InviteRecord | None:
        def job(tx: ReadTx) -> InviteRecord | None:
            row = tx.execute(
                f"SELECT {INVITE} FROM invites WHERE code_hash = ? AND uses < max_uses"  # noqa: S608
                " AND (expires_at IS NULL OR expires_at > ?)",
                (code_hash, now_ms),
            ).fetchone()
            if row is None or (row[0] == FIRST_INVITE and has_admin(tx)):
                return None
            return invite_of(row)

        return await self._engine.read(job)

    async def list_invites(self, *, before_id: str | None, limit: int) -> list[InviteRecord]:
        def job(tx: ReadTx) -> list[InviteRecord]:
            rows = tx.execute(
                f"SELECT {INVITE} FROM invites WHERE (?1 IS NULL OR id < ?1) AND id IS NOT ?3"  # noqa: S608
                " ORDER BY id DESC LIMIT ?2",
                (before_id, limit, FIRST_INVITE if has_admin(tx) else None),
            )
            return [invite_of(row) for row in rows]

        return await self._engine.read(job)

    async def delete_invite(self, invite_id: str, audit: AuditEntry) -> None:
        def job(tx: Tx) -> None:
            if tx.execute("DELETE FROM invites WHERE id = ?", (invite_id,)).rowcount == 0:
                raise HyperSendError("not_found", "There is no such invite.")
            write_audit(tx, audit)

        await self._engine.write(job)

    async def renew_first_invite(self, code_hash: bytes, *, now_ms: int) -> bool:
        def job(tx: Tx) -> bool:
            tx.execute("DELETE FROM invites WHERE id = ?", (FIRST_INVITE,))
            if has_admin(tx.connection):
                return False
            _insert_invite(
                tx,
                InviteRecord(
                    id=FIRST_INVITE,
                    makes_admin=True,
                    max_uses=1,
                    uses=0,
                    created_by=None,
                    created_at=now_ms,
                    expires_at=None,
                ),
                code_hash,
            )
            return True

        return await self._engine.write(job)

    async def add_reset(self, user_id: str, code_hash: bytes, *, expires_at: int, audit: AuditEntry) -> None:
        def job(tx: Tx) -> None:
            require_user(tx.connection, user_id)
            tx.execute("DELETE FROM resets WHERE user_id = ?", (user_id,))
            tx.execute("INSERT INTO resets VALUES (?, ?, ?)", (code_hash, user_id, expires_at))
            write_audit(tx, audit)

        await self._engine.write(job)

    async def get_reset(self, code_hash: bytes, *, now_ms: int) -> str | None:
        def job(tx: ReadTx) -> str | None:
            row = tx.execute(
                "SELECT user_id FROM resets WHERE code_hash = ? AND expires_at > ?", (code_hash, now_ms)
            ).fetchone()
            return None if row is None else str(row[0])

        return await self._engine.read(job)

    async def use_reset(self, code_hash: bytes, new_hash: str, *, now_ms: int) -> tuple[str, list[str]] | None:
        def job(tx: Tx) -> tuple[str, list[str]] | None:
            row = tx.execute(
                "DELETE FROM resets WHERE code_hash = ? AND expires_at > ? RETURNING user_id", (code_hash, now_ms)
            ).fetchone()
            if row is None:
                return None
            user_id: str = row[0]
            done = tx.execute(
                "UPDATE users SET password_hash = ?, changed = ? WHERE id = ? AND deleted_at IS NULL",
                (new_hash, tx.stamp(), user_id),
            )
            return (user_id, end_sessions(tx, user_id, now_ms)) if done.rowcount else None

        return await self._engine.write(job)


def _insert_invite(tx: Tx, invite: InviteRecord, code_hash: bytes) -> None:
    tx.execute(
        f"INSERT INTO invites (code_hash, {INVITE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (
            code_hash,
            invite.id,
            invite.makes_admin,
            invite.max_uses,
            invite.uses,
            invite.created_by,
            invite.created_at,
            invite.expires_at,
        ),
    )
