"""Transfers on MongoDB."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import doc_of, record_of
from hypersend_server.metadata.transfers import MOVING, OPEN, Status, TransferRecord

IS_OPEN = {"$in": list(OPEN)}


class MongoTransfers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def offer(self, transfer: TransferRecord, most_open: int) -> tuple[TransferRecord, bool]:
        async def job(tx: Tx) -> tuple[TransferRecord, bool]:
            first = await tx.one("transfers", {
                "chat_id": transfer.chat_id, "sender_id": transfer.sender_id, "client_id": transfer.client_id})
            if first is not None:
                return _transfer_of(first), False
            if await tx.one("blocks", {"_id": f"{transfer.receiver_id}:{transfer.sender_id}"}, {"_id": 1}):
                raise HyperSendError("blocked")
            of_sender = {"sender_id": transfer.sender_id, "status": IS_OPEN}
            if await tx.count("transfers", of_sender, most_open) >= most_open:
                raise HyperSendError("transfer_limit")
            # Offers of one person from several processes meet here, so that none passes the limit.
            await tx.update("meta", {"_id": f"offers:{transfer.sender_id}"}, {"$inc": {"value": 1}}, upsert=True)
            await tx.insert("transfers", doc_of(transfer))
            return transfer, True

        return await self._engine.write(f"offers:{transfer.sender_id}", job)

    async def get(self, transfer_id: str, first_seq: int = 0) -> TransferRecord | None:
        async def job(tx: Tx) -> TransferRecord | None:
            doc = await tx.one("transfers", {"_id": transfer_id})
            found = await _from_seq(tx, [] if doc is None else [_transfer_of(doc)], first_seq)
            return found[0] if found else None

        return await self._engine.read(job)

    async def change(
        self, transfer_id: str, expected: Collection[Status], now: int, **fields: Any
    ) -> TransferRecord:
        async def job(tx: Tx) -> TransferRecord:
            transfer = await _require(tx, transfer_id)
            if transfer.status not in expected:
                raise _closed(transfer)
            return await _set(tx, transfer, updated_at=now, **fields)

        return await self._engine.write(f"transfer:{transfer_id}", job)

    async def accept(
        self, transfer_id: str, user_id: str, session_id: str, key: str | None, now: int, expires_at: int
    ) -> TransferRecord:
        async def job(tx: Tx) -> TransferRecord:
            transfer = await _require(tx, transfer_id)
            if transfer.receiver_session is not None:
                if transfer.receiver_session != session_id:
                    raise HyperSendError("transfer_taken")
                return transfer
            if transfer.status != "offered":
                raise _closed(transfer)
            return await _set(
                tx, transfer, status="accepted", receiver_id=user_id, receiver_session=session_id, receiver_key=key,
                updated_at=now, expires_at=expires_at)

        return await self._engine.write(f"transfer:{transfer_id}", job)

    async def progress(self, transfer_id: str, transferred_bytes: int, expires_at: int, now: int) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update("transfers", {"_id": transfer_id, "status": IS_OPEN}, {
                "$max": {"transferred_bytes": transferred_bytes, "expires_at": expires_at},
                "$set": {"updated_at": now}})

        await self._engine.single(job)

    async def mark_shown(self, transfer_id: str, status: Status) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update("transfers", {"_id": transfer_id, "status": status}, {"$set": {"shown": True}})

        await self._engine.single(job)

    async def unshown(self, before: int, limit: int) -> list[TransferRecord]:
        return await self._list({"shown": False, "updated_at": {"$lt": before}}, [("updated_at", 1)], limit)

    async def history(
        self, chat_id: str, before_id: str | None, limit: int, first_seq: int = 0
    ) -> list[TransferRecord]:
        async def job(tx: Tx) -> list[TransferRecord]:
            before, found = before_id, list[TransferRecord]()
            while len(found) < limit:
                where: Doc = {"chat_id": chat_id, **({} if before is None else {"_id": {"$lt": before}})}
                docs = await tx.many("transfers", where, sort=[("_id", -1)], limit=limit)
                page = [_transfer_of(doc) for doc in docs]
                found += await _from_seq(tx, page, first_seq)
                if len(page) < limit:
                    break
                before = page[-1].id
            return found[:limit]

        return await self._engine.read(job)

    async def open_of(self, user_id: str, limit: int) -> list[TransferRecord]:
        found = {
            transfer.id: transfer
            for end in ("sender_id", "receiver_id")
            for transfer in await self._list({end: user_id, "status": IS_OPEN}, [("_id", 1)], limit)}
        return [found[transfer_id] for transfer_id in sorted(found)[:limit]]

    async def open_between(self, chat_id: str, user_ids: Collection[str], limit: int) -> list[TransferRecord]:
        people = {"$in": list(user_ids)}
        where = {"chat_id": chat_id, "status": IS_OPEN, "$or": [{"sender_id": people}, {"receiver_id": people}]}
        return await self._list(where, [("_id", 1)], limit)

    async def is_blocked(self, transfer: TransferRecord) -> bool:
        async def job(tx: Tx) -> bool:
            return await tx.one(
                "blocks", {"_id": f"{transfer.receiver_id}:{transfer.sender_id}"}, {"_id": 1}) is not None

        return await self._engine.read(job)

    async def expire(self, now: int, limit: int) -> list[TransferRecord]:
        async def job(tx: Tx) -> list[TransferRecord]:
            docs = await tx.many(
                "transfers", {"status": IS_OPEN, "expires_at": {"$lte": now}}, sort=[("expires_at", 1)], limit=limit)
            return [await _set(tx, _transfer_of(doc), status="expired", updated_at=now) for doc in docs]

        return await self._engine.write("transfers", job)

    async def claim(
        self, transfer_id: str, relay: str, now: int, until: int, instead_of: str | None = None
    ) -> str:
        async def job(tx: Tx) -> str:
            transfer = await _require(tx, transfer_id)
            if transfer.status not in MOVING:
                raise _closed(transfer)
            if transfer.relay not in (None, relay, instead_of) and transfer.relay_until > now:
                return str(transfer.relay)
            await tx.update("transfers", {"_id": transfer_id}, {"$set": {"relay": relay, "relay_until": until}})
            return relay

        return await self._engine.write(f"transfer:{transfer_id}", job)

    async def release(self, transfer_id: str, relay: str) -> None:
        async def job(tx: Tx) -> int:
            return await tx.update(
                "transfers", {"_id": transfer_id, "relay": relay}, {"$set": {"relay": None, "relay_until": 0}})

        await self._engine.single(job)

    async def abandoned(self, now: int, limit: int) -> list[TransferRecord]:
        return await self._list({"status": "active", "relay_until": {"$lte": now}}, [("_id", 1)], limit)

    async def _list(self, where: Doc, sort: Sequence[tuple[str, int]], limit: int) -> list[TransferRecord]:
        async def job(tx: Tx) -> list[TransferRecord]:
            return [_transfer_of(doc) for doc in await tx.many("transfers", where, sort=sort, limit=limit)]

        return await self._engine.read(job)


def _transfer_of(doc: Doc) -> TransferRecord:
    return record_of(TransferRecord, doc)


def _closed(transfer: TransferRecord) -> HyperSendError:
    return HyperSendError(
        "transfer_closed", f"The transfer is {transfer.status}.", extra={"transfer_status": transfer.status})


async def _from_seq(tx: Tx, transfers: list[TransferRecord], first_seq: int) -> list[TransferRecord]:
    """Those whose message is at `first_seq` or after it."""
    if first_seq <= 1 or not transfers:
        return transfers
    where = {"_id": {"$in": [transfer.message_id for transfer in transfers]}, "seq": {"$gte": first_seq}}
    shown = {doc["_id"] for doc in await tx.many("messages", where, {"_id": 1})}
    return [transfer for transfer in transfers if transfer.message_id in shown]


async def _require(tx: Tx, transfer_id: str) -> TransferRecord:
    doc = await tx.one("transfers", {"_id": transfer_id})
    if doc is None:
        raise HyperSendError("not_found", "There is no such transfer, or you may not see it.")
    return _transfer_of(doc)


async def _set(tx: Tx, transfer: TransferRecord, **fields: Any) -> TransferRecord:
    if fields.get("status", transfer.status) != transfer.status:
        fields["shown"] = False
    doc = await tx.changed("transfers", {"_id": transfer.id}, {"$set": fields})
    assert doc is not None
    return _transfer_of(doc)
