"""Devices that see each other speak without the relay; it stays the way that always works."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hypersend_client.sdk import lines, p2p_direct
from hypersend_client.sdk.p2p_direct import Channel, Listener, connect, told_addresses
from hypersend_client.sdk.p2p_line import MessageLine
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.p2p_seal import Handshake, encode_key
from hypersend_client.sdk.p2p_sender import PeerSender
from tests.harness import Server, running
from tests.p2p_sdk.pairs import LIMIT_S, Pair, both, pair, until
from tests.sdk_transfers.device import MIB, digest
from tests.sdk_transfers.line import Line, line_to

ASHA, BEN, MALLORY = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
HELLO = {"transfer": "t", "round": 1}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def line(server: Server) -> AsyncIterator[Line]:
    """Ben's."""
    async with line_to(server.url) as line:
        yield line


@pytest.fixture
async def two(tmp_path: Path, server: Server, line: Line) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "people", server.url, line.url, direct=True) as two:
        yield two


async def test_bytes_go_directly_where_the_devices_see_each_other(two: Pair, line: Line, server: Server) -> None:
    line.bytes_per_s = 8 * MIB  # of the relay alone
    path = two.asha.file("film.mkv", 64 * MIB)
    sending, receiving = await two.begin(path)
    await until(lambda: sending.is_direct and receiving.is_direct)
    assert (await two.status(sending.transfer_id)).status == "active"
    found = await both(sending, receiving)
    assert digest(found) == digest(path)
    assert sending.is_confirmed
    assert line.down_bytes < 32 * MIB
    done = await two.status(sending.transfer_id)
    assert (done.status, done.transferred_bytes) == ("done", 64 * MIB)


@pytest.mark.parametrize("slow", ["sender", "receiver"])  # waits for its limit, lets the sender wait for room
async def test_direct_connection_that_breaks_gives_way_to_the_relay_and_loses_nothing(two: Pair, slow: str) -> None:
    path = two.asha.file("film.mkv", 192 * MIB)
    limit = two.asha.hs.p2p.send_limit if slow == "sender" else two.ben.hs.p2p.receive_limit
    limit.bytes_per_s = 16 * MIB  # there is enough left for the second one, however late
    sending, receiving = await two.begin(path)
    for losses in (1, 2):  # after the second one it stays with the relay
        await until(lambda: sending.is_direct and receiving.is_direct)
        verified = receiving.verified_bytes
        await until(lambda verified=verified: receiving.verified_bytes > verified)
        assert sending._channel is not None
        sending._channel.close()
        await until(lambda losses=losses: receiving.rounds > losses)
    limit.bytes_per_s = None
    assert digest(await both(sending, receiving)) == digest(path)
    assert not receiving.is_direct


def shake(role: str, device: X25519PrivateKey, peer: X25519PrivateKey) -> Handshake:
    return Handshake(
        "sender" if role == "sender" else "receiver", device, peer.public_key().public_bytes_raw(),
        transfer_id="t", round_=1, cipher="aes-256-gcm", way="direct")


class Door:
    """A listener of Ben's, and who was let in."""

    def __init__(self) -> None:
        self.guests: list[Channel] = []
        self.came = asyncio.Event()
        self.heard = asyncio.Queue[bytes]()
        self.listener = Listener(HELLO, lambda: shake("receiver", BEN, ASHA), self._found)

    async def _found(self, channel: Channel) -> None:
        self.guests.append(channel)
        self.came.set()
        self.heard.put_nowait(await channel.receive())


@pytest.fixture
async def door() -> AsyncIterator[tuple[Door, p2p_direct.Address]]:
    door = Door()
    (address,) = await door.listener.open(["127.0.0.1"])
    try:
        yield door, address
    finally:
        await door.listener.close()


async def test_the_other_device_is_let_in(door: tuple[Door, p2p_direct.Address]) -> None:
    channel = await connect([door[1]], HELLO, lambda: shake("sender", ASHA, BEN))
    assert channel is not None
    async with asyncio.timeout(LIMIT_S):
        await door[0].came.wait()
    channel.close()


@pytest.mark.parametrize("stranger", ["another key", "another transfer", "no key", "noise", "a very long message"])
async def test_stranger_who_connects_is_dropped_and_the_other_device_still_gets_in(
    door: tuple[Door, p2p_direct.Address], stranger: str
) -> None:
    match stranger:
        case "another key":
            assert await connect([door[1]], HELLO, lambda: shake("sender", MALLORY, BEN)) is None
        case "another transfer":
            assert await connect([door[1]], {**HELLO, "transfer": "x"}, lambda: shake("sender", ASHA, BEN)) is None
        case _:
            hello = {"no key": json.dumps({**HELLO, "key": encode_key(bytes(32)), "cipher": "aes-256-gcm"}).encode(),
                     "noise": os.urandom(500), "a very long message": b""}[stranger]
            reader, writer = await asyncio.open_connection(*door[1])
            length = len(hello) or 2**31
            writer.write(length.to_bytes(4, "big") + hello)
            async with asyncio.timeout(LIMIT_S):
                try:
                    assert await reader.read() == b""
                except ConnectionError:
                    pass  # dropped is dropped
            writer.transport.abort()
    assert door[0].guests == []
    channel = await connect([door[1]], HELLO, lambda: shake("sender", ASHA, BEN))
    assert channel is not None
    channel.close()


