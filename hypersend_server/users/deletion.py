"""The end of an account: marked and signed out first, then taken apart; whatever cuts it off, it is finished later."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.accounts import Accounts
from hypersend_server.metadata.server import AuditEntry
from hypersend_server.realtime.events import Bus, SessionsEnded
from hypersend_server.users.types import Deleted

Forget = Callable[[str], Awaitable[Mapping[str, int]]]
"""Removes what one room has of a person and counts it; repeating it is harmless."""

log = logging.getLogger(__name__)


class AccountDeletion:
    """forget: by room. Group messages stay, without a sender; one's own files go."""

    def __init__(self, accounts: Accounts, bus: Bus, clock: Clock, *forget: Forget) -> None:
        self._accounts = accounts
        self._bus = bus
        self._clock = clock
        self._forget = forget

    async def delete(self, user_id: str, audit: AuditEntry | None = None) -> Deleted:
        """Raises: `not_found`, `last_admin`."""
        ended = await self._accounts.begin_deletion(user_id, now_ms=self._clock(), audit=audit)
        if ended:
            self._bus.publish(SessionsEnded(user_id, ended))
        return Deleted(user_id=user_id, removed={"sessions": len(ended), **await self._finish(user_id)})

    async def _finish(self, user_id: str) -> dict[str, int]:
        removed: dict[str, int] = {}
        for forget in self._forget:
            removed.update(await forget(user_id))
        # Last, since the e-mail that is still there is what marks an unfinished one.
        await self._accounts.finish_deletion(user_id)
        return removed

    async def resume(self) -> None:
        """Finish what was cut off; at start, and now and then."""
        for user_id in await self._accounts.unfinished_deletions():
            try:
                await self._finish(user_id)
            except HyperSendError as error:
                log.warning("the deletion of account %s goes on later: %s", user_id, error)
