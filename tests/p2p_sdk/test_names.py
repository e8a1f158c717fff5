"""What a file is called on the other device is chosen there: no name leads out of its folder or onto another file."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypersend_client.sdk.errors import ApiError
from hypersend_client.sdk.transfer_errors import TransferBusy
from tests.harness import Server, running
from tests.p2p_sdk.pairs import Pair, both, pair, until
from tests.sdk_transfers.device import MIB, device, digest


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with running(tmp_path / "data", RATE_LIMITS="off") as server:
        yield server


@pytest.fixture
async def two(tmp_path: Path, server: Server) -> AsyncIterator[Pair]:
    async with pair(tmp_path / "people", server.url, server.url) as two:
        yield two


async def test_two_files_of_one_name_both_arrive(two: Pair) -> None:
    folder = two.ben.home / "Downloads"
    sent = []
    for number in range(3):
        path = two.asha.file(f"{number}.bin", 5000 + number)
        sending = await two.asha.hs.p2p.send(two.chat_id, path, name="2026 - b.jpg")
        receiving = await two.ben.hs.p2p.receive(sending.transfer_id)
        sent.append((digest(path), await both(sending, receiving)))
    assert [digest(found) for _, found in sent] == [wanted for wanted, _ in sent]
    assert len({found for _, found in sent}) == 3
    assert {found.parent for _, found in sent} == {folder}


async def test_two_files_of_one_name_at_once_both_arrive(two: Pair) -> None:
    paths = [two.asha.file(f"{number}.bin", 500_000 + number) for number in range(2)]
    ends = []
    for path in paths:
        sending = await two.asha.hs.p2p.send(two.chat_id, path, name="b.jpg")
        ends.append((sending, await two.ben.hs.p2p.receive(sending.transfer_id)))
    found = [await both(*end) for end in ends]
    assert [digest(path) for path in found] == [digest(path) for path in paths]


@pytest.mark.parametrize("name", [
    "../../escaped", "/etc/passwd", "..", "C:\\Windows\\x.dll", "CON", "aux.txt", "a\u0000b", "line\nbreak",
    "\u202egpj.exe",
    "हस्तलिखित " * 40 + ".pdf", "x" * 255, " . ", "trailing.", "-rf", "film.mkv.part",
])
async def test_no_name_leads_out_of_the_folder(two: Pair, name: str) -> None:
    folder = two.ben.home / "Downloads"
    path = two.asha.file("local", 3000)
    sending = None
    with contextlib.suppress(ApiError):
        sending = await two.asha.hs.p2p.send(two.chat_id, path, name=name)
    if sending is None:  # then the server does not take the name
        with pytest.raises(ApiError, match="validation_failed"):
            await two.asha.hs.p2p.send(two.chat_id, path, name=name)
        return
    receiving = await two.ben.hs.p2p.receive(sending.transfer_id)
    found = await both(sending, receiving)
    assert found.resolve().parent == folder.resolve()
    assert digest(found) == digest(path)
    assert [p for p in folder.iterdir() if p != found] == []
    assert not {"\n", "\u0000", "\u202e", "/", "\\"} & set(found.name)


async def test_an_end_that_is_served_already_is_left_alone_by_a_second_program(two: Pair, tmp_path: Path) -> None:
    path = two.asha.file("film.mkv", 8 * MIB)
    two.asha.hs.p2p.send_limit.bytes_per_s = MIB
    sending = await two.asha.hs.p2p.send(two.chat_id, path)
    receiving = await two.ben.hs.p2p.receive(sending.transfer_id)
    await until(lambda: receiving.verified_bytes)
    async with device(two.ben.home, two.ben.hs.url) as again:
        second = await again.hs.p2p.receive(sending.transfer_id)
        with pytest.raises(TransferBusy):
            await second.wait()
    two.asha.hs.p2p.send_limit.bytes_per_s = None
    assert digest(await both(sending, receiving)) == digest(path)
    assert receiving.rounds == 1
