"""The session of one account: its access token, refreshed once for all who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from hypersend_client.sdk.errors import ApiError, NotHyperSend, SignedOut
from hypersend_client.sdk.models import text_of
from hypersend_client.sdk.tokens import Account, TokenStore

Refresh = Callable[[str], Awaitable[dict[str, Any]]]
"""POST /auth/refresh with this refresh token; answers the Session's JSON."""

EARLY_S = 30.0
MAX_LIFE_S = 10 * 365 * 86400
ENDED = frozenset({"refresh_reused", "session_ended", "token_invalid", "unauthenticated", "account_disabled"})


class Session:
    """Implements transport.Auth over a token store.

    When a token expires is judged by `expires_in` and the monotonic clock, in the process that got it; a
    token read from the store is used until the server calls it expired. The wall clock is never asked:
    phones have it wrong.

    before: awaited before a token is first given out, so that no token goes to a server it does not belong
    to.
    """

    def __init__(
        self,
        store: TokenStore,
        refresh: Refresh,
        *,
        before: Callable[[], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._refresh = refresh
        self._before = before
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._good_until: float | None = None
        self._listeners: list[Callable[[str], None]] = []
        self.account: Account | None = None

    def on_signed_out(self, listener: Callable[[str], None]) -> None:
        """`listener(reason)` is called once when the session ends other than by `forget`."""
        self._listeners.append(listener)

    async def begin(self, account: Account, expires_in: float | None = None) -> None:
        """Use this account from now on. expires_in: seconds, where the token was just given out."""
        await self._store.put(account)
        self.adopt(account, expires_in)

    def adopt(self, account: Account, expires_in: float | None = None) -> None:
        self.account = account
        self._good_until = None if expires_in is None else self._monotonic() + expires_in

    async def forget(self) -> None:
        """Remove it from this device."""
        account, self.account, self._good_until = self.account, None, None
        if account is not None:
            await self._store.remove(*account.key)

    async def token(self) -> str:
        await self._before()
        account = self.account
        if account is None:
            raise SignedOut
        if self._good_until is not None and self._monotonic() > self._good_until - EARLY_S:
            return await self.renew(account.access_token)
        return account.access_token

    async def renew(self, refused: str) -> str:
        async with self._lock:
            mine = self.account
            if mine is None:
                raise SignedOut
            if mine.access_token != refused:
                return mine.access_token  # somebody who waited before us did it
            async with self._store.refreshing(*mine.key):
                stored = await self._store.get(*mine.key)
                if stored is None:
                    await self._end("session_ended")  # another program signed out
                    raise SignedOut("session_ended")
                if stored.access_token != refused:
                    self.adopt(stored)
                    return stored.access_token
                try:
                    answer = await self._refresh(stored.refresh_token)
                except ApiError as error:
                    if error.code in ENDED:
                        await self._end(error.code)
                        raise SignedOut(error.code) from error
                    raise
                renewed = renew_account(stored, answer)
                await self._store.put(renewed)
                self.adopt(renewed, _expires_in(answer))
                return renewed.access_token

    async def ended(self, refused: str, reason: str) -> None:
        async with self._lock:
            mine = self.account
            if mine is None:
                raise SignedOut(reason)
            stored = await self._store.get(*mine.key)
            if stored is not None and stored.session_id != mine.session_id:
                self.adopt(stored)  # another program has signed in again meanwhile
                return
            if mine.access_token == refused:
                await self._end(reason)
                raise SignedOut(reason)

    async def _end(self, reason: str) -> None:
        await self.forget()
        for listener in self._listeners:
            listener(reason)


def account_of(answer: Any, *, server_id: str, url: str) -> tuple[Account, float | None]:
    """The Account in a Session's JSON, and the seconds that its token lives. Raises: NotHyperSend."""
    try:
        user = answer["user"]
        account = Account(
            server_id=server_id,
            user_id=text_of(user["id"]),
            url=url,
            session_id=text_of(answer["session_id"]),
            access_token=_token(answer["access_token"]),
            refresh_token=_token(answer["refresh_token"]),
            email=text_of(user.get("email") or ""),
            username=text_of(user.get("username") or ""),
            display_name=text_of(user.get("display_name") or ""),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NotHyperSend(url, "the session cannot be read") from error
    return account, _expires_in(answer)


def renew_account(account: Account, answer: Any) -> Account:
    renewed, _ = account_of(answer, server_id=account.server_id, url=account.url)
    return replace(renewed, user_id=account.user_id)


def _expires_in(answer: dict[str, Any]) -> float | None:
    seconds = answer.get("expires_in")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        return None
    return float(max(0, min(seconds, MAX_LIFE_S)))


def _token(value: Any) -> str:
    """Raises: ValueError where it could not stand in a header."""
    text = text_of(value)
    if not text.isascii() or not text.isprintable():
        raise ValueError("a token is needed")
    return text
