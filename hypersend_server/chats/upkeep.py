"""What follows changes in chats without anybody waiting: the search index, and work that outlives a crash."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from hypersend_server.chats.present import ChatPresenter, encode
from hypersend_server.chats.publisher import Publisher
from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import Changed, Chats

INDEX_DELAY_S = 0.25  # so that a burst of messages is indexed in few transactions
RETRY_S = 5.0
BATCH = 50
log = logging.getLogger(__name__)


class Upkeep:
    def __init__(
        self,
        chats: Chats,
        publisher: Publisher,
        presenter: ChatPresenter,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._chats = chats
        self._publisher = publisher
        self._presenter = presenter
        self._clock = clock
        self._new_id = new_id
        self._due = asyncio.Event()
        self._jobs_due = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Go on with what the last process left."""
        self.jobs_due()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def indexing_due(self) -> None:
        self._due.set()

    def jobs_due(self) -> None:
        self._jobs_due = True
        self._due.set()

    async def _run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                if self._jobs_due:
                    self._jobs_due = False
                    await self.run_jobs()
                await asyncio.sleep(INDEX_DELAY_S)
                await self._chats.index_search()
            except HyperSendError as error:
                log.warning("upkeep of chats is tried again in %.0f s: %s", RETRY_S, error)
                await asyncio.sleep(RETRY_S)
                self.jobs_due()

    async def run_jobs(self) -> None:
        """Finish what is noted as due."""
        for kind, subject in await self._chats.pending_jobs():
            if kind == "restamp_file":
                await self.restamp_for_file(subject)
            elif kind == "forget_user":
                await self.forget_user(subject)
            else:
                while await self._chats.purge(subject, BATCH):
                    pass

    async def file_removed(self, file_id: str) -> None:
        """Each message that showed the file changes, now or, where that fails, later: the file is gone already."""
        try:
            await self.restamp_for_file(file_id)
        except HyperSendError as error:
            log.warning("messages that showed file %s change later: %s", file_id, error)
            self.jobs_due()

    async def restamp_for_file(self, file_id: str) -> None:
        """Each message that showed the file takes its chat's next rev, and its readers hear of it."""
        while changed := await self._chats.restamp_for_file(file_id, BATCH):
            self._tell(changed)

    async def forget_user(self, user_id: str) -> dict[str, int]:
        """Leave all chats, then take the sender from what was said. Returns: counts for the person."""
        groups_left = chats_closed = messages = 0
        async for change in self._chats.forget_user(user_id, self._new_id, self._clock()):
            if change is None:
                chats_closed += 1
            else:
                groups_left += 1
                await self._publisher.group_changed(change)
        while changed := await self._chats.forget_sender(user_id, BATCH):
            messages += len(changed)
            self._tell(changed)
        self.jobs_due()  # the saved chat, and groups that nobody is left in
        return {
            "groups_left": groups_left,
            "chats_closed": chats_closed,
            "messages_without_sender": messages,
        }

    def _tell(self, changed: list[Changed]) -> None:
        for one in changed:
            self._publisher.changed(one, encode(self._presenter.message(one.message)))
