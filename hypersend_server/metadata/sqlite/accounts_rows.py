"""Rows of accounts as records, and the steps that several of their jobs share."""

from __future__ import annotations

import sqlite3
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import InviteRecord, SessionRecord, UserRecord
from hypersend_server.metadata.server import AuditEntry
from hypersend_server.metadata.sqlite.engine import Tx

USER = (
    "u.id, u.email, u.username, u.display_name, u.about, u.is_admin, u.disabled, u.quota_bytes, u.avatar_id,"
    " u.created_at, u.last_seen_at, u.deleted_at, u.changed"
)
USER_WIDTH = 13
SESSION = (
    "s.id, s.user_id, s.device, s.ip, s.salt, s.generation, s.rotated_at, s.used_at, s.device_key, s.created_at,"
    " s.last_seen_at, s.ended_at, s.web_secret"
)
SESSION_WIDTH = 13
INVITE = "id, makes_admin, max_uses, uses, created_by, created_at, expires_at"

ACTIVE = "deleted_at IS NULL AND disabled = 0"

Row = tuple[Any, ...]


def user_of(row: Row) -> UserRecord:
    return UserRecord(
        id=row[0],
        email=row[1],
        username=row[2],
        display_name=row[3],
        about=row[4],
        is_admin=bool(row[5]),
        disabled=bool(row[6]),
        quota_bytes=row[7],
        avatar_id=row[8],
        created_at=row[9],
        last_seen_at=row[10],
        deleted_at=row[11],
        changed=row[12],
    )


def session_of(row: Row) -> SessionRecord:
    return SessionRecord(
        id=row[0],
        user_id=row[1],
        device=row[2],
        ip=row[3],
        salt=row[4],
        generation=row[5],
        rotated_at=row[6],
        used_at=row[7],
        device_key=row[8],
        created_at=row[9],
        last_seen_at=row[10],
        ended_at=row[11],
        web_secret=row[12],
    )


def invite_of(row: Row) -> InviteRecord:
    return InviteRecord(
        id=row[0],
        makes_admin=bool(row[1]),
        max_uses=row[2],
        uses=row[3],
        created_by=row[4],
        created_at=row[5],
        expires_at=row[6],
    )


def read_user(connection: sqlite3.Connection, user_id: str) -> UserRecord | None:
    row = connection.execute(f"SELECT {USER} FROM users u WHERE id = ?", (user_id,)).fetchone()  # noqa: S608
    return None if row is None else user_of(row)


def require_user(connection: sqlite3.Connection, user_id: str) -> UserRecord:
    """Raises: `not_found`, also for a deleted person."""
    user = read_user(connection, user_id)
    if user is None or user.deleted_at is not None:
        raise HyperSendError("not_found", "There is no such person.")
    return user


def has_admin(connection: sqlite3.Connection, *, besides: str = "") -> bool:
    found = connection.execute(
        f"SELECT 1 FROM users WHERE is_admin = 1 AND {ACTIVE} AND id != ? LIMIT 1",  # noqa: S608
        (besides,),
    ).fetchone()
    return found is not None


def keep_an_admin(connection: sqlite3.Connection, user: UserRecord) -> None:
    """Raises: `last_admin` where this person is the only administrator who can sign in."""
    if user.is_admin and not user.disabled and not has_admin(connection, besides=user.id):
        raise HyperSendError("last_admin")


def end_sessions(
    tx: Tx,
    user_id: str,
    now_ms: int,
    *,
    only_id: str | None = None,
    except_id: str | None = None,
) -> list[str]:
    ended = [
        row[0]
        for row in tx.execute(
            "SELECT id FROM sessions WHERE user_id = ?1 AND ended_at IS NULL AND (?2 IS NULL OR id = ?2)"
            " AND (?3 IS NULL OR id != ?3) ORDER BY id",
            (user_id, only_id, except_id),
        )
    ]
    if ended:
        stamp = tx.stamp()
        tx.executemany(
            "UPDATE sessions SET ended_at = ?, changed = ? WHERE id = ?",
            [(now_ms, stamp, session_id) for session_id in ended],
        )
    return ended


def write_audit(tx: Tx, entry: AuditEntry | None) -> None:
    if entry is not None:
        tx.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)",
            (entry.id, entry.at, entry.actor_id, entry.action, entry.target, entry.detail),
        )
