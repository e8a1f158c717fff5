"""When the network comes back, what waits goes on at once, however long it had meant to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.sdk import transfer
from hypersend_client.sdk.errors import ConnectionFailed, HyperSendError
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.transfer import Transfer
from tests.harness import running
from tests.p2p_sdk.pairs import LIMIT_S, Pair, both, until
from tests.sdk_transfers.device import MIB, device, digest
from tests.sdk_transfers.line import Line, line_to

LONG_S = 4.0
NEVER_S = 3600.0


class Waits:
    """Those of one end between its tries: (how long it meant to wait, how long it did, or None while it waits)."""

    def __init__(self, end: Transfer[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[list[float | None]] = []
        draw, wait_out = Backoff.next_s, Transfer._wait_out

        def next_s(own: Backoff, error: HyperSendError | None = None) -> float:
            found = draw(own, error)
            if own in self._own:
                self.seen.append([found, None])
            return found

        async def noted(own: Transfer[Any], error: HyperSendError, backoff: Backoff) -> None:
            if own is not end:
                return await wait_out(own, error, backoff)
            self._own.add(backoff)
            began = asyncio.get_running_loop().time()
            await wait_out(own, error, backoff)
            self.seen[-1][1] = asyncio.get_running_loop().time() - began

        self._own: set[Backoff] = set()
        monkeypatch.setattr(Backoff, "next_s", next_s)
        monkeypatch.setattr(Transfer, "_wait_out", noted)

    @property
    def is_long(self) -> bool:
        """Whether it is about to wait for long."""
        return bool(self.seen) and (self.seen[-1][0] or 0) >= LONG_S and self.seen[-1][1] is None


@asynccontextmanager
async def on_a_line(home: Path) -> AsyncIterator[tuple[Pair, Line]]:
    """Ben is on it, with the product's own delays, and his account's socket is there."""
    async with (
        running(home / "data", RATE_LIMITS="off") as server, line_to(server.url) as line,
        device(home / "asha", server.url, "asha") as asha,
        device(home / "ben", line.url, "ben", patient=True) as ben,
    ):
        account = ben.hs.account
        assert account is not None
        ben.hs.p2p.direct = asha.hs.p2p.direct = False
        ben.hs.connection.start()
        await ben.hs.connection.wait_online()
        line.bytes_per_s = 6 * MIB
        yield Pair(asha, ben, (await asha.hs.chats.open_direct(account.user_id)).id), line


async def begun(two: Pair, path: Path) -> tuple[Any, PeerReceiver]:
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.done_bytes > MIB)
    return sending, receiving


async def test_transfer_goes_on_when_the_accounts_own_socket_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_a_line(tmp_path) as (two, line):
        path = two.asha.file("film.mkv", 24 * MIB)
        sending, receiving = await begun(two, path)
        waits = Waits(receiving, monkeypatch)
        line.is_open = False
        line.cut()
        await until(lambda: waits.is_long)
        number = len(waits.seen) - 1
        line.is_open, line.bytes_per_s = True, None
        two.ben.hs.connection.network_changed()  # its own delay is not what this is about
        await two.ben.hs.connection.wait_online()
        assert digest(await both(sending, receiving)) == digest(path)
        meant_s, waited_s = waits.seen[number]
        assert meant_s is not None
        assert waited_s is not None
        assert waited_s < meant_s


async def test_what_was_asked_while_the_network_was_away_is_asked_anew(tmp_path: Path) -> None:
    async with on_a_line(tmp_path) as (two, line):
        path = two.asha.file("film.mkv", 24 * MIB)
        sending, receiving = await begun(two, path)
        two.ben.hs.transport.answer_s = two.ben.hs.transport.connect_s = NEVER_S
        line.silent_after = -1
        line.cut()
        await until(lambda: receiving.state == "running" and receiving._round is None)
        await line.until_still()
        line.silent_after = line.bytes_per_s = None
        two.ben.hs.p2p.network_changed()
        assert digest(await both(sending, receiving)) == digest(path)


async def test_what_fails_soon_after_the_network_came_back_waits_little(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(Transfer[None]):
        async def _transfer(self) -> None:
            pass

        async def _discard(self) -> None:
            pass

    monkeypatch.setattr(transfer, "FRESH_WAIT_S", 0.0)
    now = [0.0]
    bare = Bare(name="a", turn=asyncio.Semaphore(), limits=(), backoff=Backoff, monotonic=lambda: now[0])
    long = Backoff(NEVER_S, NEVER_S)
    bare.network_changed()
    async with asyncio.timeout(LIMIT_S):
        await bare._wait_out(ConnectionFailed("it was begun before"), long)
    now[0] += transfer.FRESH_S + 1
    waiting = asyncio.create_task(bare._wait_out(ConnectionFailed("later"), long))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.shield(waiting)
    bare.network_changed()
    async with asyncio.timeout(LIMIT_S):
        await waiting
