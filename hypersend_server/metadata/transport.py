"""Every record of a deployment, in a form that both backends read and write: what `migrate-metadata` carries.

A record is a flat dictionary of plain values under the names of SQLite's columns (`0001_initial.sql` and after).
Stamps mean something in one database alone, so they are made anew, and the database begins a new epoch: every client
then syncs from the beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

Row = dict[str, Any]
_encode = msgspec.msgpack.Encoder().encode


class Table(NamedTuple):
    """key: the columns that name a record. flags: columns that are true or false."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    flags: tuple[str, ...] = ()


TABLES: tuple[Table, ...] = (
    Table("users", ("id",), (
        "id", "email", "email_key", "username", "display_name", "name_key", "about", "password_hash", "is_admin",
        "disabled", "quota_bytes", "avatar_id", "created_at", "last_seen_at", "deleted_at"), ("is_admin", "disabled")),
    Table("pictures", ("id",), ("id", "mime", "data")),
    Table("sessions", ("id",), (
        "id", "user_id", "device", "ip", "salt", "generation", "rotated_at", "used_at", "device_key", "created_at",
        "last_seen_at", "ended_at", "web_secret")),
    Table("blocks", ("user_id", "blocked_id"), ("user_id", "blocked_id", "created_at")),
    Table("invites", ("id",), (
        "id", "code_hash", "makes_admin", "max_uses", "uses", "created_by", "created_at", "expires_at"),
        ("makes_admin",)),
    Table("resets", ("code_hash",), ("code_hash", "user_id", "expires_at")),
    Table("guesses", ("key",), ("key", "failures", "blocked_until", "updated_at")),
    Table("audit", ("id",), ("id", "at", "actor_id", "action", "target", "detail")),
    Table("chats", ("id",), (
        "id", "kind", "pair_key", "title", "about", "avatar_id", "history", "seq", "rev", "members_rev",
        "members_count", "created_at", "updated_at", "deleted_at")),
    Table("members", ("chat_id", "user_id"), (
        "chat_id", "user_id", "role", "first_seq", "delivered_seq", "read_seq", "joined_at", "left_at", "pinned",
        "archived", "muted_until"), ("pinned", "archived")),
    Table("messages", ("chat_id", "seq"), (
        "id", "chat_id", "seq", "rev", "sender_id", "client_id", "kind", "text", "extra", "created_at", "edited_at",
        "deleted_at")),
    Table("hidden", ("user_id", "chat_id", "seq"), ("user_id", "chat_id", "seq", "message_id")),
    Table("message_files", ("file_id", "chat_id", "seq"), ("file_id", "chat_id", "seq")),
    Table("files", ("id",), (
        "id", "owner_id", "chat_id", "name", "size", "mime", "sniffed_mime", "state", "chunk_size", "received_bytes",
        "checksum", "sha256", "sha256_state", "width", "height", "duration_s", "preview_id", "backend", "location",
        "ticket_id", "idempotency_key", "request_hash", "created_at", "completed_at", "expires_at", "unshown_since",
        "deleted_at")),
    Table("chunks", ("file_id", "idx"), ("file_id", "idx", "size", "sha256", "tag", "boot_id")),
    Table("partials", ("file_id", "idx"), ("file_id", "idx", "bytes", "boot_id")),
    Table("deletions", ("backend", "location"), ("backend", "location", "not_before")),
    Table("transfers", ("id",), (
        "id", "chat_id", "message_id", "client_id", "sender_id", "sender_session", "sender_key", "receiver_id",
        "receiver_session", "receiver_key", "name", "size", "mime", "status", "transferred_bytes", "file_id",
        "created_at", "updated_at", "expires_at", "shown", "relay", "relay_until", "vouch"), ("shown",)),
    Table("releases", ("id",), (
        "id", "version", "platform", "abi", "file_id", "size", "sha256", "notes", "mandatory", "share", "published_at",
        "withdrawn_at"), ("mandatory",)),
    Table("jobs", ("id",), ("id", "kind", "payload")),
    # What a database knows of itself: its identity, and how far walks through everything have come.
    Table("meta", ("key",), ("key", "value")),
)
LEFT_OUT = frozenset({"leases"})
"""Tables that hold for one moment only."""
OWN_META = frozenset({"change", "search_changed", "schema", "accounts", "releases", "epoch", "migration"})
"""Keys of `meta` that belong to one database. What begins with one of OWN_PREFIXES does, too."""
OWN_PREFIXES = ("room:", "offers:")


