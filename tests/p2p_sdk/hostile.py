"""A server that lies: it stands before the honest one, and does to answers and frames what a test tells it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from tests.http_session import http_session

# What is of a connection, and of how bytes go over it, is not passed on.
OF_THE_LINE = frozenset({
    "host", "connection", "keep-alive", "upgrade", "transfer-encoding", "content-length", "content-encoding",
    "accept-encoding", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions", "expect"})

Frame = str | bytes
Frames = Callable[[Frame], list[Frame]]


class Hostile:
    """down, up: what becomes of a frame of a transfer's socket. answer: what becomes of the JSON of an answer.

    taking: while it is not set, nothing that a device sends on a socket is taken.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self.url = ""
        self.down: Frames = lambda frame: [frame]
        self.up: Frames = lambda frame: [frame]
        self.answer: Callable[[str, Any], Any] = lambda path, found: found
        self.taking = asyncio.Event()
        self.taking.set()
        self.back: list[bytes] = []  # to be sent back to where it came from

    async def serve(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in OF_THE_LINE}
        async with http_session(self._target) as http:
            if request.headers.get("Upgrade") == "websocket":
                return await self._socket(request, http, headers)
            body = await request.read()
            data: Any = io.BytesIO(body) if body else None
            async with http.request(request.method, request.rel_url, headers=headers, data=data) as found:
                data = await found.read()
                if found.content_type == "application/json":
                    data = json.dumps(self.answer(request.path, json.loads(data))).encode()
                kept = {name: value for name, value in found.headers.items() if name.lower() not in OF_THE_LINE}
                return web.Response(status=found.status, body=data, headers=kept)

    async def _socket(
        self, request: web.Request, http: aiohttp.ClientSession, headers: dict[str, str]
    ) -> web.StreamResponse:
        try:
            there = await http.ws_connect(request.rel_url, headers=headers, max_msg_size=0)
        except aiohttp.WSServerHandshakeError as refused:
            return web.Response(status=refused.status)
        here = web.WebSocketResponse(max_msg_size=0)
        await here.prepare(request)

        async def copy(source: Any, target: Any, change: Frames) -> None:
            async for message in source:
                if source is here:
                    await self.taking.wait()
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    for frame in change(message.data):
                        with contextlib.suppress(ConnectionError):  # what it says last is still passed on
                            await (target.send_str(frame) if isinstance(frame, str) else target.send_bytes(frame))
                    while source is here and self.back:
                        await here.send_bytes(self.back.pop())

        tasks = [asyncio.create_task(copy(there, here, lambda frame: self.down(frame))),
                 asyncio.create_task(copy(here, there, lambda frame: self.up(frame)))]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await here.close(code=there.close_code or 1001)
        await there.close()
        return here


@contextlib.asynccontextmanager
async def hostile_to(target: str) -> AsyncIterator[Hostile]:
    hostile = Hostile(target)
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", hostile.serve)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hostile.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield hostile
    finally:
        await runner.cleanup()
