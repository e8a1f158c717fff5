"""Transfers on SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx
from hypersend_server.metadata.transfers import MOVING, Status, TransferRecord

_FIELDS = TransferRecord.__struct_fields__
TRANSFER = ", ".join(_FIELDS)
OPEN = "status IN ('offered', 'accepted', 'active', 'paused')"
FROM_SEQ = (
    "(:first_seq <= 1 OR EXISTS"
    " (SELECT 1 FROM messages m WHERE m.id = transfers.message_id AND m.seq >= :first_seq))")
STRANDED = (
    "(NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = transfers.sender_session AND s.ended_at IS NULL)"
    " OR (receiver_session IS NOT NULL AND NOT EXISTS"
    " (SELECT 1 FROM sessions s WHERE s.id = transfers.receiver_session AND s.ended_at IS NULL))"
    " OR EXISTS (SELECT 1 FROM blocks b WHERE (b.user_id = sender_id AND b.blocked_id = receiver_id)"
    " OR (b.user_id = receiver_id AND b.blocked_id = sender_id))"
    " OR EXISTS (SELECT 1 FROM messages m WHERE m.id = transfers.message_id AND m.deleted_at IS NOT NULL)"
    " OR NOT EXISTS (SELECT 1 FROM members p"
    " WHERE p.chat_id = transfers.chat_id AND p.user_id = sender_id AND p.left_at IS NULL)"
    # A receiver's closed side of a direct chat is opened again by the message that is still to come.
    " OR (receiver_id IS NOT NULL AND EXISTS (SELECT 1 FROM messages m WHERE m.id = transfers.message_id)"
    " AND NOT EXISTS (SELECT 1 FROM members p"
    " WHERE p.chat_id = transfers.chat_id AND p.user_id = receiver_id AND p.left_at IS NULL)))")


class SqliteTransfers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def offer(self, transfer: TransferRecord, most_open: int) -> tuple[TransferRecord, bool]:
        def job(tx: Tx) -> tuple[TransferRecord, bool]:
            first = tx.execute(
                f"SELECT {TRANSFER} FROM transfers WHERE chat_id = ? AND sender_id = ? AND client_id = ?",  # noqa: S608
                (transfer.chat_id, transfer.sender_id, transfer.client_id),
            ).fetchone()
            if first is not None:
                return transfer_of(first), False
            if _are_blocked(tx.connection, transfer.sender_id, transfer.receiver_id):
                raise HyperSendError("blocked")
            count = tx.execute(
                f"SELECT count(*) FROM (SELECT 1 FROM transfers WHERE sender_id = ? AND {OPEN} LIMIT ?)",  # noqa: S608
                (transfer.sender_id, most_open),
            ).fetchone()[0]
            if count >= most_open:
                raise HyperSendError("transfer_limit")
            tx.execute(
                f"INSERT INTO transfers ({TRANSFER}) VALUES ({', '.join('?' * len(_FIELDS))})",  # noqa: S608
                [getattr(transfer, name) for name in _FIELDS],
            )
            return transfer, True

        return await self._engine.write(job)

    async def get(self, transfer_id: str, first_seq: int = 0) -> TransferRecord | None:
        return await self._engine.read(lambda connection: _get(connection, transfer_id, first_seq))

    async def change(
        self, transfer_id: str, expected: Collection[Status], now: int, **fields: Any
    ) -> TransferRecord:
        def job(tx: Tx) -> TransferRecord:
            transfer = _require(tx.connection, transfer_id)
            if transfer.status not in expected:
                raise closed(transfer)
            return _set(tx, transfer, updated_at=now, **fields)

        return await self._engine.write(job)

    async def accept(
        self, transfer_id: str, user_id: str, session_id: str, key: str | None, now: int, expires_at: int
    ) -> TransferRecord:
        def job(tx: Tx) -> TransferRecord:
            transfer = _require(tx.connection, transfer_id)
            if _are_blocked(tx.connection, transfer.sender_id, user_id):
                raise HyperSendError("blocked")
            if transfer.receiver_session is not None:
                if transfer.receiver_session != session_id:
                    raise HyperSendError("transfer_taken")
                return transfer
            if transfer.status != "offered":
                raise closed(transfer)
            return _set(
                tx, transfer, status="accepted", receiver_id=user_id, receiver_session=session_id, receiver_key=key,
                updated_at=now, expires_at=expires_at)

        return await self._engine.write(job)

    async def progress(self, transfer_id: str, transferred_bytes: int, expires_at: int, now: int) -> None:
        def job(tx: Tx) -> None:
            tx.execute(
                "UPDATE transfers SET transferred_bytes = max(transferred_bytes, ?),"  # noqa: S608
                f" expires_at = max(expires_at, ?), updated_at = ? WHERE id = ? AND {OPEN}",
                (transferred_bytes, expires_at, now, transfer_id),
            )

        await self._engine.write(job, durable=False)

    async def mark_shown(self, transfer_id: str, status: Status) -> None:
        def job(tx: Tx) -> None:
            tx.execute("UPDATE transfers SET shown = 1 WHERE id = ? AND status = ?", (transfer_id, status))

        await self._engine.write(job)

    async def unshown(self, now: int, quiet_ms: int, limit: int) -> list[TransferRecord]:
        return await self._list(
            "WHERE shown = 0 AND updated_at NOT BETWEEN ? AND ? ORDER BY status, updated_at LIMIT ?",
            now - quiet_ms, now + quiet_ms, limit)

    async def history(
        self, chat_id: str, before_id: str | None, limit: int, first_seq: int = 0
    ) -> list[TransferRecord]:
        def job(connection: ReadTx) -> list[TransferRecord]:
            return _records(connection.execute(
                f"SELECT {TRANSFER} FROM transfers WHERE chat_id = :chat_id"  # noqa: S608
                f" AND (:before_id IS NULL OR id < :before_id) AND {FROM_SEQ} ORDER BY id DESC LIMIT :limit",
                {"chat_id": chat_id, "before_id": before_id, "first_seq": first_seq, "limit": limit}))

        return await self._engine.read(job)

    async def open_of(self, user_id: str, limit: int) -> list[TransferRecord]:
        return await self._list(
            f"WHERE id IN (SELECT id FROM transfers WHERE sender_id = ?1 AND {OPEN} UNION"  # noqa: S608
            f" SELECT id FROM transfers WHERE receiver_id = ?1 AND {OPEN}) ORDER BY id LIMIT ?2", user_id, limit)

    async def open_between(self, chat_id: str, user_ids: Collection[str], limit: int) -> list[TransferRecord]:
        people = json.dumps(list(user_ids))
        return await self._list(
            f"WHERE chat_id = ?1 AND {OPEN} AND (sender_id IN (SELECT value FROM json_each(?2))"  # noqa: S608
            " OR receiver_id IN (SELECT value FROM json_each(?2))) ORDER BY id LIMIT ?3", chat_id, people, limit)

    async def open_of_pair(self, user_id: str, other_id: str, limit: int) -> list[TransferRecord]:
        return await self._list(
            f"WHERE {OPEN} AND ((sender_id = ?1 AND receiver_id = ?2) OR (sender_id = ?2 AND receiver_id = ?1))"
            " ORDER BY id LIMIT ?3", user_id, other_id, limit)

    async def open_of_sessions(
        self, user_id: str, session_ids: Collection[str], limit: int
    ) -> list[TransferRecord]:
        return await self._list(
            "WHERE id IN (SELECT id FROM transfers WHERE sender_id = ?1"  # noqa: S608
            f" AND sender_session IN (SELECT value FROM json_each(?2)) AND {OPEN} UNION"
            " SELECT id FROM transfers WHERE receiver_id = ?1"
            f" AND receiver_session IN (SELECT value FROM json_each(?2)) AND {OPEN}) ORDER BY id LIMIT ?3",
            user_id, json.dumps(list(session_ids)), limit)

    async def of_message(self, chat_id: str, message_id: str) -> TransferRecord | None:
        found = await self._list("WHERE chat_id = ? AND message_id = ?", chat_id, message_id)
        return found[0] if found else None

    async def stranded(self, limit: int) -> list[TransferRecord]:
        return await self._list(f"WHERE {OPEN} AND {STRANDED} ORDER BY id LIMIT ?", limit)

    async def is_blocked(self, transfer: TransferRecord) -> bool:
        return await self._engine.read(
            lambda connection: _are_blocked(connection, transfer.sender_id, transfer.receiver_id))

    async def expire(self, now: int, limit: int) -> list[TransferRecord]:
        def job(tx: Tx) -> list[TransferRecord]:
            rows = tx.execute(
                f"SELECT {TRANSFER} FROM transfers WHERE {OPEN} AND expires_at <= ? ORDER BY expires_at LIMIT ?",  # noqa: S608
                (now, limit),
            )
            return [
                _set(tx, transfer, status="expired", updated_at=now) for transfer in _records(rows.fetchall())]

        return await self._engine.write(job)

    async def claim(
        self, transfer_id: str, relay: str, now: int, until: int, instead_of: str | None = None
    ) -> str:
        def job(tx: Tx) -> str:
            transfer = _require(tx.connection, transfer_id)
            if transfer.status not in MOVING:
                raise closed(transfer)
            if transfer.relay not in (None, relay, instead_of) and transfer.relay_until > now:
                return str(transfer.relay)
            tx.execute(
                "UPDATE transfers SET relay = ?, relay_until = ? WHERE id = ?", (relay, until, transfer_id))
            return relay

        return await self._engine.write(job, durable=False)

    async def release(self, transfer_id: str, relay: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute(
                "UPDATE transfers SET relay = NULL, relay_until = 0 WHERE id = ? AND relay = ?", (transfer_id, relay))

        await self._engine.write(job, durable=False)

    async def abandoned(self, now: int, longest_ms: int, limit: int) -> list[TransferRecord]:
        return await self._list(
            "WHERE status = 'active' AND relay_until NOT BETWEEN ? AND ? LIMIT ?", now + 1, now + longest_ms, limit)

    async def _list(self, where: str, *values: Any) -> list[TransferRecord]:
        def job(connection: ReadTx) -> list[TransferRecord]:
            return _records(connection.execute(f"SELECT {TRANSFER} FROM transfers {where}", values))  # noqa: S608

        return await self._engine.read(job)


def transfer_of(row: Sequence[Any]) -> TransferRecord:
    fields = dict(zip(_FIELDS, row, strict=True))
    return TransferRecord(**{**fields, "shown": bool(fields["shown"])})


def closed(transfer: TransferRecord) -> HyperSendError:
    return HyperSendError(
        "transfer_closed", f"The transfer is {transfer.status}.", extra={"transfer_status": transfer.status})


def _records(rows: Iterable[Sequence[Any]]) -> list[TransferRecord]:
    return [transfer_of(row) for row in rows]


def _get(connection: sqlite3.Connection, transfer_id: str, first_seq: int = 0) -> TransferRecord | None:
    row = connection.execute(
        f"SELECT {TRANSFER} FROM transfers WHERE id = :id AND {FROM_SEQ}",  # noqa: S608
        {"id": transfer_id, "first_seq": first_seq}).fetchone()
    return None if row is None else transfer_of(row)


def _are_blocked(connection: sqlite3.Connection, user_id: str, other_id: str | None) -> bool:
    """Whether one of these two blocks the other."""
    return connection.execute(
        "SELECT 1 FROM blocks WHERE (user_id = ?1 AND blocked_id = ?2) OR (user_id = ?2 AND blocked_id = ?1)",
        (user_id, other_id)).fetchone() is not None


def _require(connection: sqlite3.Connection, transfer_id: str) -> TransferRecord:
    transfer = _get(connection, transfer_id)
    if transfer is None:
        raise HyperSendError("not_found", "There is no such transfer, or you may not see it.")
    return transfer


def _set(tx: Tx, transfer: TransferRecord, **fields: Any) -> TransferRecord:
    if fields.get("status", transfer.status) != transfer.status:
        fields["shown"] = False
    columns = ", ".join(f"{name} = ?" for name in fields)
    tx.execute(f"UPDATE transfers SET {columns} WHERE id = ?", (*fields.values(), transfer.id))  # noqa: S608
    changed = _get(tx.connection, transfer.id)
    assert changed is not None
    return changed
