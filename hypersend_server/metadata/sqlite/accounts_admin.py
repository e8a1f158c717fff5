"""What administrators see and change of accounts, on SQLite."""

from __future__ import annotations

import sqlite3

from msgspec import UNSET

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Stats, UserAccount, UserPatch
from hypersend_server.metadata.server import AuditEntry
from hypersend_server.metadata.sqlite.accounts_rows import (
    ACTIVE,
    USER,
    USER_WIDTH,
    end_sessions,
    keep_an_admin,
    require_user,
    user_of,
    write_audit,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx

_ACCOUNT = (
    f"{USER}, (SELECT coalesce(sum(size), 0) FROM files f WHERE f.owner_id = u.id AND f.state = 'complete'),"  # noqa: S608
    " (SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.ended_at IS NULL)"
)


class Administration:
    _engine: Engine

    async def list_accounts(self, *, after_id: str, limit: int) -> list[UserAccount]:
        def job(tx: ReadTx) -> list[UserAccount]:
            rows = tx.execute(
                f"SELECT {_ACCOUNT} FROM users u WHERE u.id > ? AND u.deleted_at IS NULL ORDER BY u.id LIMIT ?",  # noqa: S608
                (after_id, limit),
            )
            return [UserAccount(user_of(row), *row[USER_WIDTH:]) for row in rows]

        return await self._engine.read(job)

    async def patch_user(
        self,
        user_id: str,
        patch: UserPatch,
        *,
        now_ms: int,
        audit: AuditEntry,
    ) -> tuple[UserAccount, list[str]]:
        def job(tx: Tx) -> tuple[UserAccount, list[str]]:
            user = require_user(tx.connection, user_id)
            is_admin = user.is_admin if patch.is_admin is UNSET else patch.is_admin
            disabled = user.disabled if patch.disabled is UNSET else patch.disabled
            quota = user.quota_bytes if patch.quota_bytes is UNSET else patch.quota_bytes
            if not is_admin or disabled:
                keep_an_admin(tx.connection, user)
            tx.execute(
                "UPDATE users SET is_admin = ?, disabled = ?, quota_bytes = ?, changed = ? WHERE id = ?",
                (is_admin, disabled, quota, tx.stamp(), user_id),
            )
            ended = end_sessions(tx, user_id, now_ms) if disabled else []
            write_audit(tx, audit)
            return _account(tx.connection, user_id), ended

        return await self._engine.write(job)

    async def stats(self) -> Stats:
        def job(tx: ReadTx) -> Stats:
            users = tx.execute(
                f"SELECT count(*), coalesce(sum(disabled), 0), coalesce(sum(is_admin AND {ACTIVE}), 0)"  # noqa: S608
                " FROM users WHERE deleted_at IS NULL"
            ).fetchone()
            files, file_bytes = _sum(tx, "state = 'complete'")
            uploads, upload_bytes = _sum(tx, "state IN ('uploading', 'completing')")
            return Stats(
                users=users[0],
                disabled_users=users[1],
                administrators=users[2],
                sessions=_count(tx, "sessions WHERE ended_at IS NULL"),
                chats=_count(tx, "chats WHERE deleted_at IS NULL AND kind != 'saved'"),
                messages=_count(tx, "messages"),
                files=files,
                file_bytes=file_bytes,
                uploads=uploads,
                upload_bytes=upload_bytes,
            )

        return await self._engine.read(job)


def _account(connection: sqlite3.Connection, user_id: str) -> UserAccount:
    row = connection.execute(f"SELECT {_ACCOUNT} FROM users u WHERE u.id = ?", (user_id,)).fetchone()  # noqa: S608
    if row is None:
        raise HyperSendError("not_found", "There is no such person.")
    return UserAccount(user_of(row), *row[USER_WIDTH:])


def _count(tx: ReadTx, what: str) -> int:
    return int(tx.execute(f"SELECT count(*) FROM {what}").fetchone()[0])  # noqa: S608


def _sum(tx: ReadTx, where: str) -> tuple[int, int]:
    row = tx.execute(f"SELECT count(*), coalesce(sum(size), 0) FROM files WHERE {where}").fetchone()  # noqa: S608
    return int(row[0]), int(row[1])
