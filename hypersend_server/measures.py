"""What /metrics shows of the parts: read when it is asked for, and what costs a question of a store or the database
only every so often, however often Prometheus asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from hypersend_server import __version__
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Stats
from hypersend_server.metrics import Metrics
from hypersend_storage import Measured, Store
from hypersend_storage.errors import StorageError

PARTS_S = 10.0
COUNTS_S = 60.0
ANSWER_S = 5.0


class Measures:
    """probes: part → how to ask whether it is there (raises HyperSendError). stores: the open ones. count: everything
    that the database counts. monotonic: seconds."""

    def __init__(
        self, metrics: Metrics, *, probes: Mapping[str, Callable[[], Awaitable[None]]], stores: Mapping[str, Store],
        count: Callable[[], Awaitable[Stats]], monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probes = probes
        self._stores = stores
        self._count = count
        self._monotonic = monotonic
        self._parts_at = self._counts_at = float("-inf")
        self._refreshing = asyncio.Lock()
        self._seconds: dict[str, float] = {}
        self._up: dict[str, float] = {}
        self._free: dict[str, float] = {}
        self._counted: dict[str, float] = {}
        metrics.family("build_info", "The version that runs.", "version", lambda: {__version__: 1})
        metrics.family("part_up", "Whether a part answers.", "part", lambda: self._up)
        metrics.family("part_seconds", "How long a part took to answer: database, storage, bus.", "part",
                       lambda: self._seconds)
        metrics.family("storage_free_bytes", "Bytes that can still be stored, where that is known.", "backend",
                       lambda: self._free)
        metrics.family("stored", "What the database counts: people, sessions, chats, messages, files, uploads.", "what",
                       lambda: self._counted)
        metrics.family("executor_jobs", "Jobs that a pool of threads was given.", "pool",
                       lambda: {name: pool[0] for name, pool in self._pools().items()}, counts=True)
        metrics.family("executor_wait_seconds", "How long jobs waited for a thread, together.", "pool",
                       lambda: {name: pool[1] for name, pool in self._pools().items()}, counts=True)
        metrics.family("executor_waiting", "Jobs that wait for a thread.", "pool",
                       lambda: {name: pool[2] for name, pool in self._pools().items()})

    def _pools(self) -> dict[str, tuple[int, float, int]]:
        return {pool.name: (pool.jobs, pool.waited_s, pool.waiting)
                for store in list(self._stores.values()) if isinstance(store, Measured) for pool in store.pools}

    async def refresh(self) -> None:
        """Ask the parts again, where the last answer is old."""
        async with self._refreshing:
            now = self._monotonic()
            if now - self._parts_at >= PARTS_S:
                await asyncio.gather(*(self._ask(part, probe) for part, probe in self._probes.items()))
                await self._ask_free()
                self._parts_at = now
            if now - self._counts_at >= COUNTS_S:
                try:
                    async with asyncio.timeout(ANSWER_S):
                        stats = await self._count()
                except (HyperSendError, TimeoutError):
                    return  # `part_up` says so
                self._counted = {name: float(getattr(stats, name)) for name in Stats.__struct_fields__}
                self._counts_at = now

    async def _ask(self, part: str, probe: Callable[[], Awaitable[None]]) -> None:
        began = self._monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                await probe()
        except (HyperSendError, TimeoutError):
            self._up[part] = 0
        else:
            self._up[part] = 1
        self._seconds[part] = self._monotonic() - began

    async def _ask_free(self) -> None:
        for name, store in list(self._stores.items()):
            try:
                async with asyncio.timeout(ANSWER_S):
                    free = await store.free_bytes()
            except (StorageError, TimeoutError):
                self._free.pop(name, None)
            else:
                if free is not None:
                    self._free[name] = free
