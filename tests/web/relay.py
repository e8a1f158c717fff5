"""A TCP relay between browser and server: a line that can be slow, and cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

STEP_BYTES = 64 * 1024


class Relay:
    """up_bytes_per_s: of each connection, None for no limit. up_bytes: what went to the server so far.
    cut_after: bytes from the browser, once.

    takes_sockets: False ends each WebSocket that is asked for from then on.
    After a cut the line stays down until `is_down` is set back. (Browsers repeat a request by themselves, from its
    beginning, where a connection that served before breaks and a new one can be had.)
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self.url = ""
        self.up_bytes_per_s: int | None = None
        self.up_bytes = 0
        self.cut_after: int | None = None
        self.is_down = False
        self.takes_sockets = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._sockets: set[asyncio.StreamWriter] = set()  # of those, WebSockets
        self._ends = asyncio.Event()
        self.flows = asyncio.Event()  # cleared, everything waits
        self.flows.set()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server, from_server = writer, None
        self._writers.add(writer)
        try:
            if self.is_down:
                return
            from_server, to_server = await asyncio.open_connection(self._target.hostname, self._target.port)
            self._writers.add(to_server)
            down = asyncio.create_task(self._copy(from_server, writer, writer))
            await self._copy(reader, to_server, writer, up=True)
            down.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await down
        except OSError:
            pass  # one side went away: so does the other
        finally:
            if writer in self._forgotten:
                await self._ends.wait()
            for each in (writer, to_server):
                self._writers.discard(each)
                each.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, browser: asyncio.StreamWriter,
        up: bool = False,
    ) -> None:
        with contextlib.suppress(OSError):
            while part := await reader.read(STEP_BYTES):
                if up and b"Upgrade: websocket" in part:
                    self._sockets.add(browser)
                    if not self.takes_sockets:
                        return
                if browser in self._forgotten:
                    return
                await self.flows.wait()
                writer.write(part)
                await writer.drain()
                if up:
                    self.up_bytes += len(part)
                if up and self.cut_after is not None:
                    self.cut_after -= len(part)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        self.cut()
                if up and self.up_bytes_per_s:
                    await asyncio.sleep(len(part) / self.up_bytes_per_s)

    def cut(self) -> None:
        """Every connection breaks in the middle of what it carries."""
        self.is_down = True
        for writer in list(self._writers):
            writer.transport.abort()

    def forget(self, *, only_sockets: bool = False) -> None:
        """Every connection that is open, or every WebSocket, passes nothing any more, and nobody is told; new ones are
        as before."""
        self._forgotten |= self._writers & self._sockets if only_sockets else self._writers

    def close(self) -> None:
        self._ends.set()
        self.cut()


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    line = Relay(target)
    server = await asyncio.start_server(line.handle, "127.0.0.1", 0, limit=STEP_BYTES)
    line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
        line.close()
        await server.wait_closed()
