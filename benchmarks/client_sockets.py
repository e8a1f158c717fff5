"""Holds many signed-in WebSockets that only answer heartbeats; from several loopback addresses, so that ports suffice.

Standard input: one line of JSON {port, tokens}; `connected` is said once all are; the end of the input ends it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import resource
import sys

from benchmarks.client_messages import text_frame

AT_ONCE = 100
PING, PONG = b"\x89\x00", b"\x8a\x80\0\0\0\0"


class Held(asyncio.Protocol):
    def __init__(self, token: str) -> None:
        self.token = token
        self.ready = asyncio.get_running_loop().create_future()
        self.upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            "GET /api/v1/ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self.upgraded:
            self.upgraded = True
            self.transport.write(text_frame(b'{"type":"auth","ref":"a","token":"%b"}' % self.token.encode()))
        if not self.ready.done() and b'"ready"' in data:
            self.ready.set_result(None)
        if PING in data:
            self.transport.write(PONG)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"the server closed a socket ({exc})"))


async def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop = asyncio.get_running_loop()
    plan = json.loads(sys.stdin.readline())

    async def hold(number: int, token: str) -> None:
        _, held = await loop.create_connection(
            lambda: Held(token), "127.0.0.1", plan["port"], local_addr=(f"127.0.1.{1 + number % 200}", 0))
        await asyncio.wait_for(held.ready, 60)

    tokens = plan["tokens"]
    for first in range(0, len(tokens), AT_ONCE):
        await asyncio.gather(*(hold(number, tokens[number])
                               for number in range(first, min(first + AT_ONCE, len(tokens)))))
    print("connected", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
