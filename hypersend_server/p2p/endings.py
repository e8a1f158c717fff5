"""What ends elsewhere ends transfers with it: a session, a membership, a message, an account; and a block.

Sessions end in many places, also in other processes and by commands, and all of them say so on the bus. What a crash
left between a session's end, a block or a deleted message and its transfers is found by `sweep`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.transfers import TransferRecord, Transfers
from hypersend_server.realtime.events import AnyEvent, Bus, SessionsEnded

BATCH = 100
log = logging.getLogger(__name__)


class Endings:
    """withdraw: cancels the transfer of this id and tells its people; where it is over, nothing happens."""

    def __init__(self, transfers: Transfers, withdraw: Callable[[str], Awaitable[None]]) -> None:
        self._transfers = transfers
        self._withdraw = withdraw
        self._ended: deque[SessionsEnded] = deque()
        self._working: asyncio.Task[None] | None = None

    async def left(self, chat_id: str, user_ids: Collection[str]) -> None:
        """These people are no members any more: what they send or receive there is cancelled."""
        await self._all(lambda: self._transfers.open_between(chat_id, user_ids, BATCH))

    async def blocked(self, user_id: str, other_id: str) -> None:
        """One of these two blocks the other: nothing passes between them, either way."""
        await self._all(lambda: self._transfers.open_of_pair(user_id, other_id, BATCH))

    async def message_deleted(self, chat_id: str, message_id: str) -> None:
        """The message that offers it is gone for everyone: nobody is to come upon the offer in another way."""
        transfer = await self._transfers.of_message(chat_id, message_id)
        if transfer is not None:
            await self._withdraw(transfer.id)

    async def sessions_ended(self, user_id: str, session_ids: Collection[str]) -> None:
        """These devices of a person cannot come back: what they send or receive is cancelled."""
        await self._all(lambda: self._transfers.open_of_sessions(user_id, session_ids, BATCH))

    async def forget_user(self, user_id: str) -> dict[str, int]:
        """Cancel all that is open; how many that were."""
        return {"transfers_cancelled": await self._all(lambda: self._transfers.open_of(user_id, BATCH))}

    async def sweep(self) -> None:
        """Cancel what can never come to be, and was not found at its time."""
        await self._all(lambda: self._transfers.stranded(BATCH))

    async def _all(self, find: Callable[[], Awaitable[list[TransferRecord]]]) -> int:
        count = 0
        while found := await find():
            for transfer in found:
                await self._withdraw(transfer.id)
                count += 1
        return count

    # Sessions, as the bus tells of them

    def listen(self, bus: Bus) -> None:
        bus.subscribe(self._on_event)

    def _on_event(self, event: AnyEvent) -> None:
        if isinstance(event, SessionsEnded):
            self._ended.append(event)
            if self._working is None:
                self._working = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._ended:
                event = self._ended.popleft()
                try:
                    await self.sessions_ended(event.user_id, event.session_ids)
                except HyperSendError as error:
                    log.warning("transfers of sessions that ended are cancelled later: %s", error)
                except Exception:
                    log.exception("transfers of sessions that ended are cancelled later")
        finally:
            self._working = None

    async def close(self) -> None:
        """Wait for what was heard of."""
        if self._working is not None:
            await self._working
