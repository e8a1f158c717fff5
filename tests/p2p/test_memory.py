"""What a transfer costs the server when one end pushes and the other takes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.harness import Server
from tests.http_session import http_session
from tests.p2p.pair import FRAME, End, fill, meet, pair
from tests.process import ServerProcess

MIB = 1024 * 1024
WARM_FRAMES = 400


def resident(pid: int) -> int:
    """Bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the process has no VmRSS")


async def pass_on(sender: End, receiver: End) -> None:
    async def push() -> None:
        for _ in range(WARM_FRAMES):
            await sender.ws.send_bytes(bytes(FRAME))

    pushing = asyncio.create_task(push())
    for _ in range(WARM_FRAMES):
        assert isinstance(await receiver.next(), bytes)
    await pushing


async def test_a_receiver_that_takes_nothing_costs_the_server_at_most_8_mib(tmp_path: Path) -> None:
    process = await asyncio.to_thread(ServerProcess(tmp_path / "data", RATE_LIMITS="off").start)
    try:
        async with http_session() as http:
            both = await pair(Server(http, process.url))
            first = await both.accepted(10**9, client_id="first")
            sender, receiver, _ = await meet(both, first["id"])
            await pass_on(sender, receiver)  # so that what the process loads and keeps once is there
            second = await both.accepted(10**9, client_id="second")
            sender, silent, _ = await meet(both, second["id"])
            before = resident(process.pid)
            filling, _ = await fill(sender)
            taken = resident(process.pid) - before
            filling.cancel()
            assert not silent.ws.closed
            assert taken <= 8 * MIB
    finally:
        await asyncio.to_thread(process.kill)
