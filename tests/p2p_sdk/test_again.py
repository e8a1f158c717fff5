"""What this device had begun when its program ended, and what has become of it since."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypersend_client.sdk import p2p
from hypersend_client.sdk.errors import ApiError
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.p2p_sender import PeerSender
from hypersend_client.sdk.transfer_errors import SourceChanged
from hypersend_server.app import PARTS
from hypersend_server.metadata.transfers import OPEN, Status
from tests.harness import PASSWORD, Server, running
from tests.p2p_sdk.pairs import LIMIT_S, Pair, both, pair, until
from tests.sdk_transfers.device import MIB, device, digest, leftovers

Disk = namedtuple("Disk", "total used free")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def two(tmp_path: Path, server: Server) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "people", server.url, server.url) as two:
        yield two


async def test_what_another_session_was_receiving_does_not_stand_before_what_is_new(two: Pair) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = MIB
    first, begun = await two.begin(two.asha.file("a.bin", 16 * MIB))
    await until(lambda: begun.verified_bytes > 0)
    await begun.stop()
    await two.ben.hs.logout()
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        await ben.hs.login("ben@example.org", PASSWORD)
        second = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("b.bin", 1000))
        receiving = await ben.hs.p2p.receive()
        assert receiving.transfer_id == second.transfer_id
        await both(second, receiving)
        assert leftovers(two.ben.home / "Downloads") == []
    await first.stop()


async def test_what_another_device_has_received_is_refused_and_stands_in_nobodys_way(two: Pair, tmp_path: Path) -> None:
    first, received = await two.begin(two.asha.file("a.bin", 1000))
    await both(first, received)
    async with device(tmp_path / "ben2", two.ben.hs.transport.url) as ben:
        await ben.hs.login("ben@example.org", PASSWORD)
        with pytest.raises(ApiError, match="transfer_taken"):
            await ben.hs.p2p.receive(first.transfer_id)
        second = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("b.bin", 1000))
        assert (await ben.hs.p2p.next()).id == second.transfer_id
        await second.stop()


async def test_a_file_that_changed_is_offered_anew_and_the_offer_of_what_it_was_is_over(two: Pair) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = 4 * MIB
    path = two.asha.file("a.bin", 16 * MIB)
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > MIB)
    await sending.stop()
    path.write_bytes(os.urandom(16 * MIB))
    two.asha.hs.p2p.send_limit.bytes_per_s = None
    again = await two.asha.hs.p2p.send(two.chat_id, path)
    await until(lambda: receiving.ended)
    assert [info.id for info in await two.asha.hs.p2p.open()] == [again.transfer_id]
    anew = await two.ben.hs.p2p.receive()
    assert anew.transfer_id == again.transfer_id
    await both(again, anew)
    assert leftovers(two.ben.home / "Downloads") == []


async def test_what_was_cancelled_meanwhile_leaves_no_part(two: Pair) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = 4 * MIB
    sending, receiving = await two.begin(two.asha.file("a.bin", 32 * MIB))
    await until(lambda: receiving.verified_bytes > 4 * MIB)
    await receiving.stop()
    await two.ben.transfers.close()
    await sending.cancel()
    assert leftovers(two.ben.home / "Downloads") != []
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        assert await ben.hs.p2p.resume() == []
    assert leftovers(two.ben.home / "Downloads") == []
    assert list((two.ben.home / "transfers.sqlite.locks").iterdir()) == []


async def _received_unheard(two: Pair, name: str, size: int = 3 * MIB) -> tuple[Path, str]:
    """Ben has a whole file, compared and durable, and his program ended before the server heard of it."""
    path = two.asha.file(name, size)
    sending, receiving = await two.begin(path)
    unheard, say = asyncio.Event(), receiving._say

    async def say_all_but_done(frame: dict[str, Any]) -> None:
        if frame["type"] == "done":
            unheard.set()
        else:
            await say(frame)

    receiving._say = say_all_but_done  # type: ignore[method-assign]
    async with asyncio.timeout(LIMIT_S):
        await unheard.wait()
    await receiving.stop()
    await sending.stop()
    await two.ben.transfers.close()
    return path, sending.transfer_id


@pytest.mark.parametrize("size", [3 * MIB, 0])
async def test_whole_file_is_kept_whatever_becomes_of_the_offer_afterwards(two: Pair, size: int) -> None:
    path, transfer_id = await _received_unheard(two, "film.bin", size)
    await two.asha.hs.p2p.cancel(transfer_id)
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        [receiving] = await ben.hs.p2p.resume()
        async with asyncio.timeout(LIMIT_S):
            found = await receiving.wait()
        assert digest(found) == digest(path)
        assert leftovers(two.ben.home / "Downloads") == []
        assert await ben.hs.p2p.resume() == []


async def test_server_hears_of_a_whole_file_although_its_sender_never_comes_back(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, transfer_id = await _received_unheard(two, "film.bin")
    monkeypatch.setattr(PeerReceiver, "alone_s", 0.2)
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        [receiving] = await ben.hs.p2p.resume()
        async with asyncio.timeout(LIMIT_S):
            found = await receiving.wait()
        assert digest(found) == digest(path)
        assert (await ben.hs.p2p.calls.get(transfer_id)).status == "done"


async def test_file_that_is_gone_keeps_no_other_transfer_from_going_on(two: Pair) -> None:
    path, other = two.asha.file("a.bin", MIB), two.asha.file("b.bin", 1000)
    asha = two.asha.hs.p2p
    gone = await asha.send(two.chat_id, path)
    await gone.stop()
    waiting = await asha.send(two.chat_id, other)
    await waiting.stop()
    await asha.calls.store(gone.transfer_id)  # and the program ended right after
    path.unlink()
    await two.asha.transfers.close()
    async with device(two.asha.home, two.asha.hs.transport.url) as asha2:
        [sending] = await asha2.hs.p2p.resume()
        receiving = await two.ben.hs.p2p.receive(waiting.transfer_id)
        async with asyncio.timeout(LIMIT_S):
            await sending.wait()
            assert digest(await receiving.wait()) == digest(other)


async def test_what_the_server_refuses_of_one_keeps_no_other_from_going_on(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [two.asha.file(f"{number}.bin", 1000) for number in range(3)]
    ends = [await two.asha.hs.p2p.send(two.chat_id, path) for path in paths]
    for end in ends:
        await end.stop()
    await two.asha.hs.p2p.calls.store(ends[1].transfer_id)  # and the program ended right after
    await two.asha.transfers.close()
    async with device(two.asha.home, two.asha.hs.transport.url) as asha:
        calls = asha.hs.p2p.calls
        get = calls.get

        async def refused(transfer_id: str) -> Any:
            raise ApiError("quota_exceeded", status=413)

        async def get_but_one(transfer_id: str) -> Any:
            return await (refused if transfer_id == ends[0].transfer_id else get)(transfer_id)

        with monkeypatch.context() as patch:
            patch.setattr(calls, "get", get_but_one)
            patch.setattr(calls, "store", refused)
            [sending] = await asha.hs.p2p.resume()
        assert isinstance(sending, PeerSender)
        assert sending.transfer_id == ends[2].transfer_id
        assert len(await asha.hs.p2p.resume()) == 3  # they were kept


async def test_offers_that_nobody_accepts_keep_nothing_from_coming_in(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p2p, "MOST_AT_ONCE", 1)
    async with pair(tmp_path / "few", server.url, server.url) as two:
        await two.asha.hs.p2p.send(two.chat_id, two.asha.file("waits.bin", 1000))
        path = two.ben.file("comes.bin", 1000)
        sending = await two.ben.hs.p2p.send(two.chat_id, path)
        assert digest(await both(sending, await two.asha.hs.p2p.receive(sending.transfer_id))) == digest(path)


async def ended(server: Server, transfer_id: str, status: Status) -> None:
    await server.app[PARTS].transfers._transfers.change(transfer_id, OPEN, 0, status=status)


@pytest.mark.parametrize("status", ["expired", "failed"])
async def test_offer_that_came_to_nothing_may_be_stored_after_a_restart(
    two: Pair, server: Server, status: Status
) -> None:
    path = two.asha.file("a.bin", 5000)
    sending = await two.asha.hs.p2p.send(two.chat_id, path)
    await sending.stop()
    await ended(server, sending.transfer_id, status)
    await two.asha.transfers.close()
    for _ in range(2):
        async with device(two.asha.home, two.asha.hs.transport.url) as asha:
            assert await asha.hs.p2p.resume() == []
    async with device(two.asha.home, two.asha.hs.transport.url) as asha, asyncio.timeout(LIMIT_S):
        file = await (await asha.hs.p2p.store(sending.transfer_id)).wait()
        assert file.id == (await two.status(sending.transfer_id)).file_id


@pytest.mark.parametrize("status", ["declined", "cancelled"])
async def test_offer_that_may_not_be_stored_any_more_is_forgotten(two: Pair, server: Server, status: Status) -> None:
    sending = await two.asha.hs.p2p.send(two.chat_id, two.asha.file("a.bin", 5000))
    await sending.stop()
    await ended(server, sending.transfer_id, status)
    assert await two.asha.hs.p2p.resume() == []
    with pytest.raises(ApiError, match="not_found"):
        await two.asha.hs.p2p.store(sending.transfer_id)


async def test_file_that_was_changed_is_not_stored_and_it_is_said_why(two: Pair) -> None:
    path = two.asha.file("a.bin", 8 * MIB)
    two.asha.hs.p2p.send_limit.bytes_per_s = 4 * MIB
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > MIB)
    with path.open("ab") as file:
        file.write(b"more")
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(SourceChanged):
            await sending.wait()
    await receiving.stop()
    assert (await two.status(sending.transfer_id)).status == "failed"
    with pytest.raises(SourceChanged):
        await two.asha.hs.p2p.store(sending.transfer_id)
    await two.asha.transfers.close()
    async with device(two.asha.home, two.asha.hs.transport.url) as asha:
        assert await asha.hs.p2p.resume() == []
        with pytest.raises(SourceChanged):
            await asha.hs.p2p.store(sending.transfer_id)
    assert (await two.status(sending.transfer_id)).status == "failed"


async def test_rest_that_comes_from_the_server_needs_no_room_but_its_own(
    two: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.asha.hs.p2p.send_limit.bytes_per_s = 16 * MIB
    path = two.asha.file("a.bin", 40 * MIB)
    sending, receiving = await two.begin(path)
    await until(lambda: receiving.verified_bytes > 24 * MIB)
    two.ben.transfers.download_limit.bytes_per_s = MIB
    await two.asha.hs.p2p.store(sending.transfer_id)
    folder = two.ben.home / "Downloads"
    await until(lambda: any(sending.transfer_id not in name for name in leftovers(folder)))
    await two.ben.transfers.close()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Disk(0, 0, 30 * MIB))
    async with device(two.ben.home, two.ben.hs.transport.url) as ben:
        assert await ben.transfers.resume() == []  # it would not check it
        [again] = await ben.hs.p2p.resume()
        assert isinstance(again, PeerReceiver)
        async with asyncio.timeout(LIMIT_S):
            assert digest(await again.wait()) == digest(path)
    assert leftovers(folder) == []


async def test_file_whose_name_is_no_text_is_sent(two: Pair) -> None:
    path = os.fsdecode(os.fsencode(two.asha.home) + b"/caf\xe9.txt")
    Path(path).write_bytes(b"tea")
    sending = await two.asha.hs.p2p.send(two.chat_id, path)
    found = await both(sending, await two.ben.hs.p2p.receive(sending.transfer_id))
    assert (found.name, found.read_bytes()) == ("caf\ufffd.txt", b"tea")
