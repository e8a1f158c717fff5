"""Records and contract of files: uploads in flight, their receipts, complete files, and bytes to remove.

A receipt says that one chunk is whole and in the store. `boot_id` is None once the chunk survives a crash of the
machine; until then it names the boot in which the chunk was written, and in a later boot the receipt counts only
after the bytes were hashed again (`verifying`).

Times are Unix milliseconds, sizes bytes, digests 32 raw bytes, indexes of chunks from 0.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

FileState = Literal["uploading", "completing", "complete", "expired", "deleted"]
Sha256State = Literal["none", "claimed", "verified", "failed"]
Range = tuple[int, int]
"""The first and the last index of a run of chunks."""

DELETION_DELAY_MS = 3600 * 1000
"""Bytes of a removed file stay this long: whoever is downloading it, or backing it up, comes to an end."""


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """location: the store's name for the bytes; '' before the store was asked, and once they are gone.

    received_bytes: of all receipts. chat_id: named at init; such a file lives by what shows it.
    sniffed_mime: by content. expires_at: while uploading. unshown_since: when the last thing that showed it went.
    """

    id: str
    owner_id: str
    chat_id: str | None = None
    name: str
    size: int
    mime: str
    sniffed_mime: str | None = None
    state: FileState
    chunk_size: int
    received_bytes: int = 0
    checksum: bytes | None = None
    sha256: bytes | None = None
    sha256_state: Sha256State = "none"
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    preview_id: str | None = None
    backend: str
    location: str = ""
    ticket_id: str | None = None
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    unshown_since: int | None = None
    deleted_at: int | None = None

    @property
    def chunk_count(self) -> int:
        return -(-self.size // self.chunk_size)


class ChunkRecord(msgspec.Struct, frozen=True):
    """A receipt; of a complete file, the digest of one of its chunks. tag: the store's own."""

    index: int
    size: int
    sha256: bytes
    tag: str
    boot_id: str | None


class Preview(msgspec.Struct, frozen=True):
    """A small picture, re-encoded already."""

    id: str
    mime: str
    data: bytes


class Begun(NamedTuple):
    """is_new: False where the same Idempotency-Key had begun it before."""

    file: FileRecord
    is_new: bool


class Finished(NamedTuple):
    """is_new: False where another call had completed it before."""

    file: FileRecord
    is_new: bool


class ChunkState(NamedTuple):
    """A file and what is known of one of its chunks.

    partial_bytes: of a prefix without a receipt. partial_boot_id: the boot in which it was written.
    """

    file: FileRecord
    receipt: ChunkRecord | None
    partial_bytes: int
    partial_boot_id: str


class Progress(NamedTuple):
    """What has arrived of an upload. received_bytes: of `received` alone."""

    received: list[Range]
    received_bytes: int
    partial: list[tuple[int, int]]
    verifying: list[Range]


def runs(indexes: Iterable[int]) -> list[Range]:
    """Ascending indexes as runs."""
    found: list[Range] = []
    for index in indexes:
        if found and found[-1][1] == index - 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


class Usage(NamedTuple):
    """used_bytes: of complete files. reserved_bytes: of uploads. files: how many are complete."""

    used_bytes: int
    reserved_bytes: int
    files: int


class Volatile(NamedTuple):
    """A receipt whose bytes may not survive a crash of the machine."""

    file_id: str
    chunk_index: int
    boot_id: str


class Deletion(NamedTuple):
    """Bytes to remove from a store."""

    backend: str
    location: str


class Stored(NamedTuple):
    """What a store holds. files, size: complete files and their bytes. uploads: how many are under way."""

    files: int
    size: int
    uploads: int


class Listing(NamedTuple):
    """position: of the last file, to go on from; None where nothing follows."""

    files: list[FileRecord]
    position: tuple[int, str] | None


