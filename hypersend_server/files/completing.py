"""How an upload becomes a file, free of HTTP: once, though callers, processes and a start after a crash go at it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files.direct import DirectParts
from hypersend_server.files.durability import Durability
from hypersend_server.files.media import SNIFF_BYTES, sniff
from hypersend_server.files.progress import ProgressEvents
from hypersend_server.files.storing import ref_of, require_store, translated
from hypersend_server.files.turns import Joined
from hypersend_server.metadata.files import ChunkRecord, FileRecord, Files, Finished, runs
from hypersend_storage.base import Presigned, Store
from hypersend_storage.errors import ChunkBusy, ChunksLost, StorageFull, StorageUnavailable, UploadLost

SYNC_WAITS = 8
SYNC_WAIT_S = 0.25
COMPLETE_TRIES = 40
COMPLETE_RETRY_S = 0.05
ASSEMBLING_S = 600.0  # an object store may forget an upload that long before its object is there
log = logging.getLogger(__name__)


class Completing:
    """on_full, on_stored: as those of `Uploads`. expiry: until when an upload that goes on may, epoch ms."""

    def __init__(
        self, files: Files, stores: Mapping[str, Store], durability: Durability, direct: DirectParts,
        events: ProgressEvents, *, expiry: Callable[[], int], clock: Clock, on_full: Callable[[], None],
        on_stored: Callable[[str, int], object],
    ) -> None:
        self._files = files
        self._stores = stores
        self._durability = durability
        self._direct = direct
        self._events = events
        self._expiry = expiry
        self._clock = clock
        self._on_full = on_full
        self._on_stored = on_stored
        self._running: Joined[Finished] = Joined()
        self._forgotten: dict[str, float] = {}  # file id → since when its store has neither upload nor object

    async def do(self, file_id: str) -> tuple[Finished, bool]:
        """(what became of it, whether this call is the one that began that). Raises: as `Uploads.complete`."""
        return await self._running.do(file_id, partial(self._complete, file_id))

    async def close(self) -> None:
        await self._running.close()

    async def _begin_completing(self, file_id: str) -> FileRecord:
        is_judged = False
        for waited in itertools.count():
            # What is not on the disk yet either gets there now or is sent again: later it would be too late.
            await self._durability.sync(file_id)
            file = await self._files.get(file_id)
            if file is None or file.backend not in self._stores:
                raise HyperSendError("not_found" if file is None else "storage_unavailable")
            if file.state == "uploading":
                if (file.expires_at or 0) <= self._clock():
                    raise HyperSendError("upload_expired")
                await self._count_direct(file)
            try:
                return await self._files.begin_completing(file_id)
            except HyperSendError as error:
                # The last receipt may have come behind the sync, or be of another process, which syncs it presently.
                if error.code != "verifying" or is_judged or waited > SYNC_WAITS:
                    raise
                is_judged = not await self._durability.is_awaited(file)  # once more: they may be durable by now
                if waited and not is_judged:
                    await asyncio.sleep(SYNC_WAIT_S)
                if waited == SYNC_WAITS:
                    await self._durability.take_over(file)
        raise AssertionError("unreachable")

    async def _count_direct(self, file: FileRecord) -> None:
        """Enter what clients sent to the store themselves, as the store tells it."""
        try:
            if size := await self._direct.reconcile(file):
                self._on_stored(file.backend, size)
        except HyperSendError as error:
            now = await self._files.get(file.id) if error.code == "upload_lost" else None
            if now is None or now.state == "uploading":
                raise  # else another process has just completed it

    async def _complete(self, file_id: str) -> Finished:
        file = await self._begin_completing(file_id)
        if file.state == "complete":
            return Finished(file, False)
        store = require_store(self._stores, file.backend)
        chunks = await self._files.chunks(file_id)
        with translated():
            try:
                location = await self._complete_in(store, file, chunks)
                self.forget(file_id)
            except ChunksLost as error:
                # Two processes wrote one chunk at once; the upload goes on without what is not as it was received.
                await self._files.reopen(file_id, error.indexes, self._expiry())
                raise HyperSendError("chunks_missing", extra={"missing": runs(sorted(error.indexes))}) from error
            except UploadLost as error:
                if isinstance(store, Presigned) and self._may_come(file_id):
                    raise StorageUnavailable("the object store may still be putting it together") from error
                raise
            head = b"".join([part async for part in store.read(location, 0, min(file.size, SNIFF_BYTES))]
                            if file.size else [])
        checksum = hashlib.sha256(b"".join([c.sha256 for c in chunks])).digest()
        done = await self._files.finish(file_id, location, checksum, sniff(head), self._clock())
        if done.is_new:
            self._events.state(done.file, "complete")
        return done

    async def _complete_in(self, store: Store, file: FileRecord, chunks: list[ChunkRecord]) -> str:
        for _ in range(COMPLETE_TRIES):
            try:
                return await store.complete(ref_of(file), chunks)
            except ChunkBusy:  # the last chunk's receipt is there, its slot is about to be left
                await asyncio.sleep(COMPLETE_RETRY_S)
            except StorageFull:
                self._on_full()
                raise
        return await store.complete(ref_of(file), chunks)

    def _may_come(self, file_id: str) -> bool:
        """Whether an object whose upload is gone may still appear."""
        since = self._forgotten.setdefault(file_id, time.monotonic())
        return time.monotonic() - since < ASSEMBLING_S

    def forget(self, file_id: str) -> None:
        """It is complete, or nobody's any more."""
        self._forgotten.pop(file_id, None)

    async def recover(self) -> None:
        """Carry on with what was being completed when a process ended."""
        for file in await self._files.completing():
            try:
                await self.do(file.id)
            except HyperSendError as error:
                log.error("completing file %s: %s", file.id, error)
                if error.code == "upload_lost" and (file.expires_at or 0) <= self._clock():
                    await self._files.remove(file.id, self._clock())  # its sender had its time to begin again
                    self.forget(file.id)
