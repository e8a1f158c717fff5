"""A network that is as bad as a test needs it, between a client and a server."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

PIECE = 16 * 1024


class Line:
    """up_bytes, down_bytes: what passed. bytes_per_s: of all connections together, in each direction.

    silent_after: connections that carried so many bytes upwards stand still without being closed. refusals: so
    many requests are answered 503. flips: so far into the stream downwards one bit is turned. cut_each: every
    connection is reset after so many bytes in either direction, whichever connections carried them. is_dark: nothing
    passes in either direction, and no connection is closed.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._next_at = [0.0, 0.0]
        self.url = ""
        self.is_open = True
        self.is_dark = False
        self.bytes_per_s: float | None = None
        self.silent_after: int | None = None
        self.refusals = 0
        self.refused = 0
        self.flips: list[int] = []
        self.up_bytes = 0
        self.down_bytes = 0
        self.cuts = 0
        self.cut_each: int | None = None
        self._since_cut = 0

    def cut(self) -> None:
        """Reset every connection."""
        self.cuts += 1
        self._since_cut = 0
        for writer in self._writers:
            writer.transport.abort()

    async def until_bytes(self, *, up: int = 0, down: int = 0) -> None:
        """Until so many more have passed."""
        wanted = self.up_bytes + up, self.down_bytes + down
        async with asyncio.timeout(30):
            while self.up_bytes < wanted[0] or self.down_bytes < wanted[1]:
                await asyncio.sleep(0.005)

    async def until_still(self) -> int:
        """Until nothing has passed for a while; how much had passed upwards and downwards together."""
        async with asyncio.timeout(60):
            while True:
                before = self.up_bytes + self.down_bytes
                await asyncio.sleep(0.3)
                if before == self.up_bytes + self.down_bytes:
                    return before

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_open:
            writer.transport.abort()
            return
        if self.refusals > 0:
            await self._refuse(reader, writer)
            return
        try:
            there = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:  # the server is down
            writer.transport.abort()
            return
        both = {writer, there[1]}
        self._writers |= both
        tasks = [
            asyncio.create_task(self._pump(reader, there[1], 0)),
            asyncio.create_task(self._pump(there[0], writer, 1)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in both:
                end.transport.abort()
            self._writers -= both
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.refusals -= 1
        self.refused += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            await writer.drain()
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: int) -> None:
        carried = 0
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                if self.bytes_per_s is not None:
                    self._next_at[way] = max(self._next_at[way], loop.time()) + len(data) / self.bytes_per_s
                    await asyncio.sleep(self._next_at[way] - loop.time())
                if way == 0 and self.silent_after is not None and carried > self.silent_after:
                    await asyncio.sleep(3600)
                while self.is_dark:
                    await asyncio.sleep(0.05)
                if way == 1:
                    data = self._flip(data)
                carried += len(data)
                if way == 0:
                    self.up_bytes += len(data)
                else:
                    self.down_bytes += len(data)
                writer.write(data)
                await writer.drain()
                self._since_cut += len(data)
                if self.cut_each is not None and self._since_cut >= self.cut_each:
                    self.cut()

    def _flip(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for place in self.flips:
            if 0 <= place - self.down_bytes < len(data):
                changed[place - self.down_bytes] ^= 1
        self.flips = [place for place in self.flips if place >= self.down_bytes + len(data)]
        return bytes(changed)


@asynccontextmanager
async def line_to(target: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Line]:
    """tls: what clients see; the server behind it is spoken to in the clear."""
    line = Line(target)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(line.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    line.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # what was aborted is closed in the loop's next rounds
