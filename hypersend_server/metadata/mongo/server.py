"""`ServerRecords` on MongoDB."""

from __future__ import annotations

from collections.abc import Callable

from hypersend_server.metadata.mongo.engine import Engine, Tx
from hypersend_server.metadata.mongo.records import doc_of, record_of
from hypersend_server.metadata.server import AuditEntry, Identity


class MongoServerRecords:
    def __init__(self, engine: Engine, new_id: Callable[[], str]) -> None:
        self._engine = engine
        self._new_id = new_id

    async def identity(self) -> Identity:
        values = []
        for key in ("server_id", "epoch"):
            made = self._new_id()

            async def job(tx: Tx, key: str = key, made: str = made) -> str:
                doc = await tx.changed("meta", {"_id": key}, {"$setOnInsert": {"value": made}}, upsert=True)
                assert doc is not None
                return str(doc["value"])

            values.append(await self._engine.single(job))
        return Identity(*values)

    async def renew_epoch(self) -> Identity:
        made = self._new_id()

        async def job(tx: Tx) -> int:
            return await tx.update("meta", {"_id": "epoch"}, {"$set": {"value": made}}, upsert=True)

        await self._engine.single(job)
        return await self.identity()

    async def take_lease(self, name: str, holder: str, now_ms: int, ttl_ms: int) -> bool:
        async def job(tx: Tx) -> bool:
            there = await tx.one("leases", {"_id": name})
            if there is None:
                await tx.insert("leases", {"_id": name, "holder": holder, "expires_at": now_ms + ttl_ms})
                return True
            return await tx.update(
                "leases", {"_id": name, "$or": [{"holder": holder}, {"expires_at": {"$lte": now_ms}}]},
                {"$set": {"holder": holder, "expires_at": now_ms + ttl_ms}}) == 1

        return await self._engine.single(job)

    async def release_lease(self, name: str, holder: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.delete("leases", {"_id": name, "holder": holder})

        await self._engine.single(job)

    async def lease_expiry(self, name: str, now_ms: int) -> int | None:
        async def job(tx: Tx) -> int | None:
            doc = await tx.one("leases", {"_id": name, "expires_at": {"$gt": now_ms}})
            return None if doc is None else int(doc["expires_at"])

        return await self._engine.read(job)

    async def leases(self, prefix: str) -> list[tuple[str, int]]:
        async def job(tx: Tx) -> list[tuple[str, int]]:
            # As a range, so that a prefix is text and no pattern.
            docs = await tx.many("leases", {"_id": {"$gte": prefix, "$lt": prefix + "\U0010ffff"}}, sort=[("_id", 1)])
            return [(str(doc["_id"]), int(doc["expires_at"])) for doc in docs]

        return await self._engine.read(job)

    async def forget_lease(self, name: str, ends_ms: int) -> None:
        async def job(tx: Tx) -> int:
            return await tx.delete("leases", {"_id": name, "expires_at": ends_ms})

        await self._engine.single(job)

    async def get_mark(self, name: str) -> str:
        async def job(tx: Tx) -> str:
            doc = await tx.one("meta", {"_id": f"mark:{name}"})
            return "" if doc is None else str(doc["value"])

        return await self._engine.read(job)

    async def set_mark(self, name: str, value: str) -> None:
        async def job(tx: Tx) -> int:
            if not value:
                return await tx.delete("meta", {"_id": f"mark:{name}"})
            return await tx.update("meta", {"_id": f"mark:{name}"}, {"$set": {"value": value}}, upsert=True)

        await self._engine.single(job)

    async def add_audit(self, entry: AuditEntry) -> None:
        async def job(tx: Tx) -> None:
            await tx.insert("audit", doc_of(entry))

        await self._engine.write("audit", job)

    async def list_audit(self, before_id: str | None, limit: int) -> list[AuditEntry]:
        async def job(tx: Tx) -> list[AuditEntry]:
            where = {} if before_id is None else {"_id": {"$lt": before_id}}
            docs = await tx.many("audit", where, sort=[("_id", -1)], limit=limit)
            return [record_of(AuditEntry, doc) for doc in docs]

        return await self._engine.read(job)

    async def ping(self) -> None:
        async def job(tx: Tx) -> None:
            await tx.db.command("ping")

        await self._engine.read(job)
