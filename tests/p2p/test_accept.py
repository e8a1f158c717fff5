"""From aiohttp to a line of ours: nothing that came is lost, and aiohttp's own books stay right."""

from __future__ import annotations

import asyncio
import base64
import os
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import WSMsgType, web

from hypersend_server.p2p import relay, wire
from hypersend_server.p2p.accept import accept
from hypersend_server.p2p.line import Buffers
from tests.harness import Server
from tests.http_session import http_session
from tests.p2p.pair import Pair, meet, pair
from tests.p2p.test_frames import client_frame, server_frames


def upgrade(both: Pair, transfer_id: str, **headers: str) -> bytes:
    fields = {
        "Host": "relay", "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **both.asha.headers, **headers}
    lines = [f"GET /api/v1/p2p/sender/{transfer_id} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


async def spoken_to(both: Pair, data: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """(head of the answer, frames until the server closes the connection) to bytes that come all at once."""
    url = urlsplit(both.asha.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            return await reader.readuntil(b"\r\n\r\n"), server_frames(await reader.read())
    finally:
        writer.close()


async def test_what_comes_right_behind_the_request_is_read(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    head, said = await spoken_to(both, upgrade(both, transfer["id"]) + client_frame(9, b"?") + client_frame(
        1, b'{"type":"cancel"}') + client_frame(8, b""))
    assert head.startswith(b"HTTP/1.1 101 ")
    assert [opcode for opcode, _ in said] == [1, 1, 10, 8]
    assert said[2:] == [(10, b"?"), (8, wire.OVER.to_bytes(2, "big") + b"cancelled")]
    assert (await both.status(transfer["id"]))["status"] == "cancelled"


@pytest.mark.parametrize(("data", "code"), [
    (b"\x82\x03tea", 1002), (b"\xc2\x83aaaatea", 1002), (client_frame(1, b"\xff"), 1007),
    (b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4), 1009)])
async def test_what_is_no_websocket_is_closed_with_its_code(server: Server, data: bytes, code: int) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    url = urlsplit(both.asha.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(upgrade(both, transfer["id"]))
    await reader.readuntil(b"\r\n\r\n")
    writer.write(data)
    said = b""
    async with asyncio.timeout(30):
        while b"\x88" not in said or server_frames(said)[-1][0] != 8:
            said += await reader.read(1000)
    assert server_frames(said)[-1][1][:2] == code.to_bytes(2, "big")
    writer.close()


@pytest.mark.parametrize("header", [
    {"Upgrade": "tea"}, {"Sec-WebSocket-Version": "1"}, {"Sec-WebSocket-Key": "short"}])
async def test_what_is_no_upgrade_gets_a_plain_answer(server: Server, header: dict[str, str]) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    url = urlsplit(both.asha.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(upgrade(both, transfer["id"], **header))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_aiohttp_forgets_a_connection_that_ended_and_closes_what_is_left() -> None:
    ended: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        response, line = await accept(request, Buffers(), 1000)
        try:
            while (await line.receive()).type is WSMsgType.TEXT:
                pass
        finally:
            ended.append(request.query["name"])
        return response

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    assert runner.server is not None
    async with http_session() as http:
        async def opened(name: str) -> Any:
            return await http.ws_connect(f"http://127.0.0.1:{runner.addresses[0][1]}/?name={name}")

        closed, aborted, left = [await opened(name) for name in ("closed", "aborted", "left")]
        assert len(runner.server.connections) == 3
        await closed.close()
        aborted._response.connection.transport.abort()
        async with asyncio.timeout(10):
            while len(runner.server.connections) > 1 or len(ended) < 2:
                await asyncio.sleep(0.02)
        assert sorted(ended) == ["aborted", "closed"]
        async with asyncio.timeout(10):
            await runner.cleanup()
            assert (await left.receive()).type in (WSMsgType.CLOSED, WSMsgType.CLOSE)
            while len(ended) < 3:
                await asyncio.sleep(0.02)


async def test_a_receiver_that_takes_nothing_is_let_go_and_the_sender_stays(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SILENCE_S", 2.0)
    both = await pair(server)
    transfer = await both.accepted(10**9)
    sender, receiver, _ = await meet(both, transfer["id"])

    async def say() -> None:
        while True:
            await receiver.ws.ping()
            await asyncio.sleep(0.1)

    async def push() -> None:
        while True:
            await sender.ws.send_bytes(bytes(60_000))

    tasks = [asyncio.create_task(say()), asyncio.create_task(push())]
    assert (await sender.until("peer"))["present"] is False
    for task in tasks:
        task.cancel()
    assert not sender.ws.closed
    assert await receiver.closed() == wire.TOO_SLOW
