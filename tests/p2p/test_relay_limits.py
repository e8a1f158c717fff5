"""What the relay lets through: no more than was offered, news not too often, and everybody a share."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from hypersend_server.app import RELAY
from hypersend_server.p2p import meeting, relay, wire
from tests.harness import Server
from tests.p2p.pair import FRAME, KEY, End, end, meet, pair, push

SLACK = 4 * 1024 * 1024


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a whole installation allows, so that it is soon used up."""
    monkeypatch.setattr(meeting, "SLACK_BYTES", SLACK)


@pytest.mark.usefixtures("slack")
@pytest.mark.parametrize("way", ["sender", "receiver"])
@pytest.mark.parametrize("is_met", [True, False])
async def test_more_than_was_offered_closes_its_end(server: Server, way: str, is_met: bool) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    other: End | None = None
    if is_met:  # and both have been told: a round that begins later counts anew
        sender, receiver, _ = await meet(both, transfer["id"])
        pushing, other = (sender, receiver) if way == "sender" else (receiver, sender)
    else:
        pushing = await end(both.asha if way == "sender" else both.ben, way, transfer["id"])
    dropping = None if other is None else asyncio.create_task(other.closed())
    with contextlib.suppress(ConnectionError):
        for _ in range(16 * SLACK // FRAME):
            await pushing.ws.send_bytes(bytes(FRAME))
    assert await pushing.closed() == wire.BAD_FRAME
    assert SLACK < server.app[RELAY].relayed_bytes < SLACK * 1.1
    if other is not None and dropping is not None:
        assert not dropping.done()
        dropping.cancel()
        assert await both.status(transfer["id"]) == transfer


@pytest.mark.usefixtures("slack")
async def test_more_than_was_offered_in_fragments_closes_its_end_too(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    sender = await end(both.asha, "sender", transfer["id"])
    transport = sender.ws._response.connection.transport  # type: ignore[union-attr]
    one, other = (bytes((kind, 0xFE)) + (30_000).to_bytes(2, "big") + bytes(4 + 30_000) for kind in (0x02, 0x80))
    for _ in range(2 * SLACK // 60_000):
        transport.write(one + other)  # type: ignore[union-attr]
        await asyncio.sleep(0)
    assert await sender.closed() == wire.BAD_FRAME


@pytest.mark.usefixtures("slack")
async def test_blanks_in_what_an_end_says_count_as_well(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    sender, receiver, _ = await meet(both, transfer["id"])
    dropping = asyncio.create_task(sender.until("peer"))
    padded = '{"type":"ack","offset":0}'.ljust(wire.MAX_TEXT_BYTES)
    with contextlib.suppress(ConnectionError):
        for _ in range(4 * SLACK // len(padded)):
            await receiver.ws.send_str(padded)
    assert await receiver.closed() == wire.BAD_FRAME
    assert (await dropping)["present"] is False
    assert server.app[RELAY].relayed_bytes == 0  # of files


@pytest.mark.usefixtures("slack")
async def test_each_round_may_bring_the_whole_file(server: Server) -> None:
    both = await pair(server)
    size = SLACK
    transfer = await both.accepted(size)
    sender, receiver, _ = await meet(both, transfer["id"])
    for _ in range(4):
        for _ in range(size // 65_536):
            await sender.ws.send_bytes(bytes(FRAME))
            assert len(await receiver.next()) == FRAME  # type: ignore[arg-type]
        receiver = await end(both.ben, "receiver", transfer["id"])
        while not (await sender.until("peer"))["present"]:
            pass
        await receiver.until("peer")


async def test_people_hear_of_progress_twice_a_second_at_most(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10_000)
    _, receiver, number = await meet(both, transfer["id"])
    socket = await both.asha.socket()
    loop = asyncio.get_running_loop()
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    began = loop.time()
    for offset in range(1, 301):
        await receiver.send(type="ack", offset=offset)
        await asyncio.sleep(0.005)
    told = []
    while not told or told[-1] < 300:
        told.append((await socket.until("transfer"))["transfer"]["transferred_bytes"])
    assert told == sorted(told)
    # One when it becomes active, and one as soon as there is something to tell.
    assert 3 <= len(told) <= 2 + (loop.time() - began) / relay.TELL_S


async def test_transfers_share_a_busy_server_evenly(server: Server) -> None:
    both = await pair(server)
    passed = []

    async def pass_on(transfer_id: str) -> None:
        sender, receiver, _ = await meet(both, transfer_id)
        pushing = asyncio.create_task(push(sender))
        mine = len(passed)
        passed.append(0)
        try:
            while sum(passed) < 192 * 1024 * 1024:
                passed[mine] += len(await receiver.next())
        finally:
            pushing.cancel()

    transfers = [await both.accepted(10**9, client_id=f"k{number}") for number in range(3)]
    await asyncio.gather(*(pass_on(transfer["id"]) for transfer in transfers))
    assert min(passed) > max(passed) / 2
