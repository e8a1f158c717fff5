"""A small HTTP proxy before a real S3 server that fails on demand: its faults are those of networks and of stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Request:
    """target: path and query. Header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """In the store's place. body: XML."""

    status: int
    body: str


def refuse(status: int, code: str) -> Answer:
    return Answer(status, f"<Error><Code>{code}</Code><Message>on demand</Message></Error>")


@dataclass(frozen=True)
class LoseAnswer:
    """The store does it; the answer never arrives."""


@dataclass(frozen=True)
class CutAnswer:
    """The connection breaks after so many bytes of the answer, its head included."""

    after: int


@dataclass(frozen=True)
class Change:
    """The store gets another body."""

    body: bytes


Fault = Answer | LoseAnswer | CutAnswer | Change | None


@dataclass
class FaultyProxy:
    """fault: decides for each request. before: awaited ahead of it. seen: all requests.

    hung_up: set when a client leaves before its answer's end.
    """

    upstream: str
    fault: Callable[[Request], Fault] = lambda request: None
    before: Callable[[Request], Awaitable[None]] | None = None
    seen: list[Request] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._exchange(reader, writer)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        fields = [line.partition(":") for line in lines[1:-2]]
        headers = {name.strip().lower(): value.strip() for name, _, value in fields}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(method, target, headers, body)
        self.seen.append(request)
        if self.before is not None:
            await self.before(request)
        fault = self.fault(request)
        if isinstance(fault, Answer):
            writer.write(f"HTTP/1.1 {fault.status} Instead\r\nContent-Type: application/xml\r\nConnection: close\r\n"
                         f"Content-Length: {len(fault.body)}\r\n\r\n{fault.body}".encode())
            await writer.drain()
            return
        if isinstance(fault, Change):
            body = fault.body
        await self._forward(request, body, fault, writer)

    async def _forward(
        self, request: Request, body: bytes, fault: Fault, writer: asyncio.StreamWriter
    ) -> None:
        to = urlsplit(self.upstream)
        from_store, to_store = await asyncio.open_connection(to.hostname, to.port)
        try:
            head = [f"{request.method} {request.target} HTTP/1.1", "Connection: close"]
            head += [f"{name}: {value}" for name, value in request.headers.items() if name != "connection"]
            to_store.write("\r\n".join([*head, "", ""]).encode() + body)
            await to_store.drain()
            sent = 0
            while part := await from_store.read(65_536):
                if isinstance(fault, LoseAnswer):
                    continue
                if isinstance(fault, CutAnswer) and sent + len(part) >= fault.after:
                    writer.write(part[:fault.after - sent])
                    await writer.drain()
                    return
                sent += len(part)
                writer.write(part)
                try:
                    await writer.drain()
                except ConnectionError:
                    self.hung_up.set()
                    return
        finally:
            to_store.close()


@asynccontextmanager
async def faulty_proxy(
    upstream: str, fault: Callable[[Request], Fault] = lambda request: None,
    before: Callable[[Request], Awaitable[None]] | None = None,
) -> AsyncIterator[FaultyProxy]:
    proxy = FaultyProxy(upstream, fault, before)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def is_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber=" in request.target and "/files/" in request.target


def is_completing(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.target


def is_listing_parts(request: Request) -> bool:
    return request.method == "GET" and "uploadId=" in request.target


def times(count: int, wanted: Callable[[Request], bool], fault: Fault) -> Callable[[Request], Fault]:
    """The fault for the first so many requests of a kind."""
    left = count

    def decide(request: Request) -> Fault:
        nonlocal left
        if not wanted(request) or left == 0:
            return None
        left -= 1
        return fault

    return decide
