"""The two ends of a transfer at two server processes: they meet through a pipe between these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from hypersend_server.p2p import wire
from hypersend_server.p2p.edge import PASS_HEADER
from tests.harness import Person, Server
from tests.http_session import http_session
from tests.mongo_server import MongoServer, free_port
from tests.p2p.pair import KEY, End, Pair, end, pair
from tests.process import ServerProcess
from tests.redis_server import RedisServer


@dataclass
class Two:
    processes: list[ServerProcess]
    both: Pair

    def at_second(self, person: Person) -> Person:
        return Person(person.http, self.processes[1].url, person.headers, person.session)


@pytest.fixture
async def two(tmp_path: Path, mongo_server: MongoServer) -> AsyncIterator[Two]:
    redis = RedisServer(tmp_path / "redis").start()
    settings = {
        "MONGODB_URI": mongo_server.fresh_uri(), "REDIS_URL": redis.url, "SECRET_KEY": "k" * 40, "RATE_LIMITS": "off"}
    processes = []
    try:
        for _ in range(2):
            port = free_port()
            process = ServerProcess(
                tmp_path / "data", **settings, PORT=str(port), INSTANCE_URL=f"http://127.0.0.1:{port}")
            processes.append(process)
            await asyncio.to_thread(process.start)
        async with http_session() as http:
            yield Two(processes, await pair(Server(http, processes[0].url)))
    finally:
        for process in processes:
            await asyncio.to_thread(process.kill)
        redis.kill()


async def meet(two: Two, transfer_id: str) -> tuple[End, End, int]:
    sender = await end(two.both.asha, "sender", transfer_id)
    receiver = await end(two.at_second(two.both.ben), "receiver", transfer_id)
    while not (found := await sender.until("peer"))["present"]:
        pass
    assert await receiver.until("peer") == found
    return sender, receiver, int(found["round"])


async def test_frames_pass_between_the_processes_and_a_killed_one_is_replaced(two: Two) -> None:
    transfer = await two.both.accepted(1000)
    sender, receiver, number = await meet(two, transfer["id"])
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    assert (await sender.until("ready"))["round"] == number
    frames = [bytes([n]) * 65_000 for n in range(40)]
    pushing = asyncio.create_task(_push(sender, frames))
    assert [await receiver.next() for _ in frames] == frames
    await pushing
    await receiver.send(type="ack", offset=500)
    assert await sender.until("ack") == {"type": "ack", "offset": 500}

    await asyncio.to_thread(two.processes[0].kill)  # the one that joins them
    assert await receiver.closed() == wire.STOPPING
    at_second = two.at_second(two.both.asha)
    async with asyncio.timeout(10):  # nobody listens there any more: the other one takes its place at once
        while True:
            sender = await end(at_second, "sender", transfer["id"])
            try:
                await sender.until("joined")
                break
            except ConnectionError:
                await asyncio.sleep(0.5)
    receiver = await end(two.at_second(two.both.ben), "receiver", transfer["id"])
    number = (await receiver.until("peer"))["round"]
    await receiver.send(type="ready", round=number, key=KEY, offset=500)
    assert (await sender.until("ready"))["offset"] == 500
    await receiver.send(type="done")
    assert [await sender.closed(), await receiver.closed()] == [1000, 1000]
    assert (await at_second.get(f"/p2p/status/{transfer['id']}")).json["status"] == "done"


async def test_a_call_at_one_process_ends_the_sockets_at_the_other(two: Two) -> None:
    transfer = await two.both.accepted(1000)
    sender, receiver, _ = await meet(two, transfer["id"])
    assert (await two.at_second(two.both.ben).post(f"/p2p/{transfer['id']}/cancel")).status == 200
    assert [await sender.closed(), await receiver.closed()] == [wire.OVER, wire.OVER]


async def test_a_process_that_stops_says_so_to_an_end_that_it_only_passes_on(two: Two) -> None:
    transfer = await two.both.accepted(1000)
    sender, receiver, _ = await meet(two, transfer["id"])
    stopping = asyncio.create_task(asyncio.to_thread(two.processes[1].stop))
    assert await receiver.closed() == wire.STOPPING
    assert (await sender.until("peer"))["present"] is False
    assert await stopping == 0


async def test_a_forged_pass_between_processes_opens_nothing(two: Two) -> None:
    transfer = await two.both.accepted(1000)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await end(two.both.asha, "sender", transfer["id"], headers={PASS_HEADER: "W10.AAAAAAAAAAAAAAAAAAAAAA"})
    assert caught.value.status == 401


async def _push(one: End, frames: list[bytes]) -> None:
    for frame in frames:
        await one.ws.send_bytes(frame)
