"""`/sync` on MongoDB: what changed for one person behind a stamp, in the order of the stamps.

Stamps are the primary's time, taken within a transaction that commits later: a row may appear below a stamp that a
device has passed. So a round that began at T0 leaves the device at T0 less the longest life of a transaction, and
what was stamped in that time is looked at again by the next round. Rows that come twice do no harm: clients keep
them by id. Messages must not come twice or out of order, and no chat must be told as new twice; so the position
names, for each chat that changed in that time, the rev up to which its messages were delivered and the membership
that was told (`known`). Chats change in the order of their revs, so that is exact.

A round covers the stamps in (since, upto] in pages; a page is one snapshot and delivers the window (at, end], where
`end` is chosen so that the window has about `limit` rows; rows of one stamp stay together. What changes again
meanwhile leaves the window and comes in the next round, with its newest content.

A chat is told as `reset` where the membership began in the window, or where more than MAX_BEHIND revs are due; the
latter are decided when the round begins. Nothing else of a reset chat comes in that round.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any

from hypersend_server.metadata.chats import MAX_BEHIND, KnownChat, MemberRecord, SyncPage, SyncPosition
from hypersend_server.metadata.mongo.accounts_users import sharing
from hypersend_server.metadata.mongo.chats_rows import (
    MESSAGE,
    chat_of,
    from_seq,
    member_of,
    messages_of,
    not_hidden,
    views_of,
)
from hypersend_server.metadata.mongo.engine import Doc, Engine, Tx
from hypersend_server.metadata.mongo.records import parts_of


class MongoSync:
    _engine: Engine
    longest_transaction_ms: int

    async def sync(self, position: SyncPosition, limit: int) -> SyncPage:
        hello = await self._engine.read(lambda tx: tx.db.command("hello"))
        # Asked before the snapshot is taken, so that it has all up to here.
        now = int(hello["localTime"].replace(tzinfo=UTC).timestamp() * 1000)
        return await self._engine.snapshot(
            lambda tx: sync_page(tx, position, limit, now, self.longest_transaction_ms))


async def sync_page(tx: Tx, position: SyncPosition, limit: int, now: int, overlap_ms: int) -> SyncPage:
    meta = await tx.one("meta", {"_id": "epoch"})
    epoch = "" if meta is None else str(meta["value"])
    full = position.at == 0 or position.epoch != epoch or position.at > now
    if full:
        position = SyncPosition(epoch, position.user_id, 0)
    round_ = _Round(tx, position, overlap_ms)
    await round_.load_places()
    starts = position.upto == 0
    if starts:
        await round_.begin(max(now, position.at))
    position = round_.position
    rows = await round_.rows(position.upto, limit + 1)
    end = _end_of_page([stamp for stamp, _, _ in rows], limit, position.upto)
    if end < position.upto:
        rows = [row for row in await round_.rows(end, 0) if row[0] <= end]
    page: dict[str, list[Any]] = {
        kind: [row for _, found, row in rows if found == kind]
        for kind in ("began", "left", "chat", "member", "hidden", "user", "message")}

    reset = [*(position.reset if starts else ()), *sorted(page["began"])]
    members: list[MemberRecord] = page["member"]
    wanted = {*reset, *page["chat"], *(m.chat_id for m in members if m.user_id == position.user_id)}
    more = end < position.upto
    following = SyncPosition(
        epoch, position.user_id, end, position.since, position.upto, position.reset, position.known, position.coming)
    return SyncPage(
        chats=await round_.views(sorted(wanted)),
        members=members,
        user_ids=page["user"],
        messages=await messages_of(tx, page["message"]),
        hidden=page["hidden"],
        gone=page["left"],
        reset=reset,
        position=following if more else SyncPosition(
            epoch, position.user_id, max(position.since, position.upto - overlap_ms), known=position.coming),
        more=more,
        full=full,
    )


class _Round:
    def __init__(self, tx: Tx, position: SyncPosition, overlap_ms: int) -> None:
        self._tx = tx
        self.position = position
        self._overlap_ms = overlap_ms
        self._places: dict[str, MemberRecord] = {}
        self._gone: dict[str, int] = {}  # chats that were left: when

    async def load_places(self) -> None:
        for doc in await self._tx.many("members", {"user_id": self.position.user_id}):
            member = member_of(doc)
            if member.left_at is None:
                self._places[member.chat_id] = member
            else:
                self._gone[member.chat_id] = doc["changed"]
        self._told = {chat.chat_id: chat for chat in self.position.known}

    def _is_known(self, member: MemberRecord) -> bool:
        """Whether the device had been told of this membership when the round began."""
        told = self._told.get(member.chat_id)
        return member.began <= self.position.since or (told is not None and told.began == member.began)

    async def begin(self, upto: int) -> None:
        position = self.position
        since = position.at
        self.position = SyncPosition(position.epoch, position.user_id, since, since, upto, known=position.known)
        coming = []
        for doc in await self._chats_changed(upto - self._overlap_ms, {"changed": 1, "rev": 1}):
            chat_id, began = doc["_id"], self._places[doc["_id"]].began
            rev = doc["rev"] if doc["changed"] <= upto else await self._rev_at(chat_id, upto)
            if began <= upto:
                coming.append(KnownChat(chat_id, rev, began))
        behind = []
        for doc in await self._chats_changed(since, {"rev": 1}) if since else []:
            if self._is_known(self._places[doc["_id"]]):
                had = await self._base(doc["_id"], since)
                if doc["rev"] - had > MAX_BEHIND:
                    behind.append(doc["_id"])
        self.position = SyncPosition(
            position.epoch, position.user_id, since, since, upto, tuple(sorted(behind)), position.known,
            tuple(coming))

    async def _chats_changed(self, above: int, fields: dict[str, int]) -> list[Doc]:
        """Of those that this person is in, by id."""
        return [
            doc for part in parts_of(sorted(self._places))
            for doc in await self._tx.many(
                "chats", {"_id": {"$in": list(part)}, "changed": {"$gt": above}}, fields, sort=[("_id", 1)])]

    async def _rev_at(self, chat_id: str, stamp: int) -> int:
        """The rev at which the chat stood at a stamp; read backwards in the index, so it costs what is due."""
        docs = await self._tx.many(
            "messages", {"chat_id": chat_id, "changed": {"$lte": stamp}}, {"rev": 1},
            sort=[("rev", -1)], limit=1)
        return docs[0]["rev"] if docs else 0

    async def _base(self, chat_id: str, stamp: int) -> int:
        """Up to which rev this device has the chat's messages."""
        told = self._told.get(chat_id)
        if told is not None and told.began == self._places[chat_id].began:
            return max(told.rev, await self._rev_at(chat_id, stamp) if stamp > self.position.since else 0)
        return await self._rev_at(chat_id, stamp)

    async def rows(self, end: int, limit: int) -> list[tuple[int, str, Any]]:
        """(stamp, kind, row) of the window up to `end`; of each kind at most `limit`, the lowest stamps first."""
        tx, position = self._tx, self.position
        window = {"$gt": position.at, "$lte": end}
        order = [("changed", 1), ("_id", 1)]
        found: list[tuple[int, str, Any]] = []
        reset = set(position.reset)
        known = []
        for chat_id, member in self._places.items():
            if self._is_known(member):
                if chat_id not in reset:
                    known.append(chat_id)
            elif position.at < member.began <= end:
                found.append((member.began, "began", chat_id))
        if position.since > 0:
            found += [(stamp, "left", chat_id) for chat_id, stamp in self._gone.items() if position.at < stamp <= end]
        for part in parts_of(known):
            chats = {"$in": list(part)}
            for doc in await tx.many("chats", {"_id": chats, "changed": window}, {"changed": 1}, sort=order,
                                     limit=limit):
                found.append((doc["changed"], "chat", doc["_id"]))
            for doc in await tx.many("members", {"chat_id": chats, "changed": window}, sort=order, limit=limit):
                found.append((doc["changed"], "member", member_of(doc)))
        mine = set(known)
        for doc in await tx.many("hidden", {"user_id": position.user_id, "changed": window}, sort=order):
            if doc["chat_id"] in mine:
                found.append((doc["changed"], "hidden", (doc["chat_id"], doc["message_id"])))
        users = await tx.many("users", {"changed": window}, {"changed": 1}, sort=order)
        near = await sharing(tx, [doc["_id"] for doc in users], self._places) if users and self._places else set()
        found += [(doc["changed"], "user", doc["_id"]) for doc in users if doc["_id"] in near]
        for doc in await self._chats_changed(position.at, {"_id": 1}):
            if doc["_id"] in mine:
                found += [(row["changed"], "message", row) for row in await self._due(doc["_id"], end, limit)]
        found.sort(key=_order)
        return found

    async def _due(self, chat_id: str, end: int, limit: int) -> list[Doc]:
        """Messages up to `end`, by rev: at most `limit` where that is not 0."""
        position, place = self.position, self._places[chat_id]
        low, high = await self._base(chat_id, position.at), 2**62
        coming = next((chat for chat in position.coming if chat.chat_id == chat_id), None)
        # What appears after the round began, below a stamp that it covers, comes whole in the next.
        if coming is not None and coming.began == place.began:
            high = coming.rev
        else:
            end = min(end, position.upto - self._overlap_ms)
        found: list[Doc] = []
        while True:
            step = limit - len(found) if limit else 0
            docs = await self._tx.many(
                "messages",
                {"chat_id": chat_id, "rev": {"$gt": low, "$lt": high + 1}, "changed": {"$lte": end},
                 **from_seq(place)},
                MESSAGE, sort=[("rev", 1)], limit=step)
            found += await not_hidden(self._tx, position.user_id, docs)
            if not step or len(docs) < step or len(found) >= limit:
                return found
            low = docs[-1]["rev"]  # some were deleted for this person: others may follow

    async def views(self, chat_ids: Iterable[str]) -> list[Any]:
        ids = [chat_id for chat_id in chat_ids if chat_id in self._places]
        docs = {
            doc["_id"]: doc for part in parts_of(ids)
            for doc in await self._tx.many("chats", {"_id": {"$in": list(part)}})}
        return await views_of(self._tx, [(chat_of(docs[one]), self._places[one]) for one in ids if one in docs])


def _order(row: tuple[int, str, Any]) -> tuple[int, int]:
    """By stamp; messages of one stamp by rev."""
    stamp, kind, what = row
    return stamp, what["rev"] if kind == "message" else 0


def _end_of_page(stamps: list[int], limit: int, upto: int) -> int:
    """The last stamp of a page of about `limit` rows. stamps: ascending."""
    if len(stamps) <= limit:
        return upto
    first, beyond = stamps[0], stamps[limit]
    return beyond - 1 if first < beyond else first
