"""What the realtime layer alone costs: deliveries and commands a second, memory of an idle socket.

    .venv/bin/python -m benchmarks.realtime deliveries [--sockets 49] [--messages 10000] [--at-once 1]
    .venv/bin/python -m benchmarks.realtime commands [--sockets 50] [--messages 50000]
    .venv/bin/python -m benchmarks.realtime idle [--sockets 1000]

Real server and real sockets over loopback; the commands are empty, so no database is in it. The clients are in a
process of their own on the same machine, without a WebSocket library, so that they cost little. `commands` has one
message.send in flight on each socket.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import multiprocessing
import os
import resource
import time
from typing import Any

from aiohttp import web

from hypersend_server.clock import system_clock
from hypersend_server.http import Caller
from hypersend_server.limits import NoLimits
from hypersend_server.realtime import wire
from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.realtime.events import Frame
from hypersend_server.realtime.hub import Hub
from hypersend_server.realtime.presence import PresenceTracker
from hypersend_server.realtime.socket import PATH, SocketEdge


class Tokens:
    """A token is a person's id."""

    async def authenticate_token(self, token: str) -> Caller:
        return Caller(token, "session-" + token)


async def nothing(*_: Any) -> Any:
    return {}


async def serve() -> tuple[web.AppRunner, int, LocalBus, Hub]:
    bus = LocalBus()
    presence = PresenceTracker(bus, nothing, nothing, system_clock)
    hub = Hub(bus, nothing, presence)
    commands = {kind: nothing for kind in wire.CLIENT_FRAMES}
    edge = SocketEdge(
        hub, presence, Tokens(), commands, epoch="e", origins=(), limits=NoLimits(), clock=system_clock)
    app = web.Application()
    app.router.add_get(PATH, edge.handle)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    await hub.start()
    return runner, runner.addresses[0][1], bus, hub


async def connect(port: int, user_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {user_id}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"}")  # the ready frame
    return reader, writer


async def _count(port: int, sockets: int, frame_bytes: int, frames: int, connected: Any, done: Any) -> None:
    streams = [await connect(port, f"user-{n}") for n in range(sockets)]
    connected.set()

    async def read(reader: asyncio.StreamReader) -> None:
        left = frame_bytes * frames
        while left > 0:
            data = await reader.read(262_144)
            if not data:
                raise ConnectionError("the server closed a socket")
            left -= len(data)

    await asyncio.gather(*(read(reader) for reader, _ in streams))
    done.set()
    for _, writer in streams:
        writer.close()


def count(*arguments: Any) -> None:
    asyncio.run(_count(*arguments))


async def deliveries(sockets: int, messages: int, at_once: int) -> None:
    runner, port, bus, hub = await serve()
    body = b'{"id":"%b","chat_id":"%b","seq":1,"rev":1,"text":"%b"}' % (b"i" * 26, b"c" * 26, b"t" * 300)
    frame = wire.message(body)
    context = multiprocessing.get_context("spawn")
    connected, done = context.Event(), context.Event()
    client = context.Process(target=count, args=(port, sockets, len(frame) + 4, messages, connected, done))
    client.start()
    while not connected.is_set():
        await asyncio.sleep(0.05)
    user_ids = [f"user-{n}" for n in range(sockets)]
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(messages):
        bus.publish(Frame(user_ids, frame))
        if n % at_once == at_once - 1:
            await asyncio.sleep(0)
            while hub.most_waiting() > 1024:
                await asyncio.sleep(0.001)
    while not done.is_set():
        await asyncio.sleep(0.005)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"{sockets * messages / took:,.0f} deliveries/s ({messages:,} messages of {len(frame)} bytes to "
          f"{sockets} sockets, {at_once} a turn of the loop; {cpu / took:.0%} of a core in the server)")
    client.join()
    await runner.cleanup()


async def _command(port: int, sockets: int, messages: int, connected: Any, done: Any) -> None:
    streams = [await connect(port, f"user-{n}") for n in range(sockets)]
    connected.set()
    text = b'{"type":"message.send","ref":"1","chat_id":"%b","client_id":"%b","text":"%b"}' % (
        b"c" * 26, b"i" * 26, b"t" * 100)
    frame = b"\x81\xfe" + len(text).to_bytes(2, "big") + b"\0\0\0\0" + text
    ack_bytes = 2 + len(wire.ack("1", {}))

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(messages // sockets):
            writer.write(frame)
            await reader.readexactly(ack_bytes)

    await asyncio.gather(*(run(*stream) for stream in streams))
    done.set()
    for _, writer in streams:
        writer.close()


def command(*arguments: Any) -> None:
    asyncio.run(_command(*arguments))


async def commands(sockets: int, messages: int) -> None:
    runner, port, _, _ = await serve()
    context = multiprocessing.get_context("spawn")
    connected, done = context.Event(), context.Event()
    client = context.Process(target=command, args=(port, sockets, messages, connected, done))
    client.start()
    while not connected.is_set():
        await asyncio.sleep(0.01)
    began, cpu = time.perf_counter(), time.process_time()
    while not done.is_set():
        await asyncio.sleep(0.005)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"{messages / took:,.0f} commands/s acknowledged ({messages:,} over {sockets} sockets, one in flight each; "
          f"{cpu / messages * 1e6:.0f} µs of CPU each in the server)")
    client.join()
    await runner.cleanup()


def resident_kib() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() // 1024


async def _hold(port: int, sockets: int, connected: Any, done: Any) -> None:
    streams = [await connect(port, f"user-{n}") for n in range(sockets)]
    connected.set()
    while not done.is_set():
        await asyncio.sleep(0.1)
    for _, writer in streams:
        writer.close()


def hold(*arguments: Any) -> None:
    asyncio.run(_hold(*arguments))


async def idle(sockets: int) -> None:
    runner, port, bus, hub = await serve()
    context = multiprocessing.get_context("spawn")
    sizes = []
    # The first round warms the allocator, so that the second shows what sockets alone cost.
    for n in (50, sockets):
        before = resident_kib()
        connected, done = context.Event(), context.Event()
        client = context.Process(target=hold, args=(port, n, connected, done))
        client.start()
        while not connected.is_set():
            await asyncio.sleep(0.05)
        idle_kib = resident_kib() - before
        bus.publish(Frame([f"user-{m}" for m in range(n)], wire.message(b'"%b"' % (b"t" * 300))))
        await asyncio.sleep(1)
        sizes.append((n, idle_kib, resident_kib() - before))
        done.set()
        client.join()
        while hub.sockets:
            await asyncio.sleep(0.05)
    n, idle_kib, after_kib = sizes[-1]
    print(f"{idle_kib / n:.1f} KiB an idle socket, {after_kib / n:.1f} after one message each ({n} sockets)")
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("deliveries", "commands", "idle"))
    parser.add_argument("--sockets", type=int)
    parser.add_argument("--messages", type=int)
    parser.add_argument("--at-once", type=int, default=1, help="messages in a turn of the loop")
    options = parser.parse_args()
    if options.what == "deliveries":
        asyncio.run(deliveries(options.sockets or 49, options.messages or 10_000, options.at_once))
    elif options.what == "commands":
        asyncio.run(commands(options.sockets or 50, options.messages or 50_000))
    else:
        asyncio.run(idle(options.sockets or 1000))


if __name__ == "__main__":
    main()
