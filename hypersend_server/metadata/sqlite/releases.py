"""Releases on SQLite."""

from __future__ import annotations

import sqlite3

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.releases import ReleaseRecord
from hypersend_server.metadata.sqlite.engine import Engine, ReadTx, Tx

_FIELDS = ReleaseRecord.__struct_fields__
RELEASE = ", ".join(_FIELDS)


class SqliteReleases:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add(self, release: ReleaseRecord) -> None:
        def job(tx: Tx) -> None:
            values = [getattr(release, name) for name in _FIELDS]
            marks = ", ".join("?" * (len(_FIELDS) + 1))
            try:
                tx.execute(f"INSERT INTO releases ({RELEASE}, changed) VALUES ({marks})", (*values, tx.stamp()))  # noqa: S608
            except sqlite3.IntegrityError:
                raise HyperSendError("release_exists") from None

        await self._engine.write(job)

    async def set_share(self, release_id: str, share: int) -> None:
        def job(tx: Tx) -> None:
            tx.execute("UPDATE releases SET share = ?, changed = ? WHERE id = ?", (share, tx.stamp(), release_id))

        await self._engine.write(job)

    async def withdraw(self, release_id: str, now: int) -> None:
        def job(tx: Tx) -> None:
            tx.execute(
                "UPDATE releases SET withdrawn_at = ?, changed = ? WHERE id = ? AND withdrawn_at IS NULL",
                (now, tx.stamp(), release_id))

        await self._engine.write(job)

    async def published(self) -> list[ReleaseRecord]:
        def job(connection: ReadTx) -> list[ReleaseRecord]:
            rows = connection.execute(f"SELECT {RELEASE} FROM releases WHERE withdrawn_at IS NULL")  # noqa: S608
            found = (dict(zip(_FIELDS, row, strict=True)) for row in rows)
            return [ReleaseRecord(**{**fields, "mandatory": bool(fields["mandatory"])}) for fields in found]

        return await self._engine.read(job)

    async def newest_change(self) -> int:
        def job(connection: ReadTx) -> int:
            return int(connection.execute("SELECT coalesce(max(changed), 0) FROM releases").fetchone()[0])

        return await self._engine.read(job)
