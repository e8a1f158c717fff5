"""People, their pictures and blocks on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping

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
from hypersend_server.metadata.server import AuditEntry
from hypersend_server.metadata.sqlite.accounts_rows import (
    ACTIVE,
    USER,
    USER_WIDTH,
    end_sessions,
    has_admin,
    keep_an_admin,
    read_user,
    require_user,
    user_of,
    write_audit,
)
from hypersend_server.metadata.sqlite.accounts_sessions import insert_session
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx

# Stops at the first chat in common. CROSS JOIN keeps the order: by the other's chats, then a look at mine.
_SHARES_A_CHAT = (
    "EXISTS (SELECT 1 FROM members t CROSS JOIN members v WHERE t.user_id = u.id AND t.left_at IS NULL"
    " AND v.chat_id = t.chat_id AND v.user_id = ?1 AND v.left_at IS NULL)"
)
_BLOCKED = (
    "EXISTS (SELECT 1 FROM blocks b WHERE (b.user_id = ?1 AND b.blocked_id = u.id)"
    " OR (b.user_id = u.id AND b.blocked_id = ?1))"
)
VIEW = f"{USER}, u.id = ?1 OR ({_SHARES_A_CHAT} AND NOT {_BLOCKED})"
_LAST = "\U0010ffff"  # sorts after every other character


def view_of(row: tuple[object, ...]) -> UserView:
    return UserView(user_of(row), bool(row[USER_WIDTH]))


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
        def job(tx: Tx) -> UserRecord:
            is_admin = user.is_admin
            if invite_hash is not None:
                is_admin = _use_invite(tx, invite_hash, now_ms) or is_admin
            if tx.execute("SELECT 1 FROM users WHERE email_key = ?", (user.email_key,)).fetchone():
                raise HyperSendError("email_taken")
            if tx.execute("SELECT 1 FROM users WHERE username = ?", (user.username,)).fetchone():
                raise HyperSendError("username_taken")
            tx.execute(
                "INSERT INTO users (id, email, email_key, username, display_name, name_key, password_hash, is_admin,"
                " created_at, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    user.id,
                    user.email,
                    user.email_key,
                    user.username,
                    user.display_name,
                    user.name_key,
                    user.password_hash,
                    is_admin,
                    now_ms,
                    tx.stamp(),
                ),
            )
            if session is not None:
                insert_session(tx, session, now_ms)
            write_audit(tx, audit)
            return require_user(tx.connection, user.id)

        return await self._engine.write(job)

    async def credentials(self, email_key: str) -> Credentials | None:
        return await self._engine.read(lambda tx: _credentials(tx, "u.email_key = ?", email_key))

    async def credentials_of(self, user_id: str) -> Credentials | None:
        return await self._engine.read(lambda tx: _credentials(tx, "u.id = ?", user_id))

    async def get_user(self, user_id: str) -> UserRecord | None:
        return await self._engine.read(lambda tx: read_user(tx, user_id))

    async def view_users(self, user_ids: Collection[str], viewer_id: str) -> dict[str, UserView]:
        ids = sorted(set(user_ids))
        if not ids:
            return {}

        def job(tx: ReadTx) -> dict[str, UserView]:
            found: dict[str, UserView] = {}
            for start in range(0, len(ids), 500):  # SQLite binds a bounded number of values
                some = ids[start : start + 500]
                marks = ", ".join(f"?{number}" for number in range(2, len(some) + 2))
                rows = tx.execute(f"SELECT {VIEW} FROM users u WHERE u.id IN ({marks})", (viewer_id, *some))  # noqa: S608
                found.update((row[0], view_of(row)) for row in rows)
            return found

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
        def job(tx: ReadTx) -> list[UserView]:
            rows = tx.execute(
                f"SELECT {VIEW} FROM users u WHERE u.{ACTIVE} AND u.username > ?2 AND ("  # noqa: S608
                " (?3 != '' AND u.username >= ?3 AND u.username < ?3 || ?6)"
                " OR (?4 != '' AND u.name_key >= ?4 AND u.name_key < ?4 || ?6)"
                f" OR u.email_key = ?5) AND NOT {_BLOCKED} ORDER BY u.username LIMIT ?7",
                (viewer_id, after, username_prefix, name_prefix, email_key, _LAST, limit),
            )
            return [view_of(row) for row in rows]

        return await self._engine.read(job)

    async def update_profile(
        self,
        user_id: str,
        *,
        display_name: str | None = None,
        name_key: str | None = None,
        about: str | None = None,
    ) -> UserRecord:
        def job(tx: Tx) -> UserRecord:
            require_user(tx.connection, user_id)
            tx.execute(
                "UPDATE users SET display_name = coalesce(?, display_name), name_key = coalesce(?, name_key),"
                " about = coalesce(?, about), changed = ? WHERE id = ?",
                (display_name, name_key, about, tx.stamp(), user_id),
            )
            return require_user(tx.connection, user_id)

        return await self._engine.write(job)

    async def set_avatar(self, user_id: str, picture: PictureRecord | None) -> UserRecord:
        def job(tx: Tx) -> UserRecord:
            user = require_user(tx.connection, user_id)
            if picture is None and user.avatar_id is None:
                return user
            tx.execute("DELETE FROM pictures WHERE id = ?", (user.avatar_id,))
            if picture is not None:
                tx.execute("INSERT INTO pictures VALUES (?, ?, ?)", (picture.id, picture.mime, picture.data))
            tx.execute(
                "UPDATE users SET avatar_id = ?, changed = ? WHERE id = ?",
                (None if picture is None else picture.id, tx.stamp(), user_id),
            )
            return require_user(tx.connection, user_id)

        return await self._engine.write(job)

    async def get_picture(self, picture_id: str) -> PictureRecord | None:
        def job(tx: ReadTx) -> PictureRecord | None:
            row = tx.execute("SELECT id, mime, data FROM pictures WHERE id = ?", (picture_id,)).fetchone()
            return None if row is None else PictureRecord(*row)

        return await self._engine.read(job)

    async def set_last_seen(self, seen: Mapping[str, int]) -> None:
        def job(tx: Tx) -> None:
            tx.executemany(
                "UPDATE users SET last_seen_at = max(coalesce(last_seen_at, 0), ?) WHERE id = ?",
                [(at, user_id) for user_id, at in seen.items()],
            )

        await self._engine.write(job)

    async def set_password(
        self,
        user_id: str,
        *,
        old_hash: str,
        new_hash: str,
        keep_session_id: str | None,
        now_ms: int,
    ) -> list[str] | None:
        def job(tx: Tx) -> list[str] | None:
            done = tx.execute(
                "UPDATE users SET password_hash = ?, changed = ? WHERE id = ? AND password_hash = ?",
                (new_hash, tx.stamp(), user_id, old_hash),
            )
            if done.rowcount == 0:
                return None
            tx.execute("DELETE FROM resets WHERE user_id = ?", (user_id,))
            return end_sessions(tx, user_id, now_ms, except_id=keep_session_id)

        return await self._engine.write(job)

    async def replace_hash(self, user_id: str, old_hash: str, new_hash: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute(
                "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?", (new_hash, user_id, old_hash)
            )

        await self._engine.write(job)

    async def begin_deletion(self, user_id: str, *, now_ms: int, audit: AuditEntry | None = None) -> list[str]:
        def job(tx: Tx) -> list[str]:
            user = read_user(tx.connection, user_id)
            if user is None:
                raise HyperSendError("not_found", "There is no such person.")
            if user.deleted_at is None:
                keep_an_admin(tx.connection, user)
                tx.execute(
                    "UPDATE users SET deleted_at = ?, is_admin = 0, changed = ? WHERE id = ?",
                    (now_ms, tx.stamp(), user_id),
                )
                write_audit(tx, audit)
            return end_sessions(tx, user_id, now_ms)

        return await self._engine.write(job)

    async def finish_deletion(self, user_id: str) -> None:
        def job(tx: Tx) -> None:
            user = read_user(tx.connection, user_id)
            if user is None or user.deleted_at is None:
                return
            tx.execute("DELETE FROM pictures WHERE id = ?", (user.avatar_id,))
            tx.execute("DELETE FROM blocks WHERE user_id = ?1 OR blocked_id = ?1", (user_id,))
            tx.execute("DELETE FROM resets WHERE user_id = ?", (user_id,))
            tx.execute("UPDATE sessions SET device = '', ip = '', device_key = NULL WHERE user_id = ?", (user_id,))
            tx.execute(
                "UPDATE users SET email = NULL, email_key = NULL, username = NULL, display_name = '', name_key = '',"
                " about = '', password_hash = '', avatar_id = NULL, quota_bytes = NULL, last_seen_at = NULL,"
                " changed = ? WHERE id = ?",
                (tx.stamp(), user_id),
            )

        await self._engine.write(job)

    async def unfinished_deletions(self) -> list[str]:
        return await self._engine.read(
            lambda tx: [
                row[0]
                for row in tx.execute(
                    "SELECT id FROM users WHERE deleted_at IS NOT NULL AND email_key IS NOT NULL ORDER BY id"
                )
            ]
        )

    async def block(self, user_id: str, blocked_id: str, *, now_ms: int) -> None:
        def job(tx: Tx) -> None:
            require_user(tx.connection, blocked_id)
            tx.execute("INSERT INTO blocks VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (user_id, blocked_id, now_ms))

        await self._engine.write(job)

    async def unblock(self, user_id: str, blocked_id: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute("DELETE FROM blocks WHERE user_id = ? AND blocked_id = ?", (user_id, blocked_id))

        await self._engine.write(job)

    async def list_blocks(self, user_id: str, *, after_id: str, limit: int) -> list[UserView]:
        def job(tx: ReadTx) -> list[UserView]:
            rows = tx.execute(
                f"SELECT {USER} FROM blocks b JOIN users u ON u.id = b.blocked_id WHERE b.user_id = ?1"  # noqa: S608
                " AND b.blocked_id > ?2 ORDER BY b.blocked_id LIMIT ?3",
                (user_id, after_id, limit),
            )
            return [UserView(user_of(row), False) for row in rows]

        return await self._engine.read(job)


def _credentials(tx: sqlite3.Connection, where: str, value: str) -> Credentials | None:
    row = tx.execute(
        f"SELECT {USER}, u.password_hash FROM users u WHERE {where} AND u.deleted_at IS NULL",  # noqa: S608
        (value,),
    ).fetchone()
    return None if row is None else Credentials(user_of(row), row[USER_WIDTH])


def _use_invite(tx: Tx, code_hash: bytes, now_ms: int) -> bool:
    """Count one use; whether it makes an administrator. Raises: `invite_invalid`."""
    row = tx.execute(
        "UPDATE invites SET uses = uses + 1 WHERE code_hash = ? AND uses < max_uses"
        " AND (expires_at IS NULL OR expires_at > ?) RETURNING id, makes_admin",
        (code_hash, now_ms),
    ).fetchone()
    if row is None or (row[0] == FIRST_INVITE and has_admin(tx.connection)):
        raise HyperSendError("invite_invalid")
    return bool(row[1])
