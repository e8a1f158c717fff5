"""What recurs, and what operators run: ending uploads, removing what nothing shows, strays, re-reading files.

Every method answers with a report that a command prints.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from hypersend_server.clock import Clock, rfc3339
from hypersend_server.errors import HyperSendError
from hypersend_server.files.deletions import Deletions
from hypersend_server.files.storing import translated
from hypersend_server.files.uploads import Uploads
from hypersend_server.metadata.files import FileRecord, Files
from hypersend_server.metadata.server import ServerRecords
from hypersend_storage.base import Layout, LocalPath, Store, StoredItem, UploadRef
from hypersend_storage.errors import ObjectMissing

MIN_AGE_MS = 24 * 3600 * 1000  # nothing younger is ever garbage
EXPIRED_RECORD_MS = 30 * 24 * 3600 * 1000  # so long a client learns that its upload expired
COUNT_EVERY_MS = 24 * 3600 * 1000
LISTED_UPLOADS = 1000
VERIFY_BYTES_PER_S = 8 * 1024 * 1024
VERIFY_TURN_BYTES = 2 * 1024 * 1024 * 1024  # an hour's share
BATCH = 200
CLAIM_BYTES_PER_S = 200 * 1024 * 1024
LAST_GC = "last-gc"  # the mark that says when it was
log = logging.getLogger(__name__)


def copy_mark(file_id: str) -> str:
    """The mark that names where a file is being copied to."""
    return f"move {file_id}"


class Stray(msgspec.Struct, frozen=True):
    """Bytes in a store that no record names."""

    backend: str
    location: str
    size: int


class GcReport(msgspec.Struct, kw_only=True):
    """deleted: whether it was done, or only listed. lost: ids of records whose bytes are not there, or not all.

    unshown: ids of files that named a chat and are shown by nothing. abandoned: ids of uploads that have ended, or
    whose time is over, and whose bytes may still be there. deletions: how many were carried out. problems: a
    sentence for each store that could not be looked through. forgotten: those of the lost whose records were removed.
    """

    deleted: bool
    stray: list[Stray] = msgspec.field(default_factory=list)
    stray_bytes: int = 0
    lost: list[str] = msgspec.field(default_factory=list)
    unshown: list[str] = msgspec.field(default_factory=list)
    abandoned: list[str] = msgspec.field(default_factory=list)
    deletions: int = 0
    problems: list[str] = msgspec.field(default_factory=list)
    forgotten: list[str] = msgspec.field(default_factory=list)


class Damage(msgspec.Struct, frozen=True):
    """chunks: indexes whose bytes differ from their digests; [] where the file is missing or of another size."""

    id: str
    name: str
    problem: str
    chunks: list[int]


class VerifyReport(msgspec.Struct, kw_only=True):
    """after: the id of the last file that was looked at; a later run can go on from there. unread: files on a store
    that is not open. forgotten: ids of records without bytes that `--repair` removed. kept: of those it left."""

    files: int = 0
    bytes: int = 0
    damaged: list[Damage] = msgspec.field(default_factory=list)
    after: str = ""
    unread: int = 0
    forgotten: list[str] = msgspec.field(default_factory=list)
    kept: list[str] = msgspec.field(default_factory=list)


class Pace:
    """Keeps reading below a rate. bytes_per_s: None for no limit."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self._rate = bytes_per_s
        self._began = time.monotonic()
        self._bytes = 0

    async def passed(self, size: int) -> None:
        if self._rate is None:
            return
        self._bytes += size
        ahead_s = self._bytes / self._rate - (time.monotonic() - self._began)
        if ahead_s > 0.01:
            await asyncio.sleep(ahead_s)


