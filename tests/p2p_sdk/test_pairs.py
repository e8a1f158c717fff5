"""Two devices over a real server: whole files, cuts at any byte, and what remains of it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypersend_client.sdk.transfer_errors import DiskFull, PeerEnded, SourceChanged
from tests.harness import Server, running
from tests.p2p_sdk.pairs import LIMIT_S, Pair, both, pair, until
from tests.sdk_transfers.device import MIB, digest, leftovers
from tests.sdk_transfers.line import Line, line_to


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def lines(server: Server) -> AsyncIterator[tuple[Line, Line]]:
    """Asha's network, and Ben's."""
    async with line_to(server.url) as one, line_to(server.url) as other:
        yield one, other


@pytest.fixture
async def two(tmp_path: Path, lines: tuple[Line, Line]) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "people", lines[0].url, lines[1].url) as two:
        yield two


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, MIB, 5 * MIB + 77])
async def test_file_of_any_size_arrives_whole(two: Pair, size: int) -> None:
    path = two.asha.file("film.mkv", size)
    sending, receiving = await two.begin(path)
    found = await both(sending, receiving)
    assert found.name == "film.mkv"
    assert digest(found) == digest(path)
    assert sending.is_confirmed
    assert leftovers(found.parent) == []
    assert (await two.status(sending.transfer_id)).status == "done"
    assert sending.safety_number == receiving.safety_number is not None


async def test_device_key_is_kept_beside_the_tokens_for_its_owner_alone(two: Pair) -> None:
    sending, receiving = await two.begin(two.asha.file("a", 10))
    await both(sending, receiving)
    (key,) = (two.asha.home / "device-keys").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_bytes()) == 32


@pytest.mark.parametrize("whose", [0, 1])
async def test_cuts_of_either_line_cost_no_verified_byte(two: Pair, lines: tuple[Line, Line], whose: int) -> None:
    path = two.asha.file("film.mkv", 24 * MIB)
    lines[whose].cut_each = 7 * MIB
    sending, receiving = await two.begin(path)
    found = await both(sending, receiving)
    assert digest(found) == digest(path)
    assert lines[whose].cuts >= 2
    assert receiving.rounds > 1
    # Each cut loses what lay in the buffers of the network and of the relay, and no more.
    assert lines[1].down_bytes < 24 * MIB + (lines[whose].cuts + 1) * 12 * MIB


async def test_part_goes_on_in_another_run_of_the_program(two: Pair, lines: tuple[Line, Line]) -> None:
    path = two.asha.file("film.mkv", 16 * MIB)
    two.ben.hs.p2p.receive_limit.bytes_per_s = 6 * MIB
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > 4 * MIB)
    await asyncio.gather(sending.stop(), receiving.stop())
    verified = receiving.verified_bytes
    two.ben.hs.p2p.receive_limit.bytes_per_s = None
    two.asha.hs.p2p.sending.clear()
    two.ben.hs.p2p.receiving.clear()
    before = lines[1].down_bytes
    again = await two.asha.hs.p2p.send(two.chat_id, path)
    assert again.transfer_id == sending.transfer_id
    resumed = await two.ben.hs.p2p.resume()
    assert [one.transfer_id for one in resumed] == [sending.transfer_id]  # type: ignore[union-attr]
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(again.wait(), *(one.wait() for one in resumed))
    assert digest(two.ben.home / "Downloads" / "film.mkv") == digest(path)
    assert lines[1].down_bytes - before < 16 * MIB - verified + MIB


async def test_pausing_either_side_stops_the_bytes_and_resuming_goes_on(two: Pair) -> None:
    path = two.asha.file("film.mkv", 8 * MIB)
    two.asha.hs.p2p.send_limit.bytes_per_s = 4 * MIB
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > MIB)
    receiving.pause()
    await until(lambda: sending.state == "waiting")
    assert sending.progress.error is not None
    assert sending.progress.error.code == "peer_away"
    receiving.resume()
    sending.pause()
    await until(lambda: receiving.state == "waiting")
    sending.resume()
    assert digest(await both(sending, receiving)) == digest(path)


async def test_source_that_changes_while_it_is_sent_is_refused_on_both_sides(two: Pair) -> None:
    path = two.asha.file("film.mkv", 8 * MIB)
    two.asha.hs.p2p.send_limit.bytes_per_s = 8 * MIB
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > MIB)
    with path.open("ab") as file:
        file.write(b"more")
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SourceChanged):
            await sending.wait()
        with pytest.raises(Exception, match="source_changed"):
            await receiving.wait()
    assert not (two.ben.home / "Downloads" / "film.mkv").exists()
    assert (await two.status(sending.transfer_id)).status == "failed"


@pytest.mark.parametrize("by_sender", [True, False])
async def test_cancelling_ends_both_sides(two: Pair, by_sender: bool) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = 2 * MIB
    sending, receiving = await two.begin(two.asha.file("film.mkv", 8 * MIB))
    await until(lambda: receiving.verified_bytes > 0)
    canceller, other = (two.asha, receiving) if by_sender else (two.ben, sending)
    await canceller.hs.p2p.cancel(sending.transfer_id)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(PeerEnded) as caught:
            await other.wait()
    assert caught.value.status == "cancelled"
    if not by_sender:
        assert leftovers(two.ben.home / "Downloads") == []


async def test_declined_offer_tells_its_sender(two: Pair) -> None:
    sending = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("a", 100))
    await two.ben.hs.p2p.decline(sending.transfer_id)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(PeerEnded) as caught:
            await sending.wait()
    assert caught.value.status == "declined"


async def test_stored_instead_goes_on_from_what_is_verified(two: Pair, lines: tuple[Line, Line]) -> None:
    path = two.asha.file("film.mkv", 40 * MIB)
    two.ben.hs.p2p.receive_limit.bytes_per_s = 12 * MIB
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > 18 * MIB)
    verified = receiving.verified_bytes
    before = lines[1].down_bytes
    two.ben.hs.p2p.receive_limit.bytes_per_s = None
    upload = await two.asha.hs.p2p.store(sending.transfer_id)
    async with asyncio.timeout(LIMIT_S):
        file = await upload.wait()
        found = await receiving.wait()
    assert digest(found) == digest(path)
    assert receiving.is_vouched
    assert file.id == (await two.status(sending.transfer_id)).file_id
    assert leftovers(found.parent) == []
    assert lines[1].down_bytes - before < 40 * MIB - verified + 14 * MIB  # what was on its way, and a chunk's rest
    messages = (await two.ben.hs.messages.page(two.chat_id)).items
    assert [f.name for m in messages for f in m.files] == ["film.mkv"]


async def test_full_disk_pauses_the_transfer_and_it_goes_on_when_there_is_room(two: Pair, small_disk: Path) -> None:
    path = two.asha.file("film.mkv", 12 * MIB)
    two.asha.hs.p2p.send_limit.bytes_per_s = 8 * MIB
    sending = await two.asha.hs.p2p.send(two.chat_id, path)
    receiving = await two.ben.hs.p2p.receive(sending.transfer_id, small_disk)
    await until(lambda: receiving.verified_bytes > MIB)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(MIB // 4))
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(DiskFull):
            await receiving.wait()
        while (await two.status(sending.transfer_id)).status != "paused":
            await asyncio.sleep(0.05)
    await until(lambda: sending.state == "waiting")
    verified = receiving.verified_bytes
    ballast.unlink()
    receiving.start()
    found = await both(sending, receiving)
    assert digest(found) == digest(path)
    assert verified > MIB


async def test_receiver_that_stops_reading_holds_the_sender_and_costs_the_server_little(
    two: Pair, lines: tuple[Line, Line]
) -> None:
    path = two.asha.file("film.mkv", 64 * MIB)
    two.ben.hs.p2p.receive_limit.bytes_per_s = 1000
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > 0)
    passed = await lines[0].until_still()
    # What fits into the sockets on the way, ours, the relay's and the two lines'.
    assert passed < 32 * MIB
    assert sending.state == "running"
    two.ben.hs.p2p.receive_limit.bytes_per_s = None
    receiving.pause()  # what it owes to the limit until now would take minutes
    receiving.resume()
    assert digest(await both(sending, receiving)) == digest(path)


async def test_group_member_that_nobody_named_may_receive(two: Pair) -> None:
    account = two.ben.hs.account
    assert account is not None
    group = await two.asha.hs.chats.create_group("Tea", [account.user_id])
    path = two.asha.file("a.txt", 5000)
    sending = await two.asha.hs.p2p.send(group.id, path)
    receiving = await two.ben.hs.p2p.receive(sending.transfer_id)
    assert digest(await both(sending, receiving)) == digest(path)


async def test_receiving_without_saying_what_takes_the_oldest_then_waits_for_the_next(two: Pair) -> None:
    first = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("first", 100))
    receiving = await two.ben.hs.p2p.receive()
    assert receiving.transfer_id == first.transfer_id
    await both(first, receiving)
    waiting = asyncio.create_task(two.ben.hs.p2p.receive())
    second = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("second", 100))
    async with asyncio.timeout(LIMIT_S):
        receiving = await waiting
    assert (await both(second, receiving)).name == "second"


async def test_two_hundred_transfers_leave_nothing_behind(two: Pair, server: Server) -> None:
    from hypersend_server.app import RELAY

    path = two.asha.file("small", 3000)
    two.asha.hs.p2p.send_limit.bytes_per_s = None
    for batch in range(4):
        paths = [two.asha.file(f"small-{batch}-{number}", 3000) for number in range(50)]
        pairs = [await two.begin(path) for path in paths]
        for (sending, receiving), path in zip(pairs, paths, strict=True):
            assert digest(await both(sending, receiving)) == digest(path)
    assert leftovers(two.ben.home / "Downloads") == []
    assert await two.asha.hs.p2p.open() == []
    await until(lambda: server.app[RELAY].meetings == 0)


async def test_device_that_was_never_met_is_told_from_those_that_were(two: Pair) -> None:
    async def sent(name: str) -> tuple[bool, bool]:
        """Whether (the sender, the receiver) hears of a device that is new."""
        sending, receiving = await two.begin(two.asha.file(name, MIB))
        await both(sending, receiving)
        return sending.is_new_device, receiving.is_new_device

    assert await sent("first.mkv") == (False, False)  # nobody has met anybody: there is nothing to compare with
    assert await sent("second.mkv") == (False, False)
    ben = two.ben.hs
    assert ben.account is not None
    await ben.p2p.forget((ben.account.server_id, ben.account.user_id))  # another key, as on another device
    assert await sent("third.mkv") == (True, False)
    assert await sent("fourth.mkv") == (False, False)  # it has been met by now


async def test_new_device_is_told_before_anything_is_accepted(two: Pair) -> None:
    await both(*await two.begin(two.asha.file("first.mkv", MIB)))
    asha, ben = two.asha.hs, two.ben.hs
    assert asha.account is not None
    await asha.p2p.forget((asha.account.server_id, asha.account.user_id))
    sending = await asha.p2p.send(two.chat_id, two.asha.file("second.mkv", MIB))
    info = await ben.p2p.next()
    assert info.id == sending.transfer_id
    assert await ben.p2p.is_new_device(info)
    await both(sending, await ben.p2p.receive(info.id))
    assert not await ben.p2p.is_new_device(info)
