"""Writers and listeners over WebSocket, one message in flight a writer; frames by hand, so that the client takes
little of the machine that it shares with the server.

Standard input, one line of JSON:
    port; protocol: {ack, message, refused}: how those frames begin; accepted: what an ack of a stored message contains
    sockets: [{path, headers, hello: [{send, until}], message: [before, after], marks: [[before, after]]}]
        hello: frames sent first, each with a text that its answer contains ('send' may be null: only wait)
        message: a frame's text around a number that differs each time; null for one who only listens
        marks: frames around the number of the last message seen, sent once a second
    listeners: how many sockets hear a message; warm_s, seconds: how long
    hold: stay connected until standard input ends, and do nothing else
Standard output: {messages, seconds, per_s, deliveries_per_s, p50_ms, p99_ms, cpu_s}. The seconds end with the last
delivery, and each message must have arrived at every listener, else this fails.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import re
import statistics
import sys
import time
from functools import partial
from typing import Any

DRAIN_S = 30.0
LATENCIES = 200_000
_SEQ = re.compile(rb'"seq":(\d+)')


def text_frame(payload: bytes) -> bytes:
    """As a client sends it: masked, with a mask of zeros. Source: RFC 6455 section 5.2."""
    size = len(payload)
    if size < 126:
        return b"\x81%c\0\0\0\0%b" % (0x80 | size, payload)
    return b"\x81\xfe" + size.to_bytes(2, "big") + b"\0\0\0\0" + payload


class Load:
    """What all sockets share."""

    def __init__(self, plan: dict[str, Any]) -> None:
        protocol = plan["protocol"]
        self.ack = protocol["ack"].encode()
        self.message = protocol["message"].encode()
        self.accepted = protocol["accepted"].encode()
        self.refused = protocol["refused"].encode()
        self.number = 10_000_000
        self.running = False
        self.acks = 0
        self.deliveries = 0
        self.in_flight = 0
        self.latencies: list[float] = []
        self.last_at = 0.0
        self.failure = ""


class Socket(asyncio.Protocol):
    def __init__(self, load: Load, port: int, plan: dict[str, Any]) -> None:
        self.load = load
        self.port = port
        self.plan = plan
        self.rest = b""
        self.is_open = asyncio.get_running_loop().create_future()
        self.hello = list(plan["hello"])
        self.upgraded = False
        self.sent_at = 0.0
        self.last_message = b""
        if plan["message"] is not None:
            before, after = (part.encode() for part in plan["message"])
            frame = text_frame(before + b"%08d" % load.number + after)
            at = frame.index(before) + len(before)
            self.before, self.after = frame[:at], frame[at + 8:]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        headers = "".join(f"{name}: {value}\r\n" for name, value in self.plan["headers"].items())
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self.plan['path']} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{headers}\r\n".encode())

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the server closed a socket ({exc})")

    def fail(self, reason: str) -> None:
        self.load.failure = self.load.failure or reason
        if not self.is_open.done():
            self.is_open.set_exception(ConnectionError(reason))

    def send(self) -> None:
        load = self.load
        load.number += 1
        load.in_flight += 1
        self.sent_at = time.perf_counter()
        self.transport.write(self.before + b"%08d" % load.number + self.after)

    def mark(self) -> None:
        match = _SEQ.search(self.last_message)
        if match:
            for before, after in self.plan["marks"]:
                self.transport.write(text_frame(before.encode() + match[1] + after.encode()))

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        at = 0
        if not self.upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self.rest = data
                return
            if b" 101 " not in data[:20]:
                self.fail(data[:200].decode(errors="replace"))
                return
            self.upgraded = True
            at = end + 4
            self.greet(b"")
        load = self.load
        ack, message = load.ack, load.message
        size = len(data)
        while size - at >= 2:
            length = data[at + 1]
            start = at + 2
            if length == 126:
                if size - at < 4:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                start = at + 4
            elif length == 127:
                if size - at < 10:
                    break
                length = int.from_bytes(data[at + 2:at + 10], "big")
                start = at + 10
            end = start + length
            if end > size:
                break
            if data.startswith(message, start):
                load.deliveries += 1
                if end == size or size - end < 200:  # once a batch is enough for marks
                    self.last_message = data[start:end]
                    load.last_at = time.perf_counter()
            elif self.hello:
                self.greet(data[start:end])
            elif data.startswith(ack, start):
                if data.find(load.accepted, start, end) < 0:
                    self.fail(data[start:end].decode(errors="replace"))
                self.acknowledged()
            elif data[at] == 0x89:
                self.transport.write(b"\x8a%c\0\0\0\0%b" % (0x80 | length, data[start:end]))
            elif data.startswith(load.refused, start) or data[at] == 0x88:
                self.fail(data[start:end].decode(errors="replace"))
            at = end
        self.rest = data[at:] if at < size else b""

    def acknowledged(self) -> None:
        load = self.load
        now = time.perf_counter()
        load.acks += 1
        load.in_flight -= 1
        load.last_at = now
        if len(load.latencies) < LATENCIES:
            load.latencies.append(now - self.sent_at)
        if load.running:
            self.send()

    def greet(self, answer: bytes) -> None:
        """One step of the hello; b'' begins it."""
        if answer:
            if self.hello[0]["until"].encode() not in answer:
                if answer.startswith(self.load.refused):
                    self.fail(answer.decode(errors="replace"))
                return
            self.hello.pop(0)
        if self.hello:
            if self.hello[0]["send"] is not None:
                self.transport.write(text_frame(self.hello[0]["send"].encode()))
        elif not self.is_open.done():
            self.is_open.set_result(None)


async def turn(load: Load, writers: list[Socket], sockets: list[Socket], seconds: float) -> None:
    """Write for so long, then wait until everything has been acknowledged."""
    load.running = True
    for writer in writers:
        writer.send()
    until = time.perf_counter() + seconds
    next_mark = time.perf_counter() + 1
    while (now := time.perf_counter()) < until and not load.failure:
        await asyncio.sleep(min(until - now, 0.05))
        if time.perf_counter() > next_mark:
            next_mark += 1
            for socket in sockets:
                socket.mark()
    load.running = False
    give_up = time.perf_counter() + DRAIN_S
    while load.in_flight and not load.failure:
        if time.perf_counter() > give_up:
            raise RuntimeError(f"{load.in_flight} messages were not acknowledged")
        await asyncio.sleep(0.002)
    if load.failure:
        raise RuntimeError(load.failure)


async def delivered(load: Load, listeners: int) -> None:
    give_up = time.perf_counter() + DRAIN_S
    while load.deliveries < load.acks * listeners:
        if time.perf_counter() > give_up or load.failure:
            raise RuntimeError(
                f"{load.deliveries} deliveries of {load.acks} messages to {listeners} each. {load.failure}")
        await asyncio.sleep(0.002)
    if load.deliveries > load.acks * listeners:
        raise RuntimeError(f"{load.deliveries} deliveries of {load.acks} messages to {listeners} each")


async def main() -> None:
    plan = json.loads(sys.stdin.readline())
    load = Load(plan)
    loop = asyncio.get_running_loop()
    sockets: list[Socket] = []
    for socket_plan in plan["sockets"]:
        _, socket = await loop.create_connection(
            partial(Socket, load, plan["port"], socket_plan), "127.0.0.1", plan["port"])
        await asyncio.wait_for(socket.is_open, 30)
        sockets.append(socket)
    if plan.get("hold"):
        print("connected", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        return
    writers = [socket for socket in sockets if socket.plan["message"] is not None]
    await turn(load, writers, sockets, plan["warm_s"])
    await delivered(load, plan["listeners"])
    gc.collect()
    gc.freeze()
    load.acks = load.deliveries = 0
    load.latencies.clear()
    began, cpu = time.perf_counter(), time.process_time()
    await turn(load, writers, sockets, plan["seconds"])
    await delivered(load, plan["listeners"])
    took = load.last_at - began
    ordered = sorted(load.latencies)
    print(json.dumps({
        "messages": load.acks, "seconds": took, "per_s": load.acks / took,
        "deliveries_per_s": load.deliveries / took, "p50_ms": statistics.median(ordered) * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    asyncio.run(main())
