"""Sessions on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import (
    Changes,
    LiveSession,
    NewSession,
    Refreshed,
    SessionRecord,
    SessionUse,
)
from hypersend_server.metadata.sqlite.accounts_rows import (
    SESSION,
    SESSION_WIDTH,
    USER,
    end_sessions,
    require_user,
    session_of,
    user_of,
)
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx


class Sessions:
    _engine: Engine

    async def create_session(self, session: NewSession, *, now_ms: int) -> LiveSession:
        def job(tx: Tx) -> LiveSession:
            if require_user(tx.connection, session.user_id).disabled:
                raise HyperSendError("account_disabled")
            insert_session(tx, session, now_ms)
            live = _live(tx.connection, session.id)
            assert live is not None
            return live

        return await self._engine.write(job)

    async def get_session(self, session_id: str) -> SessionRecord | None:
        return await self._engine.read(lambda tx: _session(tx, session_id))

    async def live_session(self, session_id: str) -> LiveSession | None:
        return await self._engine.read(lambda tx: _live(tx, session_id))

    async def list_sessions(self, user_id: str, *, before_id: str | None, limit: int) -> list[SessionRecord]:
        def job(tx: ReadTx) -> list[SessionRecord]:
            rows = tx.execute(
                f"SELECT {SESSION} FROM sessions s WHERE s.user_id = ?1 AND s.ended_at IS NULL"  # noqa: S608
                " AND (?2 IS NULL OR s.id < ?2) ORDER BY s.id DESC LIMIT ?3",
                (user_id, before_id, limit),
            )
            return [session_of(row) for row in rows]

        return await self._engine.read(job)

    async def refresh(self, session_id: str, generation: int, *, now_ms: int, grace_ms: int, ip: str) -> Refreshed:
        def job(tx: Tx) -> Refreshed:
            live = _live(tx.connection, session_id)
            if live is None or live.session.kind == "web":
                return Refreshed("ended")
            session, user = live
            newest = session.generation
            if generation == newest:
                tx.execute(
                    "UPDATE sessions SET generation = generation + 1, rotated_at = ?1, used_at = NULL,"
                    " last_seen_at = ?1, ip = ?2 WHERE id = ?3",
                    (now_ms, ip, session_id),
                )
                return Refreshed("rotated", _session(tx.connection, session_id), user)
            fresh = session.used_at is None or now_ms < session.used_at + grace_ms
            if generation == newest - 1 and fresh:
                return Refreshed("repeated", session, user)
            end_sessions(tx, user.id, now_ms, only_id=session_id)
            return Refreshed("reused", session, user)

        return await self._engine.write(job)

    async def keep_web_session(self, session_id: str, user_id: str, secret_hash: bytes) -> bool:
        def job(tx: Tx) -> bool:
            live = _live(tx.connection, session_id)
            if live is None or live.user.id != user_id or live.session.kind == "web":
                return False
            tx.execute("UPDATE sessions SET web_secret = ? WHERE id = ?", (secret_hash, session_id))
            return True

        return await self._engine.write(job)

    async def note_uses(self, uses: Sequence[SessionUse]) -> None:
        def job(tx: Tx) -> None:
            for use in uses:
                tx.execute(
                    "UPDATE sessions SET used_at = ? WHERE id = ? AND generation = ? AND used_at IS NULL",
                    (use.at, use.session_id, use.generation),
                )
                # The check on ended_at: a deleted person's rows keep nothing that is learnt later.
                tx.execute(
                    "UPDATE sessions SET last_seen_at = ?1, ip = CASE ?2 WHEN '' THEN ip ELSE ?2 END"
                    " WHERE id = ?3 AND last_seen_at <= ?1 AND ended_at IS NULL",
                    (use.at, use.ip, use.session_id),
                )
                tx.execute(
                    "UPDATE users SET last_seen_at = max(coalesce(last_seen_at, 0), ?)"
                    " WHERE id = (SELECT user_id FROM sessions WHERE id = ? AND ended_at IS NULL)",
                    (use.at, use.session_id),
                )

        await self._engine.write(job)

    async def end_sessions(
        self,
        user_id: str,
        *,
        now_ms: int,
        only_id: str | None = None,
        except_id: str | None = None,
    ) -> list[str]:
        return await self._engine.write(
            lambda tx: end_sessions(tx, user_id, now_ms, only_id=only_id, except_id=except_id)
        )

    async def set_device_key(self, session_id: str, public_key: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute("UPDATE sessions SET device_key = ? WHERE id = ?", (public_key, session_id))

        await self._engine.write(job)

    async def changed_since(self, stamp: int | None) -> Changes:
        def job(tx: ReadTx) -> Changes:
            now = tx.execute("SELECT value FROM meta WHERE key = 'change'").fetchone()[0]
            if stamp is None or stamp == now:
                return Changes(now, [], [])
            ended = tx.execute(
                "SELECT id, user_id FROM sessions WHERE changed > ? AND ended_at IS NOT NULL", (stamp,)
            ).fetchall()
            users = [row[0] for row in tx.execute("SELECT id FROM users WHERE changed > ?", (stamp,))]
            return Changes(now, ended, users)

        return await self._engine.read(job)


def insert_session(tx: Tx, session: NewSession, now_ms: int) -> None:
    tx.execute(
        "INSERT INTO sessions (id, user_id, device, ip, salt, generation, rotated_at, created_at, last_seen_at,"
        " changed) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?6, ?6, ?7)",
        (session.id, session.user_id, session.device, session.ip, session.salt, now_ms, tx.stamp()),
    )


def _session(connection: sqlite3.Connection, session_id: str) -> SessionRecord | None:
    row = connection.execute(f"SELECT {SESSION} FROM sessions s WHERE s.id = ?", (session_id,)).fetchone()  # noqa: S608
    return None if row is None else session_of(row)


def _live(connection: sqlite3.Connection, session_id: str) -> LiveSession | None:
    row = connection.execute(
        f"SELECT {SESSION}, {USER} FROM sessions s JOIN users u ON u.id = s.user_id"  # noqa: S608
        " WHERE s.id = ? AND s.ended_at IS NULL AND u.deleted_at IS NULL AND u.disabled = 0",
        (session_id,),
    ).fetchone()
    return None if row is None else LiveSession(session_of(row), user_of(row[SESSION_WIDTH:]))
