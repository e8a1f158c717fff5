"""The server processes over one database, each known by a lease that it renews.

A process that stops gives its lease back. One that dies leaves it to lapse, and may have committed what it never
told: the others then tell their clients to sync. A second lease, JOBS, makes one of them do the recurring work; it
passes on when its holder stops or dies. Times are the processes' own clocks: these must agree to a few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.server import ServerRecords

BEAT_S = 3.0
LEASE_S = 12.0
FORGET_AFTER_MS = 3_600_000  # every process has long looked at it by then
PREFIX = "process:"
JOBS = "jobs"

PeerEnded = Callable[[str, bool], None]
"""(process, whether it died): it is not there any more."""

log = logging.getLogger(__name__)


class Peers:
    """name: of this process. takes_jobs: whether it may hold JOBS."""

    def __init__(
        self, records: ServerRecords, name: str, ended: PeerEnded, clock: Clock, *, takes_jobs: bool,
        beat_s: float = BEAT_S, lease_s: float = LEASE_S,
    ) -> None:
        self._records = records
        self._name = name
        self._ended = ended
        self._clock = clock
        self._takes_jobs = takes_jobs
        self._beat_s = beat_s
        self._lease_ms = round(lease_s * 1000)
        self._alive: set[str] = set()
        self._jobs_until = 0
        self._judge_from = 0
        self._beating: asyncio.Task[None] | None = None

    @property
    def others(self) -> frozenset[str]:
        """Names of the other processes that live."""
        return frozenset(self._alive)

    def does_jobs(self) -> bool:
        """Whether recurring work is this process's at the moment."""
        return self._clock() < self._jobs_until

    def when_chosen(self, job: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        """The job, done only while it is this process's turn."""
        async def run() -> None:
            if self.does_jobs():
                await job()

        run.__qualname__ = getattr(job, "__qualname__", repr(job))
        return run

    async def start(self) -> None:
        """Raises: `metadata_unavailable`."""
        await self.beat()
        self._beating = asyncio.create_task(self._beat_on())

    async def _beat_on(self) -> None:
        while True:
            await asyncio.sleep(self._beat_s)
            try:
                await self.beat()
            except HyperSendError as error:
                log.warning("the lease of this process was not renewed: %s", error)
                # While the database was away nobody renewed: that somebody lapsed then says nothing.
                self._judge_from = self._clock() + self._lease_ms
            except Exception:
                log.exception("the lease of this process was not renewed")

    async def beat(self) -> None:
        """Renew, and see who is there."""
        now = self._clock()
        if self._takes_jobs and await self._records.take_lease(JOBS, self._name, now, self._lease_ms):
            self._jobs_until = now + self._lease_ms
        await self._records.take_lease(PREFIX + self._name, self._name, now, self._lease_ms)
        listed = {name.removeprefix(PREFIX): ends for name, ends in await self._records.leases(PREFIX)}
        for name, ends in listed.items():
            if name == self._name:
                continue
            if ends > now:
                self._alive.add(name)
            elif name in self._alive and now >= self._judge_from:
                self._alive.discard(name)
                log.warning("server process %s has died", name)
                self._ended(name, True)
            elif ends < now - FORGET_AFTER_MS:
                await self._records.forget_lease(PREFIX + name, now - FORGET_AFTER_MS)
        for name in self._alive - listed.keys():
            self._alive.discard(name)
            log.info("server process %s has stopped", name)
            self._ended(name, False)

    async def close(self) -> None:
        """Give the leases back: this is no death."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        self._jobs_until = 0
        with suppress(HyperSendError):
            await self._records.release_lease(PREFIX + self._name, self._name)
            await self._records.release_lease(JOBS, self._name)