def is_own(key: str) -> bool:
    return key in OWN_META or key.startswith(OWN_PREFIXES)


class Port(Protocol):
    """One end of a migration: an open database that nobody serves."""

    def rows(self, table: Table) -> AsyncIterator[list[Row]]:
        """All records, in pages."""

    async def count(self, table: Table) -> int: ...

    async def put(self, table: Table, rows: Sequence[Row]) -> None:
        """Enter these records; one that is there already stays or becomes the same."""

    async def clear(self, table: Table) -> None:
        """Remove all records."""

    async def note(self, source: str) -> str:
        """Say that a migration from `source` is under way, where nothing is there yet; from where it is, or ''
        where the database holds data of its own."""

    async def finish(self, epoch: str) -> None:
        """All is there: put what is derived in order, begin this epoch, and take the note away."""


def canonical(table: Table, row: Row) -> bytes:
    """The same bytes for the same record, whatever it was read from."""
    values = [bool(row[name]) if name in table.flags else row[name] for name in table.columns]
    return _encode([float(value) if name == "duration_s" and value is not None else value
                    for name, value in zip(table.columns, values, strict=True)])


class Digest:
    """Of all records of a table, in whatever order they come: a sum of their digests."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, table: Table, row: Row) -> None:
        self.count += 1
        self._sum = (self._sum + int.from_bytes(hashlib.sha256(canonical(table, row)).digest(), "big")) % 2**256

    @property
    def hex(self) -> str:
        return f"{self._sum:064x}"


class Moved(msgspec.Struct, kw_only=True):
    """What a migration did. records: how many, by table. digests: of both ends, equal. complete: false where the two
    differ at the end, because somebody wrote meanwhile."""

    source: str
    target: str
    records: dict[str, int] = msgspec.field(default_factory=dict)
    digests: dict[str, str] = msgspec.field(default_factory=dict)
    differ: list[str] = msgspec.field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not self.differ


class OtherData(Exception):
    """The target is not empty."""


async def carry(
    source: Port, target: Port, report: Moved, *, server_id: str, epoch: str, tell: Callable[[str], None]
) -> None:
    """Copy everything from an idle database into an empty one, or go on where that was cut off, and compare.

    Only when each table is the same at both ends does the target begin its epoch and become a server's.
    Raises: OtherData, and what the ports raise.
    """
    noted = await target.note(server_id)
    if noted != server_id:
        raise OtherData("the target holds another server's data" if noted else "the target holds data already")
    for table in TABLES:
        digest = await digest_of(source, table)
        there = await digest_of(target, table)
        if there.hex != digest.hex:
            if there.count > digest.count:
                await target.clear(table)
            await _copy(source, target, table, digest.count, tell)
            there = await digest_of(target, table)
            if there.hex != digest.hex:  # what an earlier attempt left, and the source has no longer
                await target.clear(table)
                await _copy(source, target, table, digest.count, tell)
                there, digest = await digest_of(target, table), await digest_of(source, table)
        report.records[table.name] = digest.count
        report.digests[table.name] = digest.hex
        if (there.count, there.hex) != (digest.count, digest.hex):
            report.differ.append(table.name)
    if report.complete:
        await target.finish(epoch)


async def _copy(source: Port, target: Port, table: Table, total: int, tell: Callable[[str], None]) -> None:
    done = 0
    async for page in source.rows(table):
        await target.put(table, page)
        done += len(page)
        tell(f"{table.name}: {done} of {total}")


async def digest_of(port: Port, table: Table) -> Digest:
    digest = Digest()
    async for page in port.rows(table):
        for row in page:
            digest.add(table, row)
    return digest
