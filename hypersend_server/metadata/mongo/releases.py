"""Releases on MongoDB."""

from __future__ import annotations

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import doc_of, record_of
from hypersend_server.metadata.releases import ReleaseRecord


def slot_of(doc: Doc) -> str:
    """What no two published releases share; withdrawn ones have none."""
    return f"{doc['platform']}:{doc['abi']}:{doc['version']}"


class MongoReleases:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def add(self, release: ReleaseRecord) -> None:
        async def job(tx: Tx) -> None:
            doc = doc_of(release)
            if await tx.one("releases", {"slot": slot_of(doc)}, {"_id": 1}) is not None:
                raise HyperSendError("release_exists")
            await _count(tx)
            await tx.insert("releases", {**doc, "slot": slot_of(doc)})

        await self._engine.write("releases", job)

    async def set_share(self, release_id: str, share: int) -> None:
        async def job(tx: Tx) -> None:
            await _count(tx)
            await tx.update("releases", {"_id": release_id}, {"$set": {"share": share}})

        await self._engine.write("releases", job)

    async def withdraw(self, release_id: str, now: int) -> None:
        async def job(tx: Tx) -> None:
            await _count(tx)
            await tx.update(
                "releases", {"_id": release_id, "withdrawn_at": None},
                {"$set": {"withdrawn_at": now}, "$unset": {"slot": ""}})

        await self._engine.write("releases", job)

    async def published(self) -> list[ReleaseRecord]:
        async def job(tx: Tx) -> list[ReleaseRecord]:
            return [record_of(ReleaseRecord, doc) for doc in await tx.many("releases", {"slot": {"$gt": ""}})]

        return await self._engine.read(job)

    async def newest_change(self) -> int:
        async def job(tx: Tx) -> int:
            doc = await tx.one("meta", {"_id": "releases"})
            return 0 if doc is None else int(doc["value"])

        return await self._engine.read(job)


async def _count(tx: Tx) -> None:
    """One more change, by which other processes notice."""
    await tx.update("meta", {"_id": "releases"}, {"$inc": {"value": 1}}, upsert=True)
