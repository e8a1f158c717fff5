"""Limits on guessing passwords and codes: free failures, then delays that double. They survive a restart.

Signing in counts failures of the account (as typed, whether it exists or not) and of the address.
    - An account has 5 failures free, then waits 2, 4, 8 … seconds, up to 15 minutes.
    - An address has 20 failures free, then waits up to one minute: many people may share it, so a newcomer behind
      it is held up a minute at a time, and attempts that are refused do not prolong the wait.
    - Where an account has signed in from an address within 90 days, the two are counted as a pair, alone, like an
      account. So neither somebody else behind the same address (a company's, a carrier's) nor guesses at the
      account from elsewhere lock out a person who signs in from where they usually do.
Success clears the counts of the account or the pair, never those of the address. IPv6 counts by /64, since one
subscriber has all of it. Counts are forgotten a day after the last failure.

Attempts at one account run one after the other, and those of newcomers at one address NETWORK_AT_ONCE at a time, so a
thousand at once get hardly more tries than in a row.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from hypersend_server.clock import Clock
from hypersend_server.errors import HyperSendError
from hypersend_server.limits import network_of
from hypersend_server.metadata.accounts import Accounts, GuessLimit
from hypersend_server.signer import Signer

ACCOUNT_FREE = 5
ADDRESS_FREE = 20
REGISTERED_FREE = 100
CAP_S = 15 * 60
SHARED_CAP_S = 60
FORGET_AFTER_MS = 24 * 3_600_000
KNOWN_FOR_MS = 90 * FORGET_AFTER_MS
MAX_IN_LINE = 16
NETWORK_AT_ONCE = 4  # hashing takes a processor each, so more at once would be no sooner done
MAX_OF_NETWORK = 200


class Attempt:
    """One try; whoever made it says how it went."""

    def __init__(
        self,
        guesses: Guesses,
        limits: Sequence[GuessLimit],
        clear: Sequence[str],
        remember: str | None,
    ) -> None:
        self._guesses = guesses
        self._limits = limits
        self._clear = clear
        self._remember = remember

    async def failed(self) -> None:
        await self._guesses.count(self._limits)

    async def succeeded(self) -> None:
        await self._guesses.clear(self._clear, self._remember)


class Guesses:
    """Keys are keyed hashes: what people typed is not kept."""

    def __init__(self, accounts: Accounts, secret_key: str, clock: Clock, *, enabled: bool = True) -> None:
        self._accounts = accounts
        self._key = Signer(secret_key, "guesses").tag
        self._clock = clock
        self._enabled = enabled
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def signing_in(self, email_key: str, address: str) -> AsyncIterator[Attempt]:
        """Raises: `rate_limited`."""
        network = network_of(address)
        account = self._key(f"account {email_key}")
        pair = GuessLimit(self._key(f"pair {network} {email_key}"), ACCOUNT_FREE, CAP_S)
        known = self._key(f"known {network} {email_key}")
        async with self._in_line(account):
            if self._enabled and await self._accounts.is_known(known):
                await self.check([pair])
                yield Attempt(self, [pair], [pair.key], known)
                return
            shared = GuessLimit(self._key(f"address {network}"), ADDRESS_FREE, SHARED_CAP_S)
            async with self._in_line(shared.key, NETWORK_AT_ONCE, MAX_OF_NETWORK):
                limits = [GuessLimit(account, ACCOUNT_FREE, CAP_S), shared]
                await self.check(limits)
                yield Attempt(self, limits, [account], known)

    @asynccontextmanager
    async def confirming(self, user_id: str) -> AsyncIterator[Attempt]:
        """Somebody who is signed in gives the password once more. Raises: `rate_limited`."""
        limit = GuessLimit(self._key(f"confirm {user_id}"), ACCOUNT_FREE, CAP_S)
        async with self._in_line(limit.key):
            await self.check([limit])
            yield Attempt(self, [limit], [limit.key], None)

    def of_code(self, kind: str, address: str) -> list[GuessLimit]:
        """Limits on trying codes of a kind (reset, register) from an address."""
        return [GuessLimit(self._key(f"{kind} {network_of(address)}"), ADDRESS_FREE, CAP_S)]

    def of_registered(self, address: str) -> list[GuessLimit]:
        """Limits on accounts made from an address; here a success is what counts."""
        return [GuessLimit(self._key(f"registered {network_of(address)}"), REGISTERED_FREE, SHARED_CAP_S)]

    async def check(self, limits: Sequence[GuessLimit]) -> None:
        """Raises: `rate_limited` with the seconds to wait."""
        if not self._enabled:
            return
        wait_ms = await self._accounts.guess_wait(limits, now_ms=self._clock())
        if wait_ms > 0:
            raise HyperSendError(
                "rate_limited",
                "Too many failed attempts; wait before the next one.",
                retry_after_s=math.ceil(wait_ms / 1000),
            )

    async def count(self, limits: Sequence[GuessLimit]) -> None:
        if self._enabled:
            await self._accounts.guess_failed(limits, now_ms=self._clock(), forget_after_ms=FORGET_AFTER_MS)

    async def clear(self, keys: Sequence[str], remember: str | None = None) -> None:
        if self._enabled:
            await self._accounts.guess_succeeded(keys, now_ms=self._clock(), remember=remember)

    @asynccontextmanager
    async def _in_line(self, key: str, at_once: int = 1, most: int = MAX_IN_LINE) -> AsyncIterator[None]:
        """So many at a time for a key. Raises: `rate_limited` where the line is long."""
        line = self._lines.setdefault(key, _Line(at_once))
        if line.inside > most:
            raise HyperSendError("rate_limited", "Too many attempts at once.")
        line.inside += 1
        try:
            async with line.turn:
                yield
        finally:
            line.inside -= 1
            if line.inside == 0:
                del self._lines[key]


class _Line:
    def __init__(self, at_once: int) -> None:
        self.turn = asyncio.Semaphore(at_once)
        self.inside = 0
