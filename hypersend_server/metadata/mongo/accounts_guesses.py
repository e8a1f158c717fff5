"""Failed guesses on MongoDB."""

from __future__ import annotations

from collections.abc import Sequence

from hypersend_server.metadata.accounts import GuessLimit
from hypersend_server.metadata.mongo.engine import Engine, Tx


class GuessCounts:
    """A key that is known rather than failed has a document with 0 failures."""

    _engine: Engine

    async def guess_wait(self, limits: Sequence[GuessLimit], *, now_ms: int) -> int:
        async def job(tx: Tx) -> int:
            docs = await tx.many("guesses", {"_id": {"$in": [limit.key for limit in limits]}})
            until = {doc["_id"]: doc["blocked_until"] for doc in docs}
            # min: a clock that was set back must not turn a short wait into a long one
            return max((min(until.get(limit.key, 0) - now_ms, limit.cap_s * 1000) for limit in limits), default=0)

        return max(0, await self._engine.read(job))

    async def is_known(self, key: str) -> bool:
        async def job(tx: Tx) -> bool:
            return await tx.one("guesses", {"_id": key}, {"_id": 1}) is not None

        return await self._engine.read(job)

    async def guess_failed(self, limits: Sequence[GuessLimit], *, now_ms: int, forget_after_ms: int) -> None:
        for limit in limits:

            async def job(tx: Tx, limit: GuessLimit = limit) -> None:
                # By number of failures, up to where waiting does not grow any more.
                waits = [limit.wait_ms(failures) for failures in range(limit.free + limit.cap_s.bit_length())]
                until = [now_ms + wait if wait else 0 for wait in waits]
                await tx.update("guesses", {"_id": limit.key}, [
                    {"$set": {
                        "failures": {"$cond": [
                            {"$lt": [{"$ifNull": ["$updated_at", 0]}, now_ms - forget_after_ms]},
                            1, {"$add": [{"$ifNull": ["$failures", 0]}, 1]}]},
                        "updated_at": now_ms,
                    }},
                    {"$set": {"blocked_until": {"$max": [
                        {"$ifNull": ["$blocked_until", 0]},
                        {"$arrayElemAt": [until, {"$min": ["$failures", len(until) - 1]}]}]}}},
                ], upsert=True)

            await self._engine.single(job)

    async def guess_succeeded(self, clear: Sequence[str], *, now_ms: int, remember: str | None = None) -> None:
        async def job(tx: Tx) -> None:
            if clear:
                await tx.delete("guesses", {"_id": {"$in": list(clear)}})
            if remember is not None:
                await tx.update(
                    "guesses", {"_id": remember},
                    {"$set": {"updated_at": now_ms}, "$setOnInsert": {"failures": 0, "blocked_until": 0}}, upsert=True)

        await self._engine.single(job)

    async def tidy(self, *, guesses_before: int, known_before: int, sessions_before: int, now_ms: int) -> None:
        async def job(tx: Tx) -> None:
            await tx.delete("guesses", {"failures": {"$gt": 0}, "updated_at": {"$lt": guesses_before}})
            await tx.delete("guesses", {"failures": 0, "updated_at": {"$lt": known_before}})
            await tx.delete("sessions", {"ended_at": {"$lt": sessions_before}})
            await tx.delete("resets", {"expires_at": {"$lt": now_ms}})

        await self._engine.single(job)