async def test_address_that_leads_to_somebody_else_leads_nowhere(door: tuple[Door, p2p_direct.Address]) -> None:
    async def answer(line: MessageLine) -> None:
        """Somebody who would like to be Ben."""
        channel = Channel(line)
        try:
            await channel.answer(shake("receiver", MALLORY, ASHA), json.loads(await channel.receive()))
        except Exception as error:
            refused.append(error)
        finally:
            channel.close()

    refused: list[Exception] = []
    answering: list[asyncio.Task[None]] = []
    other = await asyncio.get_running_loop().create_server(
        lambda: MessageLine(lambda line: answering.append(asyncio.create_task(answer(line)))), "127.0.0.1", 0)
    false = other.sockets[0].getsockname()[:2]
    assert await connect([false], HELLO, lambda: shake("sender", ASHA, BEN)) is None
    assert refused
    channel = await connect([false, door[1]], HELLO, lambda: shake("sender", ASHA, BEN))
    assert channel is not None
    channel.close()
    other.close()


async def test_the_connection_that_is_used_is_the_one_that_the_receiver_took(
    door: tuple[Door, p2p_direct.Address]
) -> None:
    for _ in range(20):
        door[0].listener._is_taken = False
        door[0].guests.clear()
        door[0].came.clear()
        channel = await connect([door[1]] * 6, HELLO, lambda: shake("sender", ASHA, BEN))
        assert channel is not None
        async with asyncio.timeout(LIMIT_S):
            await door[0].came.wait()
        assert len(door[0].guests) == 1
        await channel.send(b"hello")
        assert await asyncio.wait_for(door[0].heard.get(), LIMIT_S) == b"hello"
        channel.close()


async def test_direct_connection_that_is_lost_at_once_leaves_it_to_the_relay(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave(self: PeerReceiver, channel: Channel) -> None:
        pass  # which closes the channel

    monkeypatch.setattr(PeerReceiver, "_take_direct", leave)
    for number in range(6):
        path = two.asha.file(f"{number}.mkv", 6 * MIB)
        assert digest(await both(*await two.begin(path))) == digest(path)


async def test_direct_line_that_goes_dead_without_a_word_gives_way_to_the_relay(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's answer, that nobody is there, is the test's; that it is asked and heard is the product's."""
    two.asha.hs.p2p.send_limit.bytes_per_s = 8 * MIB
    path = two.asha.file("film.mkv", 32 * MIB)
    sending, receiving = await two.begin(path)
    await until(lambda: sending.is_direct and receiving.is_direct and receiving.verified_bytes > 0)
    ports = {sending._channel.line.get_extra_info("peername")[1]}  # type: ignore[union-attr]
    is_dead = lines.Look.is_dead
    monkeypatch.setattr(lines.Look, "is_dead", lambda self: (
        self._sock.getpeername()[1] in ports or self._sock.getsockname()[1] in ports or is_dead(self)))
    await until(lambda: receiving.rounds > 1)
    monkeypatch.setattr(lines.Look, "is_dead", is_dead)
    two.asha.hs.p2p.send_limit.bytes_per_s = None
    assert digest(await both(sending, receiving)) == digest(path)


async def test_mistake_of_ours_ends_the_transfer_for_all_to_see(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise AssertionError("a mistake")

    monkeypatch.setattr(PeerSender, "_pump", fail)
    sending, receiving = await two.begin(two.asha.file("film.mkv", MIB))
    async with asyncio.timeout(LIMIT_S):
        states = [progress.state async for progress in sending.updates()]
        assert states[-1] == "failed"
        with pytest.raises(AssertionError, match="a mistake"):
            await sending.wait()
    await receiving.stop()


def test_only_addresses_of_a_network_at_home_are_tried() -> None:
    told = [["192.168.1.5", 4000], ["fd12::1", 4000], ["8.8.8.8", 53], ["127.0.0.1", 22], ["0.0.0.0", 1],
            ["224.0.0.1", 5], ["::ffff:127.0.0.1", 22], ["::ffff:0.0.0.0", 22], ["::ffff:8.8.8.8", 53],
            ["192.0.2.1", 9], ["198.18.0.1", 9], ["240.0.0.1", 9], ["64:ff9b:1::808:808", 1], ["example.org", 80],
            ["10.0.0.1", 0], ["10.0.0.1", 70000], ["10.0.0.1"], "x", None]
    assert told_addresses(told, loopback=False) == [("192.168.1.5", 4000), ("fd12::1", 4000)]
    assert ("127.0.0.1", 22) in told_addresses(told, loopback=True)
    assert told_addresses("nonsense", loopback=True) == []
    assert len(told_addresses([["10.0.0.1", 1000 + n] for n in range(99)], loopback=False)) == 12


async def test_listener_that_is_given_up_while_it_opens_leaves_nothing_listening() -> None:
    async def nobody(channel: Channel) -> None:
        raise AssertionError("nobody is to come")

    def never() -> Handshake:
        raise AssertionError("nobody is to come")

    before = len(os.listdir("/proc/self/fd"))
    for turns in range(8):
        listener = Listener({}, never, nobody)
        opening = asyncio.create_task(listener.open([]))
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait({opening})
        await listener.close()
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before
