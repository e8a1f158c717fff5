"""What was called off without a network: it shows so at once, and the other device hears it as soon as may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.sdk.errors import ConnectionFailed
from hypersend_client.sdk.transfer_errors import PeerEnded
from tests.harness import running
from tests.p2p_sdk.pairs import LIMIT_S, Pair, pair, until
from tests.sdk_transfers.device import MIB, Device, device, leftovers
from tests.sdk_transfers.line import Line, line_to


@pytest.fixture
async def lines(tmp_path: Path) -> AsyncIterator[tuple[Line, Line]]:
    """Asha's network, and Ben's."""
    async with (
        running(tmp_path / "data", RATE_LIMITS="off") as server,
        line_to(server.url) as one, line_to(server.url) as other,
    ):
        yield one, other


@pytest.fixture
async def two(tmp_path: Path, lines: tuple[Line, Line]) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "people", lines[0].url, lines[1].url) as two:
        yield two


async def called_off(two: Pair, line: Line, *, by_sender: bool) -> Any:
    """The other end of a transfer, which one called off without a network."""
    two.asha.hs.p2p.send_limit.bytes_per_s = 2 * MIB
    sending, receiving = await two.begin(two.asha.file("film.mkv", 32 * MIB))
    await until(lambda: receiving.verified_bytes > 0)
    line.is_open = False
    line.cut()
    mine, other = (sending, receiving) if by_sender else (receiving, sending)
    await (two.asha if by_sender else two.ben).hs.p2p.cancel(sending.transfer_id)
    assert mine.state == "cancelled"
    if not by_sender:
        assert leftovers(two.ben.home / "Downloads") == []
    return other


async def hears(other: Any) -> None:
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(PeerEnded) as caught:
            await other.wait()
    assert caught.value.status == "cancelled"


async def unsaid(here: Device) -> list[str]:
    account = here.hs.account
    assert account is not None
    return await here.hs.p2p._journal.endings(account.key)


async def until_said(here: Device) -> None:
    async with asyncio.timeout(LIMIT_S):
        while await unsaid(here):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("by_sender", [True, False])
async def test_cancel_without_a_network_is_said_when_it_is_back(
    two: Pair, lines: tuple[Line, Line], by_sender: bool
) -> None:
    line, here = (lines[0], two.asha) if by_sender else (lines[1], two.ben)
    other = await called_off(two, line, by_sender=by_sender)
    assert await unsaid(here) == [other.transfer_id]
    line.is_open = True
    await hears(other)
    await until_said(here)
    assert await here.hs.p2p.resume() == []


@pytest.mark.parametrize("way", ["resume", "online"])
async def test_cancel_without_a_network_outlives_the_program(
    two: Pair, lines: tuple[Line, Line], way: str
) -> None:
    other = await called_off(two, lines[1], by_sender=False)
    await two.ben.transfers.close()
    lines[1].is_open = True
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        if way == "resume":
            assert await ben.hs.p2p.resume() == []
        else:
            assert ben.hs.p2p.all == []  # it is made where it is first asked for
            ben.hs.connection.start()
        await hears(other)
        await until_said(ben)


@pytest.mark.parametrize("by_sender", [True, False])
async def test_another_program_calls_off_what_it_does_not_move_itself(
    two: Pair, lines: tuple[Line, Line], by_sender: bool
) -> None:
    """As `hypersend p2p cancel` does beside the program that sends or receives."""
    two.asha.hs.p2p.send_limit.bytes_per_s = 2 * MIB
    sending, receiving = await two.begin(two.asha.file("film.mkv", 32 * MIB))
    await until(lambda: receiving.verified_bytes > 0)
    line, here, other = (lines[0], two.asha, receiving) if by_sender else (lines[1], two.ben, sending)
    here.hs.connection.start()
    await until(lambda: here.hs.connection.state == "online")
    line.is_open = False
    line.cut()
    async with device(here.home, here.hs.transport.url) as beside:
        assert await beside.hs.p2p.cancel(sending.transfer_id) is False
        with pytest.raises(ConnectionFailed):
            await beside.hs.p2p.cancel("0" * 26)
    line.is_open = True
    await hears(other)
    await until_said(here)


async def test_what_is_over_meanwhile_or_gone_is_not_said_for_ever(two: Pair, lines: tuple[Line, Line]) -> None:
    other = await called_off(two, lines[1], by_sender=False)
    await two.ben.transfers.close()
    await other.cancel()
    lines[1].is_open = True
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        await ben.transfers.account()
        assert ben.hs.account is not None
        await ben.hs.p2p._journal.note_ending(ben.hs.account.key, "t-nobody-knows")
        assert len(await unsaid(ben)) == 2
        await ben.hs.p2p.resume()
        await until_said(ben)


async def test_what_failed_and_is_not_said_yet_does_not_go_on(two: Pair) -> None:
    """A cut line and the end of the program may come between."""
    sending = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("film.mkv", 1000))
    await sending.stop()
    await two.asha.transfers.close()
    async with device(two.asha.home, two.asha.hs.transport.url) as asha:
        await asha.transfers.account()
        assert asha.hs.account is not None
        await asha.hs.p2p._journal.note_ending(asha.hs.account.key, sending.transfer_id)
        assert await asha.hs.p2p.resume() == []
        await until_said(asha)
        assert (await two.status(sending.transfer_id)).status == "cancelled"
