"""When a receipt survives a crash of the machine.

What was written stands in the page cache for a while. Four times a second every upload with new receipts is synced,
and its receipts become durable; a receipt that was not durable when the machine went down counts again only after
its bytes were hashed. Where syncing fails, the kernel has dropped what it could not write, so every receipt that
was not durable goes, and so does that of any write that was under way (`generation` tells).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from hypersend_server.errors import HyperSendError
from hypersend_server.files.storing import ref_of, translated
from hypersend_server.metadata.files import FileRecord, Files, Volatile
from hypersend_storage.base import Store, VolatileWrites
from hypersend_storage.errors import StorageError, StorageUnavailable, UploadLost

SYNC_EVERY_S = 0.25  # what came since is what completing waits for
log = logging.getLogger(__name__)


class Durability:
    def __init__(self, files: Files, stores: Mapping[str, Store], *, sync_every_s: float = SYNC_EVERY_S) -> None:
        self._files = files
        self._stores = stores
        self._sync_every_s = sync_every_s
        self._new: dict[str, tuple[FileRecord, set[int]]] = {}
        self._syncing: dict[str, asyncio.Lock] = {}
        self._failures: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.verified = asyncio.Event()
        """Set once all receipts of earlier boots were checked."""

    def boot_id(self, backend: str) -> str | None:
        """Of the present boot; None where what the store acknowledged is durable."""
        store = self._stores.get(backend)
        return store.boot_id() if isinstance(store, VolatileWrites) else None

    async def start(self) -> None:
        """Take up what an earlier process left, and sync from now on."""
        stale: list[tuple[FileRecord, Volatile]] = []
        files: dict[str, FileRecord | None] = {}
        for receipt in await self._files.volatile():
            if receipt.file_id not in files:
                files[receipt.file_id] = await self._files.get(receipt.file_id)
            file = files[receipt.file_id]
            if file is None or file.backend not in self._stores:
                continue
            if receipt.boot_id == self.boot_id(file.backend):
                self.written(file, receipt.chunk_index)
            else:
                stale.append((file, receipt))
        self._tasks = [asyncio.create_task(self._sync_on()), asyncio.create_task(self._verify(stale))]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        await self.sync_all()

    def written(self, file: FileRecord, index: int) -> None:
        """A receipt was recorded that is not durable yet."""
        self._new.setdefault(file.id, (file, set()))[1].add(index)

    async def is_awaited(self, file: FileRecord) -> bool:
        """Whether receipts of this boot, of whichever process, are not durable yet; older ones are being verified."""
        return bool(await self._of_this_boot(file))

    async def take_over(self, file: FileRecord) -> None:
        """Let the next sync count for what other processes received, too: the one that did may have died since."""
        for index in await self._of_this_boot(file):
            self.written(file, index)

    async def _of_this_boot(self, file: FileRecord) -> list[int]:
        boot_id = self.boot_id(file.backend)
        return [receipt.chunk_index for receipt in await self._files.volatile()
                if receipt.file_id == file.id and receipt.boot_id == boot_id]

    def generation(self, file_id: str) -> int:
        """Grows when syncing this file failed: bytes written before are not to be trusted."""
        return self._failures.get(file_id, 0)

    async def sync_all(self) -> None:
        for file_id in list(self._new):
            try:
                await self.sync(file_id)
            except HyperSendError as error:
                log.warning("syncing upload %s: %s", file_id, error)

    async def sync(self, file_id: str) -> None:
        """Make this file's receipts durable, those included that another call is syncing.

        Raises: `storage_unavailable` after the receipts that may be lost were taken back; `upload_lost`.
        """
        lock = self._syncing.setdefault(file_id, asyncio.Lock())
        try:
            async with lock:
                if file_id in self._new:
                    await self._sync(*self._new.pop(file_id))
        finally:
            if not lock.locked():
                self._syncing.pop(file_id, None)

    async def _sync(self, file: FileRecord, indexes: set[int]) -> None:
        boot_id = self.boot_id(file.backend)
        if boot_id is None:
            return
        with translated():
            try:
                await self._stores[file.backend].sync(ref_of(file))
            except StorageUnavailable as error:
                self._failures[file.id] = self._failures.get(file.id, 0) + 1
                dropped = await self._files.drop_volatile(file.id)
                log.error("syncing upload %s failed, %d chunks must be sent again: %s", file.id, dropped, error)
                raise
        try:
            await self._files.mark_durable(file.id, sorted(indexes), boot_id)
        except HyperSendError:
            self._new.setdefault(file.id, (file, set()))[1].update(indexes)
            raise

    async def _sync_on(self) -> None:
        loop = asyncio.get_running_loop()
        took_s = 0.0
        while True:
            # A disk that is slow to sync gets as long to take new bytes in.
            await asyncio.sleep(max(self._sync_every_s, took_s))
            began = loop.time()
            await self.sync_all()
            took_s = loop.time() - began

    async def _verify(self, stale: list[tuple[FileRecord, Volatile]]) -> None:
        for file, receipt in stale:
            try:
                await self._verify_one(file, receipt)
            except (HyperSendError, StorageError) as error:
                log.warning("checking chunk %d of upload %s: %s", receipt.chunk_index, file.id, error)
        self.verified.set()

    async def _verify_one(self, file: FileRecord, receipt: Volatile) -> None:
        state = await self._files.get_chunk(file.id, receipt.chunk_index)
        if state is None or state.receipt is None or state.receipt.boot_id != receipt.boot_id:
            return
        try:
            async with self._stores[file.backend].chunk(ref_of(file), receipt.chunk_index) as slot:
                is_intact = await slot.sha256() == state.receipt.sha256
        except UploadLost:
            is_intact = False
        await self._files.settle(file.id, receipt.chunk_index, receipt.boot_id, is_intact)
        if not is_intact:
            log.warning("chunk %d of upload %s did not survive the restart", receipt.chunk_index, file.id)