class Housekeeping:
    """discard: removes a file whoever owns it, and tells those who see it."""

    def __init__(
        self, files: Files, records: ServerRecords, stores: Mapping[str, Store], uploads: Uploads,
        deletions: Deletions, discard: Callable[[FileRecord], Awaitable[bool]], clock: Clock,
    ) -> None:
        self._files = files
        self._records = records
        self._stores = stores
        self._uploads = uploads
        self._deletions = deletions
        self._discard = discard
        self._clock = clock
        self._counted_at: int | None = None

    async def each_minute(self) -> None:
        while await self._uploads.expire():
            pass
        await self._clear_abandoned()
        await self._deletions.run()

    async def each_hour(self) -> GcReport:
        """Asking a store elsewhere for every single file costs money, so that is done once a day."""
        await self._uploads.recover()
        now = self._clock()
        is_day_over = self._counted_at is None or now - self._counted_at >= COUNT_EVERY_MS
        report = await self.gc(delete=True, forget_lost=False, only_local=not is_day_over)
        if is_day_over:
            self._counted_at = now
        if report.lost:
            log.error("the bytes of %d files are missing, such as %s", len(report.lost), report.lost[0])
        return report

    async def gc(self, *, delete: bool, forget_lost: bool = True, only_local: bool = False) -> GcReport:
        """List garbage, and remove it where `delete` says so; nothing younger than 24 hours is touched. Lost files are
        listed whatever their age.

        forget_lost: whether records without bytes are removed too; never where a whole store looks empty, since
        then it is not mounted. only_local: strays and lost files are looked for on disks alone.
        """
        report = GcReport(deleted=delete)
        now = self._clock()
        report.abandoned = [file.id for file in await self._files.abandoned(LISTED_UPLOADS, now)]
        if delete:
            while await self._uploads.expire():
                pass
            await self._clear_abandoned()
            await self._files.forget_expired(now - EXPIRED_RECORD_MS)
        await self._unshown(report, now - MIN_AGE_MS, delete)
        stores = {name: store for name, store in self._stores.items()
                  if not only_local or isinstance(store, LocalPath)}
        for name, store in stores.items():
            try:
                holds_some = await self._strays(name, store, report, now - MIN_AGE_MS, delete)
                await self._lost(name, store, report, now - MIN_AGE_MS, delete and forget_lost and holds_some)
            except HyperSendError as error:
                report.problems.append(f"{name}: {error.detail}")
                log.warning("housekeeping of the storage '%s': %s", name, error)
        for name in sorted(await self._files.backends() - self._stores.keys()):
            report.problems.append(f"{name}: it is not open, so nothing was looked for there")
        if delete:
            report.deletions = await self._deletions.run()
            await self._records.set_mark(LAST_GC, rfc3339(now))
        return report

    async def _clear_abandoned(self) -> None:
        away = set[str]()
        for file in await self._files.abandoned(BATCH):
            if file.backend not in away and not await self._uploads.clear(file):
                away.add(file.backend)  # one that does not answer is not asked for each of them

    async def _unshown(self, report: GcReport, before: int, delete: bool) -> None:
        while True:
            found = [f for f in await self._files.unshown(before, BATCH) if f.id not in report.unshown]
            report.unshown += [file.id for file in found]
            if not delete or not found:
                return
            for file in found:
                await self._discard(file)

    async def _strays(
        self, backend: str, store: Store, report: GcReport, before: int, delete: bool
    ) -> bool:
        """Look through a store; whether it holds anything."""
        holds_some = False
        async for batch in _batches(store):
            holds_some = True
            old = [item for item in batch if item.modified_ms < before]
            known = await self._files.known(backend, [i.location for i in old], [i.file_id for i in old])
            for item in old:
                if item.location in known or item.file_id in known or not await self._is_stray(backend, item):
                    continue
                report.stray.append(Stray(backend, item.location, item.size))
                report.stray_bytes += item.size
                if delete:
                    await self._remove_stray(store, item)
        return holds_some

    async def _is_stray(self, backend: str, item: StoredItem) -> bool:
        """Of bytes that no record named just now. Some stores date an object from the beginning of its upload, so one
        that was put together a moment ago may look old: while it is copied (then its deletion is entered already), or
        while its record still names the upload, it is left alone."""
        if await self._records.get_mark(copy_mark(item.file_id)):
            return False
        # Only now: a copy that has ended names its place in the record first, and drops its mark after.
        return not await self._files.known(backend, [item.location], [item.file_id])

    async def _remove_stray(self, store: Store, item: StoredItem) -> None:
        try:
            with translated():
                if item.uploading:
                    await store.abort(UploadRef(item.file_id, item.location, Layout(0, 1)))
                else:
                    await store.delete(item.location)
        except HyperSendError as error:
            log.warning("removing stray bytes at %s: %s", item.location, error)

    async def _lost(
        self, backend: str, store: Store, report: GcReport, before: int, forget: bool
    ) -> None:
        """forget: whether records without bytes are removed."""
        async for file in self._complete(backend=backend):
            with translated():
                size = await store.size(file.location)
            if size == file.size:
                continue
            now = await self._files.get(file.id)
            if now is None or now.state != "complete" or now.location != file.location:
                continue  # removed or moved meanwhile
            report.lost.append(file.id)
            if forget and size is None and (file.completed_at or 0) < before:
                await self._discard(file)
                report.forgotten.append(file.id)

    async def _complete(self, after: str = "", backend: str | None = None) -> AsyncIterator[FileRecord]:
        while batch := await self._files.complete_after(after, BATCH, backend):
            for file in batch:
                yield file
            after = batch[-1].id

    async def verify(
        self, *, sample: float = 1.0, bytes_per_s: int | None = None, after: str | None = "",
        chance: Callable[[], float] = random.random, report: VerifyReport | None = None, mark: str = "",
        max_bytes: int | None = None, backend: str | None = None,
    ) -> VerifyReport:
        """Re-read complete files and compare each chunk with its digest.

        sample: the share of files to read, 0 to 1. after: the id of the last file of an earlier run; None: of the
        one that kept its position as `mark`, which is forgotten once the end is reached. report: filled in while it
        goes on, so that an interrupted run has one too. max_bytes: end after about so many. backend: of one store.
        """
        report = VerifyReport() if report is None else report
        report.after = await self._records.get_mark(mark) if after is None else after
        pace = Pace(bytes_per_s)
        spare: FileRecord | None = None
        async for file in self._complete(report.after, backend):
            if max_bytes is not None and report.bytes >= max_bytes:
                return report
            if file.backend not in self._stores:
                report.unread += 1
            elif sample >= 1 or chance() < sample:
                await self._verify_one(file, pace, report)
            elif spare is None:
                spare = file
            report.after = file.id
            if mark:
                await self._records.set_mark(mark, file.id)
        if not report.files and spare is not None:  # a share of few files is one at least
            await self._verify_one(spare, pace, report)
        if mark:
            await self._records.set_mark(mark, "")
        return report

    async def _verify_one(self, file: FileRecord, pace: Pace, report: VerifyReport) -> None:
        damage = await self._examine(file, pace, report)
        now = None if damage is None else await self._files.get(file.id)
        if damage is not None and now is not None and now.location == file.location and now.state == "complete":
            report.damaged.append(damage)
        report.files += 1

    async def verify_some(self) -> VerifyReport:
        """A part of the disk's files, on from where the last turn ended; what is elsewhere may cost money to read."""
        report = VerifyReport()
        for name, store in list(self._stores.items()):
            if isinstance(store, LocalPath):
                await self.verify(bytes_per_s=VERIFY_BYTES_PER_S, after=None, mark=f"verify {name} in turns",
                                  max_bytes=VERIFY_TURN_BYTES, backend=name, report=report)
        for damage in report.damaged:
            log.error("file %s %s%s", damage.id, damage.problem, f" in chunks {damage.chunks}" if damage.chunks else "")
        return report

    async def _examine(self, file: FileRecord, pace: Pace, report: VerifyReport) -> Damage | None:
        store = self._stores[file.backend]
        with translated():
            size = await store.size(file.location)
        if size != file.size:
            problem = "is missing" if size is None else f"has {size} bytes instead of {file.size}"
            return Damage(file.id, file.name, problem, [])
        wrong: list[int] = []
        for chunk in await self._files.chunks(file.id):
            try:
                digest = await self._hash(store, file, chunk.index * file.chunk_size, chunk.size, pace)
            except ObjectMissing:
                return Damage(file.id, file.name, "is missing", [])
            report.bytes += chunk.size
            if digest != chunk.sha256:
                wrong.append(chunk.index)
        return Damage(file.id, file.name, "has changed", wrong) if wrong else None

    async def check_claims(self, *, bytes_per_s: int | None = CLAIM_BYTES_PER_S) -> int:
        """Hash whole files whose senders said what they hash to, where the bytes are local; how many."""
        local = [name for name, store in self._stores.items() if isinstance(store, LocalPath)]
        pace = Pace(bytes_per_s)
        checked = 0
        after = ""
        while local and (batch := await self._files.claimed(local, after, BATCH)):
            for file in batch:
                try:
                    digest = await self._hash(self._stores[file.backend], file, 0, file.size, pace)
                except (HyperSendError, ObjectMissing) as error:
                    log.warning("checking the SHA-256 of file %s: %s", file.id, error)
                    continue
                await self._files.set_sha256_state(file.id, "verified" if digest == file.sha256 else "failed")
                checked += 1
            after = batch[-1].id
        return checked

    async def _hash(self, store: Store, file: FileRecord, start: int, length: int, pace: Pace) -> bytes:
        """Raises: ObjectMissing, `storage_unavailable`."""
        digest = hashlib.sha256()
        if length:
            async for part in store.read(file.location, start, length):
                await asyncio.to_thread(digest.update, part)
                await pace.passed(len(part))
        return digest.digest()


async def _batches(store: Store) -> AsyncIterator[list[StoredItem]]:
    """Raises: `storage_unavailable`."""
    batch: list[StoredItem] = []
    with translated():
        async for item in store.items():
            batch.append(item)
            if len(batch) >= BATCH:
                yield batch
                batch = []
    if batch:
        yield batch
