"""The pipe between two processes: a device that is gone without a word is let go, one that only waits is not."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from hypersend_server.p2p import edge
from tests.http_session import http_session


async def echo(request: web.Request) -> web.StreamResponse:
    """The process that joins: it pings, and returns what it gets."""
    ws = web.WebSocketResponse(heartbeat=0.2)
    await ws.prepare(request)
    async for message in ws:
        await ws.send_bytes(message.data)
    return ws


async def test_silence_of_the_device_ends_the_pipe_and_waiting_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "PING_S", 0.1)
    monkeypatch.setattr(edge, "SILENCE_S", 1.0)
    ended: list[str] = []
    there, front = web.Application(), web.Application()
    there.router.add_get("/", echo)
    async with TestServer(there) as joining, http_session() as http:
        async def pipe(request: web.Request) -> web.StreamResponse:
            ws = web.WebSocketResponse()
            await ws.prepare(request)
            async with http.ws_connect(joining.make_url("/")) as other:
                await edge._join(ws, other, asyncio.Event())
            ended.append(request.query["name"])
            return ws

        front.router.add_get("/", pipe)
        async with TestServer(front) as here:
            waits = await http.ws_connect(here.make_url("/?name=waits"))
            silent = await http.ws_connect(here.make_url("/?name=silent"), autoping=False)
            for ws in (waits, silent):
                await ws.send_bytes(b"tea")
                while (heard := await ws.receive(10)).type is not aiohttp.WSMsgType.BINARY:
                    pass
                assert heard.data == b"tea"
            async with asyncio.timeout(30):
                while not ended:
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(waits.receive(), 0.3)  # answers the pings, and hears nothing else
            assert ended == ["silent"]
            await waits.send_bytes(b"still here")
            assert (await waits.receive(10)).data == b"still here"
            await waits.close()
            await silent.close()


async def flood(request: web.Request) -> web.StreamResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await ws.send_bytes(bytes(60_000))
    return ws


async def test_a_device_that_speaks_and_takes_nothing_ends_the_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "SILENCE_S", 1.0)
    there, front, ended = web.Application(), web.Application(), asyncio.Event()
    there.router.add_get("/", flood)
    async with TestServer(there) as joining, http_session() as http:
        async def pipe(request: web.Request) -> web.StreamResponse:
            ws = web.WebSocketResponse(timeout=0.1)
            await ws.prepare(request)
            async with http.ws_connect(joining.make_url("/")) as other:
                await edge._join(ws, other, asyncio.Event())
                ended.set()
            return ws

        front.router.add_get("/", pipe)
        async with TestServer(front) as here:
            device = await http.ws_connect(here.make_url("/"))
            async with asyncio.timeout(30):
                while not ended.is_set():
                    with contextlib.suppress(ConnectionError):
                        await device.send_str("I am here")
                    await asyncio.sleep(0.1)
            await device.close()
