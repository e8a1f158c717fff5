"""Messages through two processes over MongoDB's stand-in and Redis: `python -m benchmarks.scaling`.

Beside it one process over SQLite. Pairs of people in direct chats; the sender's socket is at one process and the
reader's at the other. Each sender keeps a few messages in flight. From the reader's frames come rate and delay; from
/proc the CPU that the servers spend on a message. The stand-in (secantusdb, Python over WiredTiger) is there for
correctness: its rate says nothing of MongoDB's, but what our own processes spend does, since they speak the same
protocol to both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.harness import Server, Socket
from tests.mongo_server import MongoServer
from tests.process import ServerProcess
from tests.redis_server import RedisServer
from tests.scale.deployment import Deployment, at

PAIRS = 10
IN_FLIGHT = 4
LONG_S = 300.0


class Figures(NamedTuple):
    """Delays from sending to the reader's frame. cpu_ms: of our processes, a message."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float


def cpu_s(pids: Sequence[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def measure(urls: tuple[str, str], pids: Sequence[int], messages: int) -> Figures:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), connector=connector) as http:
        server = Server(http, urls[0])
        pairs: list[tuple[str, Socket, Socket]] = []
        for number in range(PAIRS):
            one, other = await server.person(f"one{number}"), await server.person(f"other{number}")
            chat = (await one.post("/chats", {"kind": "direct", "user_id": other.id})).json
            pairs.append((chat["id"], await one.socket(), await at(urls[1], other).socket()))
        sent_at: dict[str, float] = {}
        delays: list[float] = []

        async def talk(chat_id: str, sender: Socket, reader: Socket) -> None:
            room = asyncio.Semaphore(IN_FLIGHT)

            async def acks() -> None:
                for _ in range(messages):
                    await sender.until("ack", LONG_S)
                    room.release()

            async def hear() -> None:
                for _ in range(messages):
                    message = (await reader.until("message", LONG_S))["message"]
                    delays.append(time.perf_counter() - sent_at.pop(message["text"]))

            ears = [asyncio.create_task(acks()), asyncio.create_task(hear())]
            for number in range(messages):
                await room.acquire()
                text = f"{chat_id} {number}"
                sent_at[text] = time.perf_counter()
                await sender.send(type="message.send", ref="r", chat_id=chat_id, client_id=text, text=text)
            await asyncio.gather(*ears)

        began, spent = time.perf_counter(), cpu_s(pids)
        await asyncio.gather(*(talk(*each) for each in pairs))
        took_s, spent = time.perf_counter() - began, cpu_s(pids) - spent
        for _, sender, reader in pairs:
            await sender.close()
            await reader.close()
    delays.sort()
    count = len(delays)
    return Figures(count / took_s, delays[count // 2] * 1000, delays[count * 99 // 100] * 1000, spent / count * 1000)


@contextlib.contextmanager
def two_processes(folder: Path) -> Iterator[Deployment]:
    with contextlib.ExitStack() as stack:
        mongo, redis = MongoServer(folder / "mongo"), RedisServer(folder / "redis")
        stack.callback(mongo.start().kill)
        stack.callback(redis.start().kill)
        yield stack.enter_context(Deployment(folder / "two", mongo, redis))


def show(name: str, figures: Figures) -> None:
    print(f"{name}: {figures.per_s:,.0f} messages/s, p50 {figures.p50_ms:.1f} ms, p99 {figures.p99_ms:.1f} ms,"
          f" {figures.cpu_ms:.2f} ms of CPU in our processes a message", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--messages", type=int, default=200, help="of each pair")
    messages = parser.parse_args().messages
    with tempfile.TemporaryDirectory() as place:
        with ServerProcess(Path(place) / "data", RATE_LIMITS="off") as server:
            show("one process, SQLite", asyncio.run(measure((server.url, server.url), [server.pid], messages * 5)))
        with two_processes(Path(place)) as two:
            pids = [server.pid for server in two.servers]
            show("one process, the stand-in, Redis",
                 asyncio.run(measure((two.urls[0], two.urls[0]), pids[:1], messages)))
        with two_processes(Path(place) / "b") as two:
            pids = [server.pid for server in two.servers]
            show("two processes, the stand-in, Redis", asyncio.run(measure(two.urls, pids, messages)))


if __name__ == "__main__":
    main()
