"""The server processes over one database, each known by a lease that it renews.

A process that stops gives its lease back. One that dies leaves it to lapse, and may have committed what it never
told: the others then tell their clients to sync. A second lease, JOBS, makes one of them do the recurring work; it
passes on when its holder stops or dies. When a lease ends is written by its holder's clock, which may be wrong or have
been set since: a lease is taken by what is written, but whoever has looked at it once goes by whether it is renewed,
measured by their own monotonic clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.server import ServerRecords

BEAT_S = 3.0
LEASE_S = 12.0
FORGET_AFTER_S = 3600.0  # every process has long looked at it by then
PREFIX = "process:"
JOBS = "jobs"

PeerEnded = Callable[[str, bool], None]
"""(process, whether it died): it is not there any more."""

log = logging.getLogger(__name__)


class Peers:
    """name: of this process. takes_jobs: whether it may hold JOBS."""

    def __init__(
        self, records: ServerRecords, name: str, ended: PeerEnded, clock: Clock, *, takes_jobs: bool,
        beat_s: float = BEAT_S, lease_s: float = LEASE_S, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records = records
        self._name = name
        self._ended = ended
        self._clock = clock
        self._monotonic = monotonic
        self._takes_jobs = takes_jobs
        self._beat_s = beat_s
        self._lease_s = lease_s
        self._lease_ms = round(lease_s * 1000)
        self._seen: dict[str, tuple[int, float]] = {}  # lease → when it ends, as written; until when it counts as held
        self._alive: set[str] = set()
        self._jobs_until, self._jobs_end = 0.0, 0  # by the monotonic clock, which a suspended machine stops; as written
        self._judge_from = 0.0
        self._beating: asyncio.Task[None] | None = None

    @property
    def others(self) -> frozenset[str]:
        """Names of the other processes that live."""
        return frozenset(self._alive)

    def does_jobs(self) -> bool:
        """Whether recurring work is this process's at the moment."""
        return self._monotonic() < self._jobs_until and self._clock() < self._jobs_end

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
                self._judge_from = self._monotonic() + self._lease_s
            except Exception:
                log.exception("the lease of this process was not renewed")

    async def beat(self) -> None:
        """Renew, and see who is there."""
        now, at = self._clock(), self._monotonic()
        has_jobs = await self._take_jobs(now, at)
        await self._records.take_lease(PREFIX + self._name, self._name, now, self._lease_ms)
        leases = dict(await self._records.leases(""))
        self._seen = {name: (ends, self._held_until(name, ends, now, at)) for name, ends in leases.items()}
        may_judge = at >= self._judge_from
        if self._takes_jobs and not has_jobs and may_judge and JOBS in leases and self._seen[JOBS][1] <= at:
            await self._records.forget_lease(JOBS, leases[JOBS])  # its holder died, and its clock was ahead
            await self._take_jobs(now, at)
        listed = {name.removeprefix(PREFIX) for name in leases if name.startswith(PREFIX)} - {self._name}
        for name in listed:
            ends, until = self._seen[PREFIX + name]
            if until > at:
                self._alive.add(name)
            elif name not in self._alive:
                if until < at - FORGET_AFTER_S:
                    await self._records.forget_lease(PREFIX + name, ends)
            elif may_judge:
                self._alive.discard(name)
                log.warning("server process %s has died", name)
                self._ended(name, True)
        for name in self._alive - listed:
            self._alive.discard(name)
            log.info("server process %s has stopped", name)
            self._ended(name, False)

    async def _take_jobs(self, now: int, at: float) -> bool:
        """Whether this process has them from now on, or still."""
        has_jobs = self._takes_jobs and await self._records.take_lease(JOBS, self._name, now, self._lease_ms)
        self._jobs_until = at + self._lease_s if has_jobs else 0.0
        self._jobs_end = now + self._lease_ms
        return has_jobs

    def _held_until(self, name: str, ends: int, now: int, at: float) -> float:
        """Of a lease that ends then, as its holder wrote: until when it counts as held, by the monotonic clock."""
        before, until = self._seen.get(name, (None, 0.0))
        if before is None:  # the first look: there is only what is written
            return at + self._lease_s if ends > now else at
        return until if ends == before else at + self._lease_s

    async def close(self) -> None:
        """Give the leases back: this is no death."""
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating
        self._jobs_until = 0.0
        with suppress(HyperSendError):
            await self._records.release_lease(PREFIX + self._name, self._name)
            await self._records.release_lease(JOBS, self._name)
