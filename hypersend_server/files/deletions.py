"""Bytes that nothing names any more: removed through one table, each not before its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.files.storing import translated
from hypersend_server.metadata.files import Deletion, Files
from hypersend_storage.base import Store

BATCH = 100
log = logging.getLogger(__name__)


class Deletions:
    def __init__(self, files: Files, stores: Mapping[str, Store], clock: Clock) -> None:
        self._files = files
        self._stores = stores
        self._clock = clock
        self._hastening: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Remove what is due; how many. Nothing while a backup runs."""
        done = 0
        kept: set[Deletion] = set()
        while True:
            # What a store that is away keeps must not stand in the way of what is due on the others.
            due = await self._files.due_deletions(self._clock(), BATCH + len(kept))
            todo = [deletion for deletion in due if deletion not in kept]
            if not todo:
                return done
            for deletion in todo:
                if await self._remove(deletion):
                    done += 1
                else:
                    kept.add(deletion)

    async def _remove(self, deletion: Deletion) -> bool:
        store = self._stores.get(deletion.backend)
        if store is None:
            return False
        try:
            with translated():
                await store.delete(deletion.location)
        except HyperSendError as error:
            log.warning("deleting %s on %s: %s", deletion.location, deletion.backend, error)
            return False
        await self._files.deletion_done(deletion)
        return True

    def hasten(self) -> None:
        """The disk is full: bring all deletions forward, in the background."""
        if self._hastening is None or self._hastening.done():
            self._hastening = asyncio.create_task(self._hasten())

    async def _hasten(self) -> None:
        try:
            if await self._files.hasten_deletions(self._clock()):
                log.warning("the storage is full: removing deleted files now, %d so far", await self.run())
        except HyperSendError as error:
            log.warning("making room: %s", error)

    async def close(self) -> None:
        if self._hastening is not None:
            self._hastening.cancel()
            with suppress(asyncio.CancelledError):
                await self._hastening
