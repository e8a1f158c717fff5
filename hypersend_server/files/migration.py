"""Moving complete files from one store to another while the server runs.

Each file is copied chunk by chunk, every chunk against its digest, into a place of its own; then its record is
switched in one step, only where it still names the place that was copied, and the old bytes enter the deletions.
What is begun is noted first (a mark, and an entry in the deletions that is due after a week), so that a run that
was killed goes on with the same copy, and one that never goes on leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files.housekeeping import Pace, copy_mark
from hypersend_server.files.storing import layout_of, require_store
from hypersend_server.metadata.files import ChunkRecord, Deletion, FileRecord, Files
from hypersend_server.metadata.server import ServerRecords
from hypersend_storage.base import ChunkReceipt, LocalPath, NamedFirst, Presigned, Store, UploadRef
from hypersend_storage.errors import (
    ChunkBusy,
    DigestMismatch,
    ObjectMissing,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadLost,
)

T = TypeVar("T")

PARALLEL = 4
BATCH = 100
LEFTOVER_MS = 7 * 24 * 3600 * 1000
PATIENCE_S = 120.0
MAX_WAIT_S = 5.0
COPY_TRIES = 2
log = logging.getLogger(__name__)


class Failure(msgspec.Struct, frozen=True):
    id: str
    name: str
    reason: str


class MigrationReport(msgspec.Struct, kw_only=True):
    """files, bytes: moved, or in a dry run to be moved. removed: files that went while they were copied.

    uploads: under way on other stores; they are moved by a later run. stopped: why the run ended early, or ''.
    """

    to: str
    dry_run: bool
    files: int = 0
    bytes: int = 0
    removed: int = 0
    uploads: int = 0
    failed: list[Failure] = msgspec.field(default_factory=list)
    seconds: float = 0.0
    stopped: str = ""


class Stopped(Exception):
    """The run cannot go on; a sentence for the operator."""


class Migration:
    """target: the name of an open store. older_than_s: only files completed so long ago.

    patience_s: so long a store that does not answer is waited for. report: filled in while it goes on.
    """

    def __init__(
        self, files: Files, records: ServerRecords, stores: Mapping[str, Store], target: str, clock: Clock, *,
        bytes_per_s: int | None = None, older_than_s: int = 0, dry_run: bool = False, parallel: int = PARALLEL,
        patience_s: float = PATIENCE_S, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.report = MigrationReport(to=target, dry_run=dry_run)
        self.copied_bytes = 0
        self.total_bytes = 0
        self._files = files
        self._records = records
        self._stores = stores
        self._target = target
        self._store = require_store(stores, target)
        self._clock = clock
        self._older_than_s = older_than_s
        self._pace = Pace(bytes_per_s)
        self._parallel = parallel
        self._lanes = asyncio.Semaphore(parallel)
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._answered_at = monotonic()

    async def run(self) -> MigrationReport:
        """Pass after pass, until one finds nothing to move; cancelling leaves all that a later run needs.

        Raises: Stopped where a store stays away or the target is full.
        """
        began = self._monotonic()
        self._answered_at = began
        try:
            for backend in await self._sources():
                held = await self._files.stored(backend, self._now_before())
                self.total_bytes += held.size
                self.report.uploads += held.uploads
                if self.report.dry_run:
                    self.report.files += held.files
                    self.report.bytes += held.size
            while not self.report.dry_run and await self._pass():
                pass
        except Stopped as stop:
            self.report.stopped = str(stop)
            raise
        finally:
            self.report.seconds = round(self._monotonic() - began, 3)
        return self.report

    async def _sources(self) -> list[str]:
        return sorted(await self._files.backends() - {self._target})

    def _now_before(self) -> int:
        return self._clock() - self._older_than_s * 1000 + (0 if self._older_than_s else 1)

    async def _pass(self) -> int:
        """One walk through all that is elsewhere; how many files were moved."""
        moved = self.report.files
        found = self._found(self._now_before(), {failure.id for failure in self.report.failed})
        turn = asyncio.Lock()

        async def worker() -> None:
            while True:
                async with turn:
                    file = await anext(found, None)
                if file is None:
                    return
                await self._move(file)

        await _all_of(worker() for _ in range(self._parallel))
        return self.report.files - moved

    async def _found(self, before: int, failed: set[str]) -> AsyncIterator[FileRecord]:
        for backend in await self._sources():
            after = ""
            while batch := await self._files.complete_after(after, BATCH, backend):
                after = batch[-1].id
                for file in batch:
                    if (file.completed_at or 0) < before and file.id not in failed:
                        yield file

    async def _move(self, file: FileRecord) -> None:
        try:
            is_moved = await self._copy_and_switch(file)
        except (HyperSendError, StorageError) as error:
            now = await self._files.get(file.id)
            if now is not None and now.state == "complete" and now.location == file.location:
                reason = error.detail if isinstance(error, HyperSendError) else str(error)
                self.report.failed.append(Failure(file.id, file.name, reason))
                return
            is_moved = False
        if is_moved:
            self.report.files += 1
            self.report.bytes += file.size
        else:
            self.report.removed += 1
        await self._records.set_mark(copy_mark(file.id), "")

    async def _copy_and_switch(self, file: FileRecord) -> bool:
        """False where the file was removed, or moved by another run, meanwhile."""
        source = require_store(self._stores, file.backend)
        chunks = await self._files.chunks(file.id)
        for tries in range(COPY_TRIES):
            ref, receipts = await self._begin(file, chunks)
            waiting = (chunk for chunk in chunks if chunk.index not in receipts)
            try:
                await _all_of(self._lane(source, file, ref, waiting, receipts) for _ in range(self._parallel))
                location = await self._finish(ref, [receipts[index] for index in range(file.chunk_count)])
                break
            except (UploadLost, KeyError):
                if tries == COPY_TRIES - 1:
                    raise HyperSendError("upload_lost", "The copy was lost before it was whole.") from None
                await self._records.set_mark(copy_mark(file.id), "")
            except (HyperSendError, StorageError):
                await self._patiently(lambda ref=ref: self._store.abort(ref))  # type: ignore[misc]
                await self._records.set_mark(copy_mark(file.id), "")
                raise
        target = Deletion(self._target, location)
        moved = await self._files.move(
            file.id, Deletion(file.backend, file.location), target, ref.location, self._clock())
        if moved is None:
            await self._files.add_deletions([target], self._clock())
        return moved is not None

    async def _begin(
        self, file: FileRecord, chunks: list[ChunkRecord]
    ) -> tuple[UploadRef, dict[int, ChunkReceipt]]:
        """Where it is copied to, and what of it an earlier run has copied already."""
        noted = await self._records.get_mark(copy_mark(file.id))
        if noted.startswith(f"{self._target} "):
            try:
                ref = await self._begin_at(file, noted.removeprefix(f"{self._target} "))
                return ref, await self._patiently(lambda: self._copied(ref, chunks))
            except UploadLost:
                log.info("the copy of file %s that was begun is gone; it begins anew", file.id)
        store = self._store
        if isinstance(store, NamedFirst):
            location = store.reserve(file.id)
        else:
            location = await self._patiently(lambda: store.create(file.id, layout_of(file)))
        await self._note(file, location)
        return await self._begin_at(file, location), {}

    async def _begin_at(self, file: FileRecord, location: str) -> UploadRef:
        store, ref = self._store, UploadRef(file.id, location, layout_of(file))
        if not isinstance(store, NamedFirst):
            return ref
        begun = await self._patiently(lambda: store.begin(ref))
        if begun == location:
            return ref
        await self._note(file, begun)
        await self._files.deletion_done(Deletion(self._target, location))
        return UploadRef(file.id, begun, ref.layout)

    async def _note(self, file: FileRecord, location: str) -> None:
        await self._files.add_deletions([Deletion(self._target, location)], self._clock() + LEFTOVER_MS)
        await self._records.set_mark(copy_mark(file.id), f"{self._target} {location}")

    async def _copied(self, ref: UploadRef, chunks: list[ChunkRecord]) -> dict[int, ChunkReceipt]:
        """Raises: UploadLost."""
        digests = {chunk.index: chunk.sha256 for chunk in chunks}
        found: dict[int, ChunkReceipt] = {}
        if isinstance(self._store, Presigned):
            found = {part.index: part for part in await self._store.parts(ref) if digests[part.index] == part.sha256}
        else:
            for index, digest in digests.items():
                async with self._store.chunk(ref, index) as slot:
                    if await slot.sha256() == digest:
                        found[index] = ChunkReceipt(index, ref.layout.chunk_bytes(index), digest)
        self.copied_bytes += sum(receipt.size for receipt in found.values())
        return found

    async def _lane(
        self, source: Store, file: FileRecord, ref: UploadRef, waiting: Iterable[ChunkRecord],
        receipts: dict[int, ChunkReceipt],
    ) -> None:
        """Raises: HyperSendError with why this file cannot be copied; UploadLost; Stopped."""
        for chunk in waiting:
            async def copy(chunk: ChunkRecord = chunk) -> ChunkReceipt:
                async with self._store.chunk(ref, chunk.index) as slot:
                    return await slot.write(self._read(source, file, chunk), offset=0, sha256=chunk.sha256)

            async with self._lanes:
                try:
                    receipts[chunk.index] = await self._patiently(copy)
                except DigestMismatch:
                    raise HyperSendError(
                        "digest_mismatch", f"Chunk {chunk.index} on '{file.backend}' differs from its digest.",
                    ) from None
                except ObjectMissing:
                    raise HyperSendError(
                        "storage_unavailable", f"Its bytes are missing on '{file.backend}'.") from None
            self.copied_bytes += chunk.size

    async def _finish(self, ref: UploadRef, receipts: list[ChunkReceipt]) -> str:
        async def work() -> str:
            await self._store.sync(ref)
            return await self._store.complete(ref, receipts)

        location = await self._patiently(work)
        size = await self._patiently(lambda: self._store.size(location))
        if size != ref.layout.size:
            raise HyperSendError("storage_unavailable", f"The copy has {size} bytes instead of {ref.layout.size}.")
        return location

    async def _read(self, source: Store, file: FileRecord, chunk: ChunkRecord) -> AsyncIterator[bytes]:
        try:
            async for part in source.read(file.location, chunk.index * file.chunk_size, chunk.size):
                await self._pace.passed(len(part))
                yield part
        except StorageUnavailable as error:
            if not isinstance(source, LocalPath):
                raise  # it may be back in a moment
            raise HyperSendError(  # a disk does not come back: this file alone stays where it is
                "storage_unavailable", f"Chunk {chunk.index} on '{file.backend}' cannot be read: {error}") from error

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeat what a store that is away cannot do. Raises: Stopped; what else `work` raises."""
        wait_s = 0.2
        while True:
            try:
                result = await work()
            except StorageFull:
                raise Stopped(f"the storage '{self._target}' is full") from None
            except (StorageUnavailable, ChunkBusy) as error:
                if self._monotonic() - self._answered_at > self._patience_s:
                    raise Stopped(f"the storage does not answer: {error}") from error
                await asyncio.sleep(wait_s)
                wait_s = min(MAX_WAIT_S, wait_s * 2)
            else:
                self._answered_at = self._monotonic()
                return result


async def _all_of(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them together; the first error stops the others, waits for them, and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
