"""A device whose line takes nothing more, while the other end comes back."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from hypersend_client.sdk.p2p_sender import PeerSender
from tests.harness import running
from tests.p2p_sdk.hostile import hostile_to
from tests.p2p_sdk.pairs import LIMIT_S, both, pair, until
from tests.sdk_transfers.device import MIB, digest


async def until_still(sending: PeerSender) -> None:
    """Until nothing more can be sent."""
    async with asyncio.timeout(LIMIT_S):
        before = -1
        while before != sending._sent:
            before = sending._sent
            await asyncio.sleep(0.5)


async def test_sender_that_waits_for_room_goes_on_when_the_receiver_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(os.urandom(MIB) * 64)
    async with (
        running(tmp_path / "data", RATE_LIMITS="off") as server,
        hostile_to(server.url) as line,
        pair(tmp_path / "people", line.url, server.url) as two,
    ):
        sending, receiving = await two.begin(path)
        await until(lambda: receiving.done_bytes)
        line.taking.clear()  # what the sender sends stays in its buffers, until they are full
        await until_still(sending)
        await receiving.stop()
        receiving = await two.ben.hs.p2p.receive(sending.transfer_id)
        await until(lambda: sending.rounds == 2)
        await asyncio.sleep(0.2)
        line.taking.set()
        async with asyncio.timeout(LIMIT_S):
            received = await both(sending, receiving)
        assert sending.rounds == 2
        assert digest(received) == digest(path)
