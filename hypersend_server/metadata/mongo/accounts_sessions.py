"""Sessions on MongoDB."""

from __future__ import annotations

from collections.abc import Sequence

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Changes, LiveSession, NewSession, Refreshed, SessionRecord, SessionUse
from hypersend_server.metadata.mongo.accounts_rows import (
    end_sessions,
    insert_session,
    read_live,
    read_session,
    require_user,
)
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import record_of, stamp_accounts


class Sessions:
    _engine: Engine

    async def create_session(self, session: NewSession, *, now_ms: int) -> LiveSession:
        async def job(tx: Tx) -> LiveSession:
            if (await require_user(tx, session.user_id)).disabled:
                raise HyperSendError("account_disabled")
            change, _ = await stamp_accounts(tx)
            await insert_session(tx, session, now_ms, change)
            live = await read_live(tx, session.id)
            assert live is not None
            return live

        return await self._engine.write("accounts", job)

    async def get_session(self, session_id: str) -> SessionRecord | None:
        return await self._engine.read(lambda tx: read_session(tx, session_id))

    async def live_session(self, session_id: str) -> LiveSession | None:
        return await self._engine.read(lambda tx: read_live(tx, session_id))

    async def list_sessions(self, user_id: str, *, before_id: str | None, limit: int) -> list[SessionRecord]:
        async def job(tx: Tx) -> list[SessionRecord]:
            where: Doc = {"user_id": user_id, "ended_at": None}
            if before_id is not None:
                where["_id"] = {"$lt": before_id}
            docs = await tx.many("sessions", where, sort=[("_id", -1)], limit=limit)
            return [record_of(SessionRecord, doc) for doc in docs]

        return await self._engine.read(job)

    async def refresh(self, session_id: str, generation: int, *, now_ms: int, grace_ms: int, ip: str) -> Refreshed:
        async def job(tx: Tx) -> Refreshed:
            live = await read_live(tx, session_id)
            if live is None or live.session.kind == "web":
                return Refreshed("ended")
            session, user = live
            newest = session.generation
            if generation == newest:
                doc = await tx.changed(
                    "sessions", {"_id": session_id},
                    {"$inc": {"generation": 1},
                     "$set": {"rotated_at": now_ms, "used_at": None, "last_seen_at": now_ms, "ip": ip}})
                assert doc is not None
                return Refreshed("rotated", record_of(SessionRecord, doc), user)
            fresh = session.used_at is None or now_ms < session.used_at + grace_ms
            if generation == newest - 1 and fresh:
                return Refreshed("repeated", session, user)
            change, _ = await stamp_accounts(tx)
            await end_sessions(tx, user.id, now_ms, change, only_id=session_id)
            return Refreshed("reused", session, user)

        return await self._engine.write(f"session:{session_id}", job)

    async def keep_web_session(self, session_id: str, user_id: str, secret_hash: bytes) -> bool:
        async def job(tx: Tx) -> bool:
            live = await read_live(tx, session_id)
            if live is None or live.user.id != user_id:
                return False
            # Conditions too: with the read alone, one that ends at this moment would be kept.
            return await tx.update(
                "sessions", {"_id": session_id, "ended_at": None, "web_secret": None},
                {"$set": {"web_secret": secret_hash}}) == 1

        return await self._engine.write(f"session:{session_id}", job)

    async def note_uses(self, uses: Sequence[SessionUse]) -> None:
        for use in uses:

            async def job(tx: Tx, use: SessionUse = use) -> None:
                await tx.update(
                    "sessions", {"_id": use.session_id, "generation": use.generation, "used_at": None},
                    {"$set": {"used_at": use.at}})
                # The check on ended_at: a deleted person's rows keep nothing that is learnt later.
                await tx.update(
                    "sessions", {"_id": use.session_id, "ended_at": None, "last_seen_at": {"$lte": use.at}},
                    {"$set": {"last_seen_at": use.at, **({"ip": use.ip} if use.ip else {})}})
                session = await tx.one("sessions", {"_id": use.session_id, "ended_at": None}, {"user_id": 1})
                if session is not None:
                    await tx.update("users", {"_id": session["user_id"]}, {"$max": {"last_seen_at": use.at}})

            await self._engine.single(job)

    async def end_sessions(
        self,
        user_id: str,
        *,
        now_ms: int,
        only_id: str | None = None,
        except_id: str | None = None,
    ) -> list[str]:
        async def job(tx: Tx) -> list[str]:
            change, _ = await stamp_accounts(tx)
            return await end_sessions(tx, user_id, now_ms, change, only_id=only_id, except_id=except_id)

        return await self._engine.write("accounts", job)

    async def set_device_key(self, session_id: str, public_key: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update("sessions", {"_id": session_id}, {"$set": {"device_key": public_key}})

        await self._engine.single(job)

    async def changed_since(self, stamp: int | None) -> Changes:
        async def job(tx: Tx) -> Changes:
            newest = await tx.one("meta", {"_id": "accounts"})
            now = 0 if newest is None else int(newest["value"])
            if stamp is None or stamp == now:
                return Changes(now, [], [])
            window = {"$gt": stamp, "$lte": now}
            sessions = await tx.many(
                "sessions", {"change": window, "ended_at": {"$gt": 0}}, {"user_id": 1}, sort=[("change", 1)])
            users = await tx.many("users", {"change": window}, {"_id": 1}, sort=[("change", 1)])
            return Changes(now, [(doc["_id"], doc["user_id"]) for doc in sessions], [doc["_id"] for doc in users])

        return await self._engine.read(job)
