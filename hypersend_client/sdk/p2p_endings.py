"""What is over for this device, until the server has heard of it.

A cancel without a network, and a `fail` that was lost with its line, wait in the journal until they are said: else the
other device would wait for days.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from hypersend_client.sdk.errors import ApiError, HyperSendError, LocalStorageFailed, SignedOut
from hypersend_client.sdk.p2p_calls import PeerCalls
from hypersend_client.sdk.p2p_journal import PeerJournal
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.tasks import report

SAY_S = 2.0
log = logging.getLogger(__name__)


class Endings:
    """backoff: makes what waits between tries."""

    def __init__(self, calls: PeerCalls, journal: PeerJournal, backoff: Callable[[], Backoff]) -> None:
        self._calls = calls
        self._journal = journal
        self._backoff = backoff
        self._saying: dict[str, asyncio.Task[None]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def say(self, account: tuple[str, str], transfer_id: str) -> None:
        """Answers once the server has heard it, and after SAY_S at the latest: then it goes on beside."""
        try:
            await self._journal.note_ending(account, transfer_id)
        except LocalStorageFailed as error:  # it is said all the same, as long as this program runs
            log.warning("noting that transfer %s is over: %s", transfer_id, error)
        await asyncio.wait({self._begin(account, transfer_id)}, timeout=SAY_S)

    def go_on(self, account: tuple[str, str]) -> None:
        """With what was not said yet, and at once."""
        self._hurry.set()
        self._hurry = asyncio.Event()
        self._reading = asyncio.create_task(self._read(account), name="hypersend p2p endings")
        self._reading.add_done_callback(report)

    async def stop(self) -> None:
        """For now; the journal lets it go on later."""
        tasks = [*self._saying.values(), *([] if self._reading is None else [self._reading])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, account: tuple[str, str]) -> None:
        for transfer_id in await self._journal.endings(account):
            self._begin(account, transfer_id)

    def _begin(self, account: tuple[str, str], transfer_id: str) -> asyncio.Task[None]:
        task = self._saying.get(transfer_id)
        if task is None or task.done():
            task = asyncio.create_task(self._say(account, transfer_id), name=f"the end of transfer {transfer_id}")
            task.add_done_callback(report)
            self._saying[transfer_id] = task
        return task

    async def _say(self, account: tuple[str, str], transfer_id: str) -> None:
        backoff = self._backoff()
        while True:
            hurry = self._hurry
            try:
                await self._calls.cancel(transfer_id)
                break
            except SignedOut:
                return
            except HyperSendError as error:
                if isinstance(error, ApiError) and error.status in (403, 404, 409, 410):
                    break  # over by now, or no longer ours
                wait_s = backoff.next_s(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await hurry.wait()
        await self._journal.drop_ending(account, transfer_id)
