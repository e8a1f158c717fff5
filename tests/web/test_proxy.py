"""The WebSocket between a page and the screens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hypersend_server.clock import system_clock
from hypersend_server.limits import Buckets
from hypersend_server.web_client.proxy import MAX_FROM_BROWSER_BYTES
from tests.web.site import Site, site


class Echo:
    """Screens that say what they were told, then repeat what they hear."""

    def __init__(self) -> None:
        self.url = ""
        self.closed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await socket.send_json(dict(request.headers))
        async for message in socket:
            if message.data == b"large":
                await socket.send_bytes(b"x" * 5_000_000)
            elif message.data == b"bye":
                await socket.close()
            else:
                await socket.send_bytes(message.data)
        self.closed.set()
        return socket


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    screens = Echo()
    app = web.Application()
    app.router.add_get("/ws", screens.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    screens.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield screens
    finally:
        await runner.cleanup()


async def connect(server: Site, origin: str | None = "", **headers: str) -> aiohttp.ClientWebSocketResponse:
    if origin is not None:
        headers["Origin"] = origin or server.url
    return await server.http.ws_connect(server.url + "/ws", headers=headers, max_msg_size=0)


async def test_screens_hear_of_the_browser_and_not_its_secrets(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await connect(
            server, **{"X-Forwarded-For": "203.0.113.7", "User-Agent": "Phone", "Cookie": "secret=1",
                       "Authorization": "Bearer x", "X-HyperSend-Access-Token": "forged"})
        told = await socket.receive_json()
        await socket.close()
    assert told["X-Forwarded-For"] == "203.0.113.7"
    assert told["User-Agent"] == "Phone"
    assert told["Host"] == server.url.removeprefix("http://")
    assert not {"Cookie", "Authorization", "X-HyperSend-Access-Token"} & told.keys()


@pytest.mark.parametrize("origin", [None, "https://evil.example", "null", "http://127.0.0.1:1"])
async def test_pages_of_others_are_refused(tmp_path: Path, origin: str | None) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(server, origin)
    assert refused.value.status == 403


async def test_origins_that_the_operator_names_are_let_in(tmp_path: Path) -> None:
    async with echo() as screens, site(
        tmp_path, web_client=screens.url, origins=("https://chat.example.org",)
    ) as server:
        socket = await connect(server, "https://chat.example.org")
        assert (await socket.receive_json())["X-Forwarded-Proto"] == "https"
        await socket.close()


async def test_large_pictures_reach_the_browser_and_large_frames_do_not_reach_the_screens(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await connect(server)
        await socket.receive_json()
        await socket.send_bytes(b"large")
        assert len((await socket.receive()).data) == 5_000_000
        await socket.send_bytes(b"x" * (MAX_FROM_BROWSER_BYTES + 1))
        assert (await socket.receive(5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        await asyncio.wait_for(screens.closed.wait(), 5)


async def test_a_closed_end_closes_the_other(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        leaving = await connect(server)
        await leaving.receive_json()
        await leaving.close()
        await asyncio.wait_for(screens.closed.wait(), 5)
        left = await connect(server)
        await left.receive_json()
        await left.send_bytes(b"bye")
        assert (await left.receive(5)).type is aiohttp.WSMsgType.CLOSE


async def test_stopping_does_not_wait_for_open_pages(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        sockets = [await connect(server) for _ in range(5)]
        for socket in sockets:
            await socket.receive_json()
        receiving = [asyncio.create_task(socket.receive()) for socket in sockets]
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 2
        for message in await asyncio.gather(*receiving):
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1012)


async def test_screens_that_are_gone_mean_try_again(tmp_path: Path) -> None:
    async with site(tmp_path, web_client="http://127.0.0.1:9") as server:
        answer = await server.request("GET", server.url + "/ws", headers={
            "Origin": server.url, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "x" * 22 + "=="})
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "not_ready", "2")


async def test_one_address_cannot_open_sockets_without_end(tmp_path: Path) -> None:
    async with echo() as screens, site(
        tmp_path, web_client=screens.url, limit=Buckets(0.01, 2, system_clock)
    ) as server:
        for _ in range(2):
            await (await connect(server)).close()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await connect(server)
        assert refused.value.status == 429
        await (await connect(server, **{"X-Forwarded-For": "203.0.113.8"})).close()


@pytest.mark.parametrize(("cookie", "told"), [
    ("Asia/Kolkata", "Asia/Kolkata"), ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
    ("Etc/GMT+5", "Etc/GMT+5"), ("undefined", "undefined"), ("../x", None), ("/etc/passwd", None), ("a" * 65, None),
])
async def test_screens_hear_where_the_browsers_clock_is(tmp_path: Path, cookie: str, told: str | None) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await connect(server, **{"Cookie": f"hypersend_zone={cookie}", "X-HyperSend-Zone": "forged"})
        assert (await socket.receive_json()).get("X-HyperSend-Zone") == told
        await socket.close()