class Files(Protocol):
    # Uploads

    async def begin(
        self, file: FileRecord, *, idempotency_key: str | None, request_hash: bytes, preview: Preview | None,
        default_quota_bytes: int | None, free_bytes: int | None,
    ) -> Begun:
        """Record an upload and reserve its size, of the owner's quota and of what is free, in one step.

        A repeated key answers the upload that it began; repeated through another ticket, that ticket takes it over
        (`is_taken_over`).
        free_bytes: of the store, None where it does not know.
        Raises: `quota_exceeded`, `storage_full` (both with the figures), `idempotency_conflict`.
        """

    async def set_location(self, file_id: str, location: str, instead_of: str = "") -> FileRecord | None:
        """Where the store keeps it, while it is uploading and its location is `instead_of`: the first one to say so
        wins. The record as it is now."""

    async def get(self, file_id: str) -> FileRecord | None:
        """Also a deleted one."""

    async def get_readable(self, file_id: str, user_id: str) -> FileRecord | None:
        """Where this person owns it, or is in a chat where a message that they may see shows it."""

    async def get_chunk(self, file_id: str, index: int) -> ChunkState | None: ...

    async def progress(self, file_id: str, boot_id: str | None) -> Progress:
        """boot_id: the present one; None where the store has no volatile writes."""

    async def add_receipt(self, file_id: str, chunk: ChunkRecord, expires_at: int) -> int:
        """Keep a receipt, only while the file is uploading; its prefix is forgotten, its expiry set.

        The same receipt again changes nothing. Returns: the bytes received so far.
        Raises: `not_found`, `upload_closed`, `upload_expired`, `chunk_conflict` (there with another digest).
        """

    async def reconcile(self, file_id: str, chunks: Sequence[ChunkRecord], gone: Sequence[int]) -> None:
        """Make the receipts of an upload what its store lists, in one step.

        chunks: all durable; each is entered, or takes the place of a receipt with another digest or tag. gone:
        indexes whose receipt is removed, because the store no longer has the part. Nothing happens where the file
        is not `uploading`.
        """

    async def extend_upload(self, file_id: str, expires_at: int) -> None:
        """Set the expiry of an upload. Raises: `not_found`, `upload_closed`, `upload_expired`."""

    async def set_partial(self, file_id: str, index: int, size: int, boot_id: str, expires_at: int) -> None:
        """Note the prefix of a chunk that was cut off; 0 forgets it. Nothing happens once a receipt is there."""

    async def mark_durable(self, file_id: str, indexes: Sequence[int], boot_id: str) -> None:
        """These receipts, written in this boot, survive a crash from now on."""

    async def drop_volatile(self, file_id: str) -> int:
        """Take back every receipt and prefix that may be lost; how many receipts."""

    async def volatile(self) -> list[Volatile]:
        """Every receipt that is not durable, of uploads."""

    async def settle(self, file_id: str, index: int, boot_id: str, is_intact: bool) -> None:
        """After a reboot: a receipt of `boot_id` whose bytes were hashed again is durable, or goes."""

    async def begin_completing(self, file_id: str) -> FileRecord:
        """uploading → completing where all is there and durable; `completing` and `complete` are answered as they are.

        Raises: `chunks_missing` with `missing`, `verifying` where a receipt is not durable, `upload_expired`,
            `not_found`.
        """

    async def reopen(self, file_id: str, gone: Sequence[int], expires_at: int) -> None:
        """completing → uploading without these receipts, whose chunks the store turned out not to have."""

    async def finish(
        self, file_id: str, location: str, checksum: bytes, sniffed_mime: str | None, now: int
    ) -> Finished:
        """completing → complete; one that is complete stays as it is: of several calls one alone is answered that
        it is new. Raises: `not_found`, `upload_closed`."""

    async def completing(self) -> list[FileRecord]:
        """What was on its way when a process ended."""

    async def expire(self, now: int, limit: int) -> list[FileRecord]:
        """uploading → expired for uploads whose time is over; these records, as they are now."""

    async def abandoned(self, limit: int, now: int | None = None) -> list[FileRecord]:
        """Aborted and expired uploads whose bytes may still be in a store; with `now`, also those whose time is
        over by then and that `expire` has not ended yet."""

    async def forget_upload(self, file_id: str) -> None:
        """Its bytes are gone: an aborted upload leaves no trace, an expired one its record."""

    async def forget_expired(self, before: int) -> int:
        """Remove the records of uploads that began before this and expired; how many."""

    # Files

    async def remove(self, file_id: str, now: int, *, location: str | None = None) -> FileRecord | None:
        """Remove a file or abort an upload; the record as it was, None where it is gone already, or has another
        location than the one that is given.

        A complete one becomes `deleted`; its location enters the deletions, not before an hour from now and the end
        of a running backup, and a job `restamp_file` is noted, all in one step. Callers complete what is `completing`
        first, so that only one whose bytes are lost is aborted in that state.
        """

    async def usage(self, user_id: str) -> Usage: ...

    async def list_own(
        self, user_id: str, states: Collection[FileState], query: str, after: tuple[int, str] | None, limit: int
    ) -> Listing:
        """Newest first. query: part of the name, without case."""

    async def list_chat(
        self, chat_id: str, user_id: str, query: str, after: tuple[int, str] | None, limit: int
    ) -> Listing:
        """Complete files that messages visible to this person show, those of the newest message first."""

    async def owned(self, user_id: str, limit: int) -> list[FileRecord]:
        """Some of what this person owns and has not removed, uploads included."""

    async def chunks(self, file_id: str) -> list[ChunkRecord]:
        """By index."""

    async def claimed(self, backends: Collection[str], after_id: str, limit: int) -> list[FileRecord]:
        """Complete files whose claimed SHA-256 nobody has checked, by id."""

    async def set_sha256_state(self, file_id: str, state: Sha256State) -> None: ...

    async def complete_after(self, after_id: str, limit: int, backend: str | None = None) -> list[FileRecord]:
        """Complete files by id, for a walk through all of them, or through those of one store."""

    async def stored(self, backend: str, completed_before: int) -> Stored:
        """What one store holds of files completed before this time; uploads are counted whatever their age."""

    async def move(
        self, file_id: str, source: Deletion, target: Deletion, upload_location: str, now: int
    ) -> FileRecord | None:
        """A verified copy takes over, in one step; the record as it is then.

        Only where the file is complete and its bytes are at `source`: else None, and nothing happens. `source`
        enters the deletions, not before an hour from now and the end of a running backup; what they hold of
        `target` and of `upload_location` on the same store, where the copy was written, leaves them.
        """

    # Bytes to remove

    async def unshown(self, before: int, limit: int) -> list[FileRecord]:
        """Files that named a chat at init and have been shown by nothing since before this time."""

    async def due_deletions(self, now: int, limit: int) -> list[Deletion]:
        """What may be removed now: nothing while a backup runs, and no location that a record still names."""

    async def deletion_done(self, deletion: Deletion) -> None: ...

    async def hasten_deletions(self, now: int) -> int:
        """Make all deletions due, unless a backup runs; how many."""

    async def add_deletions(self, deletions: Sequence[Deletion], now: int) -> None:
        """Enter bytes that nothing names; removed like all others, not before an hour from `now`."""

    async def known(self, backend: str, locations: Sequence[str], file_ids: Sequence[str]) -> set[str]:
        """Those of `locations` that a record names or that wait for their deletion, and those of `file_ids` that
        have an upload."""

    async def backends(self) -> set[str]:
        """The stores that records name."""


def is_taken_over(known: FileRecord, again: FileRecord) -> bool:
    """Whether an init that was repeated through another ticket hands the upload to that ticket.

    Not into or out of a chat: a ticket for one chat has no say over what was begun for another.
    """
    return (again.ticket_id not in (None, known.ticket_id) and known.state == "uploading"
            and again.chat_id == known.chat_id)
