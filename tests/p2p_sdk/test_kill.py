"""`kill -9` of a client, and of the server, while bytes move."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.p2p_sdk.pairs import both, pair, until
from tests.p2p_sdk.process import End
from tests.process import ServerProcess
from tests.sdk_transfers.device import MIB, digest, leftovers
from tests.sdk_transfers.line import line_to


@pytest.mark.parametrize("victim", ["sender", "receiver"])
async def test_client_that_is_killed_goes_on_with_the_same_call(tmp_path: Path, victim: str) -> None:
    with ServerProcess(tmp_path / "data", RATE_LIMITS="off") as server:
        async with line_to(server.url) as line:
            line.bytes_per_s = 60 * MIB
            async with pair(tmp_path / "people", server.url, line.url) as two:
                path = two.asha.file("film.mkv", 48 * MIB)
                offer = await two.asha.hs.p2p.send(two.chat_id, path)
                await offer.stop()
                transfer_id, chat_id = offer.transfer_id, two.chat_id
            folder = tmp_path / "people" / "received"
            sender = End(tmp_path / "people" / "asha", server.url, "send", chat_id, path, "relay")
            receiver = End(tmp_path / "people" / "ben", line.url, "receive", transfer_id, folder, "relay")
            await asyncio.gather(sender.start(), receiver.start())
            await receiver.until_bytes(12 * MIB)
            killed = sender if victim == "sender" else receiver
            await killed.kill()
            had = receiver.done_bytes
            before = line.down_bytes
            await killed.start()
            await asyncio.gather(sender.wait(), receiver.wait())
            assert digest(folder / "film.mkv") == digest(path)
            assert leftovers(folder) == []
            # What was on the way at the moment is sent again; what was verified is not.
            assert line.down_bytes - before < 48 * MIB - had + 20 * MIB


async def test_server_that_is_killed_goes_on_when_it_is_back(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "data", RATE_LIMITS="off") as server:
        async with pair(tmp_path / "people", server.url, server.url) as two:
            path = two.asha.file("film.mkv", 32 * MIB)
            two.asha.hs.p2p.send_limit.bytes_per_s = 20 * MIB
            sending, receiving = await two.begin(path)
            for wanted in (6 * MIB, 16 * MIB):
                await until(lambda wanted=wanted: receiving.verified_bytes > wanted)
                server.kill()
                had = receiving.verified_bytes
                server.start()
            assert digest(await both(sending, receiving)) == digest(path)
            assert receiving.rounds == 3
            assert had > 16 * MIB
