"""nginx, as the project configures it, over two processes: what belongs together meets in one of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.harness import Person, Server
from tests.http_session import http_session
from tests.mongo_server import MongoServer
from tests.p2p.pair import KEY, end, meet, pair
from tests.redis_server import RedisServer
from tests.scale.deployment import Deployment
from tests.web.test_proxy import echo, page, said

LONG_S = 90.0
TRANSFERS = 20
LINES = 12
AWAY_S = 3.0  # longer than nginx takes a process for away (fail_timeout)
SHORT_S = 20.0
MEET_S = 40.0
KEPT_S = 12.0  # longer than a process waits before it looks whether an end is still its own


@pytest.fixture
def two(tmp_path: Path, mongo_server: MongoServer, redis_server: RedisServer) -> Iterator[Deployment]:
    with Deployment(tmp_path / "two", mongo_server, redis_server) as deployment:
        yield deployment


async def test_both_ends_of_each_transfer_meet_though_the_processes_cannot_reach_each_other(two: Deployment) -> None:
    """INSTANCE_URL is not set, so one end at each process would wait for the other for ever."""
    url = two.balance()
    async with http_session() as http:
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


async def test_a_page_of_the_web_app_comes_back_to_the_process_that_has_its_line(
    tmp_path: Path, mongo_server: MongoServer, redis_server: RedisServer
) -> None:
    async with echo() as screens:
        with Deployment(tmp_path / "two", mongo_server, redis_server, WEB_CLIENT=screens.url) as two:
            url = two.balance()
            async with http_session() as http:
                server = Server(http, url)
                for number in range(LINES):
                    name = f"{number:032x}"
                    line = await page(server, name)
                    assert await line.receive_str() == "!0"
                    await said(line)
                    await line.send_bytes(b"one")
                    assert await line.receive_bytes() == b"one"
                    again = await page(server, name, had=2)
                    assert await again.receive_str() == "!1"
                    await again.close()


class Device:
    """One end of a transfer, which connects again whenever its socket closes."""

    def __init__(self, person: Person, role: str, transfer_id: str) -> None:
        self.heard: list[dict[str, object]] = []  # of `peer`
        self._end = (person, role, transfer_id)

    @property
    def round(self) -> object:
        """Of the meeting that it is in, or None."""
        return self.heard[-1]["round"] if self.heard else None

    async def run(self) -> None:
        while True:
            try:
                one = await end(*self._end)
                async for message in one.ws:
                    frame = message.json()
                    if frame["type"] == "peer":
                        self.heard.append(frame)
            except aiohttp.ClientError:
                pass
            self.heard.append({"round": None})
            await asyncio.sleep(0.5)


async def test_ends_that_came_to_two_processes_find_each_other_and_stay(two: Deployment) -> None:
    """While one process is away the other one takes its ends; when it is back, the other ends come to it."""
    url = two.balance()
    async with http_session() as http, AsyncExitStack() as stack:
        both = await pair(Server(http, url))
        transfers = [await both.accepted(1000, client_id=f"k{number}") for number in range(8)]
        senders, receivers = (
            [Device(person, role, transfer["id"]) for transfer in transfers]
            for person, role in ((both.asha, "sender"), (both.ben, "receiver")))

        async def start(devices: list[Device]) -> None:
            for device in devices:
                running = asyncio.create_task(device.run())
                stack.callback(running.cancel)
            await _until(lambda: all(device.heard for device in devices), SHORT_S)

        await asyncio.to_thread(two.servers[0].kill)
        await start(senders)
        await asyncio.to_thread(two.servers[0].start)
        await asyncio.sleep(AWAY_S)
        await start(receivers)
        pairs = list(zip(senders, receivers, strict=True))
        apart = [one for one in receivers if one.heard[0]["round"] is None]
        assert apart, "every transfer belongs to the process that stayed"
        await _until(lambda: all(one.round and one.round == other.round for one, other in pairs), MEET_S)
        before = [(len(one.heard), len(other.heard)) for one, other in pairs]
        await asyncio.sleep(KEPT_S)
        assert [(len(one.heard), len(other.heard)) for one, other in pairs] == before
        assert [await _metric(http, url, "hypersend_relay_sockets") for url in two.urls] == [
            2 * len(apart), 2 * (len(pairs) - len(apart))]


async def _until(ready: Callable[[], bool], limit_s: float) -> None:
    async with asyncio.timeout(limit_s):
        while not ready():
            await asyncio.sleep(0.05)


async def _metric(http: aiohttp.ClientSession, url: str, name: str) -> float:
    async with http.get(f"{url}/metrics") as answer:
        numbers = await answer.text()
    return next(float(line.rsplit(" ", 1)[1]) for line in numbers.splitlines() if line.startswith(f"{name} "))


async def _relayed(http: aiohttp.ClientSession, url: str) -> float:
    async with http.get(f"{url}/metrics") as answer:
        numbers = await answer.text()
    return sum(float(line.rsplit(" ", 1)[1]) for line in numbers.splitlines()
               if line.startswith("hypersend_relayed_bytes") and 'way="relay"' in line)
