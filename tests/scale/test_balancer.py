"""nginx, as the project configures it, over two processes: what belongs together meets in one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.harness import Server
from tests.mongo_server import MongoServer
from tests.p2p.pair import KEY, meet, pair
from tests.redis_server import RedisServer
from tests.scale.deployment import Deployment

LONG_S = 90.0
TRANSFERS = 20


@pytest.fixture
def two(tmp_path: Path, mongo_server: MongoServer, redis_server: RedisServer) -> Iterator[Deployment]:
    with Deployment(tmp_path / "two", mongo_server, redis_server) as deployment:
        yield deployment


async def test_both_ends_of_each_transfer_meet_though_the_processes_cannot_reach_each_other(two: Deployment) -> None:
    """INSTANCE_URL is not set, so one end at each process would wait for the other for ever."""
    url = two.balance()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        both = await pair(Server(http, url))
        for number in range(TRANSFERS):
            transfer = await both.accepted(1000, client_id=f"k{number}")
            sender, receiver, turn = await meet(both, transfer["id"])
            await receiver.send(type="ready", round=turn, key=KEY, offset=0)
            assert (await sender.until("ready"))["round"] == turn
            frame = os.urandom(1000)
            await sender.ws.send_bytes(frame)
            assert await receiver.next() == frame
            await receiver.send(type="done")
            assert [await sender.closed(), await receiver.closed()] == [1000, 1000]
        taken = [await _relayed(http, url) for url in two.urls]
    assert sum(taken) >= TRANSFERS * 1000
    assert all(taken), "every transfer went to one process"


async def _relayed(http: aiohttp.ClientSession, url: str) -> float:
    async with http.get(f"{url}/metrics") as answer:
        numbers = await answer.text()
    return sum(float(line.rsplit(" ", 1)[1]) for line in numbers.splitlines()
               if line.startswith("hypersend_relayed_bytes") and 'way="relay"' in line)
