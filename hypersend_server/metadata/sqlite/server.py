"""`ServerRecords` on SQLite."""

from __future__ import annotations

from collections.abc import Callable

from hypersend_server.metadata.server import AuditEntry, Identity
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx


class SqliteServerRecords:
    def __init__(self, engine: Engine, new_id: Callable[[], str]) -> None:
        self._engine = engine
        self._new_id = new_id

    async def identity(self) -> Identity:
        return await self._engine.write(self._identity)

    def _identity(self, tx: Tx) -> Identity:
        for key in ("server_id", "epoch"):
            tx.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", (key, self._new_id()))
        rows = dict(tx.execute("SELECT key, value FROM meta WHERE key IN ('server_id', 'epoch')"))
        return Identity(rows["server_id"], rows["epoch"])

    async def renew_epoch(self) -> Identity:
        def job(tx: Tx) -> Identity:
            tx.execute("DELETE FROM meta WHERE key = 'epoch'")
            return self._identity(tx)

        return await self._engine.write(job)

    async def take_lease(self, name: str, holder: str, now_ms: int, ttl_ms: int) -> bool:
        def job(tx: Tx) -> bool:
            done = tx.execute(
                "INSERT INTO leases VALUES (?1, ?2, ?4) ON CONFLICT (name) DO UPDATE"
                " SET holder = ?2, expires_at = ?4 WHERE holder = ?2 OR expires_at <= ?3",
                (name, holder, now_ms, now_ms + ttl_ms),
            )
            return done.rowcount == 1

        return await self._engine.write(job)

    async def release_lease(self, name: str, holder: str) -> None:
        def job(tx: Tx) -> None:
            tx.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder))

        await self._engine.write(job)

    async def lease_expiry(self, name: str, now_ms: int) -> int | None:
        def job(tx: ReadTx) -> int | None:
            row = tx.execute(
                "SELECT expires_at FROM leases WHERE name = ? AND expires_at > ?", (name, now_ms)
            ).fetchone()
            return None if row is None else int(row[0])

        return await self._engine.read(job)

    async def leases(self, prefix: str) -> list[tuple[str, int]]:
        def job(tx: ReadTx) -> list[tuple[str, int]]:
            rows = tx.execute("SELECT name, expires_at FROM leases WHERE substr(name, 1, ?) = ? ORDER BY name",
                              (len(prefix), prefix))
            return [(str(name), int(expires_at)) for name, expires_at in rows]

        return await self._engine.read(job)

    async def forget_lease(self, name: str, ends_ms: int) -> None:
        def job(tx: Tx) -> None:
            tx.execute("DELETE FROM leases WHERE name = ? AND expires_at = ?", (name, ends_ms))

        await self._engine.write(job)

    async def get_mark(self, name: str) -> str:
        def job(tx: ReadTx) -> str:
            row = tx.execute("SELECT value FROM meta WHERE key = ?", (f"mark:{name}",)).fetchone()
            return "" if row is None else str(row[0])

        return await self._engine.read(job)

    async def set_mark(self, name: str, value: str) -> None:
        def job(tx: Tx) -> None:
            if value:
                tx.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (f"mark:{name}", value))
            else:
                tx.execute("DELETE FROM meta WHERE key = ?", (f"mark:{name}",))

        await self._engine.write(job)

    async def add_audit(self, entry: AuditEntry) -> None:
        def job(tx: Tx) -> None:
            tx.execute(
                "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?)",
                (entry.id, entry.at, entry.actor_id, entry.action, entry.target, entry.detail),
            )

        await self._engine.write(job)

    async def list_audit(self, before_id: str | None, limit: int) -> list[AuditEntry]:
        def job(tx: ReadTx) -> list[AuditEntry]:
            rows = tx.execute(
                "SELECT id, at, actor_id, action, target, detail FROM audit WHERE ?1 IS NULL OR id < ?1"
                " ORDER BY id DESC LIMIT ?2", (before_id, limit),
            )
            return [AuditEntry(id=r[0], at=r[1], actor_id=r[2], action=r[3], target=r[4], detail=r[5]) for r in rows]

        return await self._engine.read(job)

    async def ping(self) -> None:
        await self._engine.read(lambda tx: tx.execute("SELECT 1").fetchone())
