"""Transfers on MongoDB."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.mongo.chats_rows import member_id
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import doc_of, record_of
from hypersend_server.metadata.transfers import MOVING, OPEN, Status, TransferRecord

IS_OPEN = {"$in": list(OPEN)}
SWEPT = 500  # transfers that are looked through at once


class MongoTransfers:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def offer(self, transfer: TransferRecord, most_open: int) -> tuple[TransferRecord, bool]:
        async def job(tx: Tx) -> tuple[TransferRecord, bool]:
            first = await tx.one("transfers", {
                "chat_id": transfer.chat_id, "sender_id": transfer.sender_id, "client_id": transfer.client_id})
            if first is not None:
                return _transfer_of(first), False
            if await _are_blocked(tx, transfer.sender_id, transfer.receiver_id):
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
            if await _are_blocked(tx, transfer.sender_id, user_id):
                raise HyperSendError("blocked")
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

    async def unshown(self, now: int, quiet_ms: int, limit: int) -> list[TransferRecord]:
        where: Doc = {"shown": False, "$or": [
            {"updated_at": {"$lt": now - quiet_ms}}, {"updated_at": {"$gt": now + quiet_ms}}]}
        return await self._list(where, [("status", 1), ("updated_at", 1)], limit)

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
        return await self._any_of([{end: user_id, "status": IS_OPEN} for end in ("sender_id", "receiver_id")], limit)

    async def open_between(self, chat_id: str, user_ids: Collection[str], limit: int) -> list[TransferRecord]:
        people = {"$in": list(user_ids)}
        where = {"chat_id": chat_id, "status": IS_OPEN, "$or": [{"sender_id": people}, {"receiver_id": people}]}
        return await self._list(where, [("_id", 1)], limit)

    async def open_of_pair(self, user_id: str, other_id: str, limit: int) -> list[TransferRecord]:
        ways = ((user_id, other_id), (other_id, user_id))
        return await self._any_of(
            [{"sender_id": sender, "receiver_id": receiver, "status": IS_OPEN} for sender, receiver in ways], limit)

    async def open_of_sessions(
        self, user_id: str, session_ids: Collection[str], limit: int
    ) -> list[TransferRecord]:
        devices = {"$in": list(session_ids)}
        return await self._any_of(
            [{f"{end}_id": user_id, f"{end}_session": devices, "status": IS_OPEN} for end in ("sender", "receiver")],
            limit)

    async def of_message(self, chat_id: str, message_id: str) -> TransferRecord | None:
        found = await self._list({"chat_id": chat_id, "message_id": message_id}, [("_id", 1)], 1)
        return found[0] if found else None

    async def stranded(self, limit: int) -> list[TransferRecord]:
        async def job(tx: Tx) -> list[TransferRecord]:
            after, found = "", list[TransferRecord]()
            while len(found) < limit:
                where = {"status": IS_OPEN, "_id": {"$gt": after}}
                docs = await tx.many("transfers", where, sort=[("_id", 1)], limit=SWEPT)
                page = [_transfer_of(doc) for doc in docs]
                found += await _stranded(tx, page)
                if len(page) < SWEPT:
                    break
                after = page[-1].id
            return found[:limit]

        return await self._engine.read(job)

    async def is_blocked(self, transfer: TransferRecord) -> bool:
        return await self._engine.read(lambda tx: _are_blocked(tx, transfer.sender_id, transfer.receiver_id))

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

    async def abandoned(self, now: int, longest_ms: int, limit: int) -> list[TransferRecord]:
        where: Doc = {"status": "active", "$or": [
            {"relay_until": {"$lte": now}}, {"relay_until": {"$gt": now + longest_ms}}]}
        return await self._list(where, [("_id", 1)], limit)

    async def _any_of(self, wheres: Sequence[Doc], limit: int) -> list[TransferRecord]:
        """Those that one of these finds, by id; each by an index of its own."""
        found = {
            transfer.id: transfer for where in wheres for transfer in await self._list(where, [("_id", 1)], limit)}
        return [found[transfer_id] for transfer_id in sorted(found)[:limit]]

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


async def _are_blocked(tx: Tx, user_id: str, other_id: str | None) -> bool:
    """Whether one of these two blocks the other."""
    return await tx.one("blocks", {"_id": {"$in": _block_ids(user_id, other_id)}}, {"_id": 1}) is not None


def _block_ids(user_id: str, other_id: str | None) -> list[str]:
    return [f"{user_id}:{other_id}", f"{other_id}:{user_id}"]


async def _stranded(tx: Tx, transfers: list[TransferRecord]) -> list[TransferRecord]:
    async def known(name: str, ids: list[str], **more: Any) -> set[str]:
        return {doc["_id"] for doc in await tx.many(name, {"_id": {"$in": ids}, **more}, {"_id": 1})}

    devices = {t.id: [s for s in (t.sender_session, t.receiver_session) if s is not None] for t in transfers}
    pairs = {t.id: _block_ids(t.sender_id, t.receiver_id) for t in transfers}
    live = await known("sessions", [one for each in devices.values() for one in each], ended_at=None)
    blocks = await known("blocks", [one for each in pairs.values() for one in each])
    shown = await known("messages", [t.message_id for t in transfers])
    deleted = await known("messages", [t.message_id for t in transfers], deleted_at={"$gt": 0})
    # A receiver's closed side of a direct chat is opened again by the message that is still to come.
    places = {t.id: [member_id(t.chat_id, user_id) for user_id in (
        t.sender_id, t.receiver_id if t.message_id in shown else None) if user_id is not None] for t in transfers}
    members = await known("members", [one for each in places.values() for one in each], left_at=None)
    return [t for t in transfers if (
        not live.issuperset(devices[t.id]) or not blocks.isdisjoint(pairs[t.id]) or t.message_id in deleted
        or not members.issuperset(places[t.id]))]


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
