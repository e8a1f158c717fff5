"""The WebSocket between a page and the screens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hypersend_server.clock import system_clock
from hypersend_server.limits import Buckets
from hypersend_server.web_client import line, proxy
from hypersend_server.web_client.proxy import MAX_FROM_BROWSER_BYTES
from tests.harness import Server
from tests.web.site import site


class Echo:
    """Screens that say what they were told, then repeat what they hear."""

    def __init__(self) -> None:
        self.url = ""
        self.opened = 0
        self.closed = asyncio.Event()
        self.answers = asyncio.Event()
        self.answers.set()

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        await self.answers.wait()
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self.opened += 1
        await socket.send_bytes(json.dumps(dict(request.headers)).encode())
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


async def connect(
    server: Server, origin: str | None = "", query: str = "", protocols: tuple[str, ...] = (), **headers: str
) -> aiohttp.ClientWebSocketResponse:
    if origin is not None:
        headers["Origin"] = origin or server.url
    return await server.http.ws_connect(
        server.url + "/ws" + query, headers=headers, protocols=protocols, max_msg_size=0)


async def said(socket: aiohttp.ClientWebSocketResponse) -> dict[str, str]:
    """What the screens were told, as they repeat it first."""
    return dict(json.loads(await socket.receive_bytes()))


async def test_screens_hear_of_the_browser_and_not_its_secrets(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await connect(
            server, **{"X-Forwarded-For": "203.0.113.7", "User-Agent": "Phone", "Cookie": "secret=1",
                       "Authorization": "Bearer x", "X-HyperSend-Access-Token": "forged"})
        told = await said(socket)
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
        assert (await said(socket))["X-Forwarded-Proto"] == "https"
        await socket.close()


async def test_large_pictures_reach_the_browser_and_large_frames_do_not_reach_the_screens(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await connect(server)
        await said(socket)
        await socket.send_bytes(b"large")
        assert len((await socket.receive()).data) == 5_000_000
        await socket.send_bytes(b"x" * MAX_FROM_BROWSER_BYTES)
        assert len((await socket.receive()).data) == MAX_FROM_BROWSER_BYTES
        await socket.send_bytes(b"x" * (MAX_FROM_BROWSER_BYTES + 1))
        assert (await socket.receive(5)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
        await asyncio.wait_for(screens.closed.wait(), 5)


async def test_a_closed_end_closes_the_other(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        leaving = await connect(server)
        await said(leaving)
        await leaving.close()
        await asyncio.wait_for(screens.closed.wait(), 5)
        left = await connect(server)
        await said(left)
        await left.send_bytes(b"bye")
        assert (await left.receive(5)).type is aiohttp.WSMsgType.CLOSE


NAME = "0a" * 16


async def page(server: Server, name: str = NAME, had: int | None = None) -> aiohttp.ClientWebSocketResponse:
    """As the page's own script connects: a new line, or, where it has had some frames, the one that it had."""
    query = "" if had is None else f"?had={had}"
    return await connect(server, query=query, protocols=("hypersend-line", name))


async def test_a_page_that_asks_hears_what_is_there_and_the_screens_hear_nothing_of_it(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        assert socket.protocol == "hypersend-line"
        assert await socket.receive_str() == "!0"
        await said(socket)
        await socket.send_bytes(b"an event")
        assert await socket.receive_bytes() == b"an event"
        await socket.send_str("?2")
        assert await socket.receive_str() == "!1"
        await socket.close()
        await asyncio.wait_for(screens.closed.wait(), 5)


async def test_a_page_comes_back_and_neither_side_lacks_or_repeats_anything(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        await said(socket)
        for number in range(5):
            await socket.send_bytes(b"%d" % number)
        assert [await socket.receive_bytes() for _ in range(2)] == [b"0", b"1"]
        # It is dead unheard: what it had after those two counts as lost. `had` counts what the screens said first.
        newer = await page(server, had=3)
        assert await newer.receive_str() == "!5"
        assert [await newer.receive_bytes() for _ in range(3)] == [b"2", b"3", b"4"]
        await newer.send_str("?6")
        assert await newer.receive_str() == "!5"
        newer._response.connection.transport.abort()  # type: ignore[union-attr]
        newest = await page(server, had=6)
        assert await newest.receive_str() == "!5"
        await newest.send_bytes(b"on")
        assert await newest.receive_bytes() == b"on"
        assert not screens.closed.is_set()
        await newest.close()
        await asyncio.wait_for(screens.closed.wait(), 5)


async def test_what_is_no_handshake_opens_nothing(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        answer = await server.request("GET", server.url + "/ws", headers={"Origin": server.url})
        assert (answer.status, answer.code) == (422, "validation_failed")
        assert screens.opened == 0


async def test_a_page_that_leaves_with_its_handshake_leaves_nothing(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        address = server.url.removeprefix("http://")
        host, port = address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write((
            f"GET /ws HTTP/1.1\r\nHost: {address}\r\nOrigin: {server.url}\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'x' * 22}==\r\n"
            f"Sec-WebSocket-Protocol: hypersend-line, {NAME}\r\n\r\n").encode()
            + bytes([0x88, 0x82, 0, 0, 0, 0]) + (1001).to_bytes(2, "big"))
        await asyncio.wait_for(screens.closed.wait(), 5)
        writer.close()
        again = await page(server)
        assert await again.receive_str() == "!0"
        await again.close()


async def test_one_network_cannot_hold_all_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_LINES_OF_ONE", 2)
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        one = [await page(server, f"{number:032x}") for number in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page(server, f"{2:032x}")
        assert refused.value.status == 503
        await (await connect(server, **{"X-Forwarded-For": "203.0.113.8"})).close()
        await one[0].close()
        await asyncio.wait_for(screens.closed.wait(), 5)
        await (await page(server, f"{3:032x}")).close()


async def test_pages_that_come_together_count_before_their_screens_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "MAX_LINES_OF_ONE", 2)
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        screens.answers.clear()
        coming = [asyncio.create_task(page(server, f"{number:032x}")) for number in range(5)]
        await asyncio.wait(coming, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        screens.answers.set()
        sockets = await asyncio.gather(*coming, return_exceptions=True)
        refused = [each.status for each in sockets if isinstance(each, aiohttp.WSServerHandshakeError)]
        assert (len(sockets) - len(refused), refused) == (2, [503] * 3)
        await (await connect(server, **{"X-Forwarded-For": "203.0.113.8"})).close()


async def test_a_name_is_one_lines(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page(server)
        assert refused.value.status == 403
        await asyncio.wait_for(screens.closed.wait(), 5)  # what had been opened for the second
        await socket.close()


async def test_a_page_that_was_loaded_again_drops_the_line_it_had(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        await page(server)  # it is dead unheard
        other = await page(server, "0c" * 16)
        newer = await connect(server, protocols=("hypersend-line", "0b" * 16, NAME))
        assert screens.closed.is_set()
        assert await newer.receive_str() == "!0"
        await other.send_bytes(b"alive")
        while (await other.receive()).data != b"alive":
            pass


@pytest.mark.parametrize(("name", "had"), [("0b" * 16, 1), (NAME, 7), (NAME, 0)])
async def test_a_line_that_is_unknown_or_lacks_what_the_page_lacks_begins_anew(
    tmp_path: Path, name: str, had: int
) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        await said(socket)
        await socket.send_str("?1")
        await socket.receive_str()
        stranger = await page(server, name, had)
        assert ((await stranger.receive()).type, stranger.close_code) == (aiohttp.WSMsgType.CLOSE, 4404)
        await socket.send_bytes(b"alive")
        assert await socket.receive_bytes() == b"alive"


async def test_a_page_that_does_not_come_back_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "RETURN_S", 0.2)
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.wait_for(screens.closed.wait(), 5)
        late = await page(server, had=0)
        assert ((await late.receive()).type, late.close_code) == (aiohttp.WSMsgType.CLOSE, 4404)


async def test_what_an_absent_page_is_kept_has_an_end(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        await socket.send_bytes(b"large")  # 5 MB, beyond what is kept for one that is away
        while (await socket.receive()).data != b"x" * 5_000_000:
            pass
        assert not screens.closed.is_set()
        socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.wait_for(screens.closed.wait(), 5)


async def test_together_absent_pages_are_kept_no_more_than_all_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "MAX_ALL_KEPT_BYTES", 200_000)
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        for number in range(3):  # each is far below what one alone may have
            socket = await page(server, f"{number:032x}")
            await socket.receive_str()
            await said(socket)
            await socket.send_bytes(b"x" * 90_000)
            await socket.receive_bytes()
            assert not screens.closed.is_set()
            socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await asyncio.wait_for(screens.closed.wait(), 5)
        lines = server.web_client._proxy._lines  # type: ignore[union-attr]
        assert sorted(lines) == [f"{number:032x}" for number in range(2)]


async def test_a_page_that_claims_to_have_had_what_was_not_sent_lacks_nothing(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        await said(socket)
        await socket.send_str("?999")
        assert await socket.receive_str() == "!0"
        for number in range(3):
            await socket.send_bytes(b"%d" % number)
        assert [await socket.receive_bytes() for _ in range(3)] == [b"0", b"1", b"2"]
        newer = await page(server, had=2)
        await newer.receive_str()
        assert [await newer.receive_bytes() for _ in range(2)] == [b"1", b"2"]


async def test_a_page_that_says_at_once_that_it_has_all_is_sent_nothing_again(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        await said(socket)
        for number in range(4):
            await socket.send_bytes(b"%d" % number)
            await socket.receive_bytes()
        # A client of another make asks for all but the first, and with the same packet says that it has had them.
        host = server.url.removeprefix("http://")
        reader, writer = await asyncio.open_connection(*host.split(":"))
        writer.write("\r\n".join([
            "GET /ws?had=1 HTTP/1.1", f"Host: {host}", f"Origin: http://{host}", "Upgrade: websocket",
            "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
            f"Sec-WebSocket-Protocol: hypersend-line, {NAME}", "", ""]).encode() + masked(0x1, b"?5"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(masked(0x2, b"on"))
        async with asyncio.timeout(10):
            assert await reader.readexactly(12) == b"\x81\x02!4\x81\x02!4\x82\x02on"
        writer.close()


def masked(kind: int, data: bytes) -> bytes:
    """A short frame of a client's, with a mask that changes nothing."""
    return bytes([0x80 | kind, 0x80 | len(data)]) + bytes(4) + data


async def test_a_page_that_is_there_gets_any_amount(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        socket = await page(server)
        await socket.receive_str()
        await said(socket)
        for number in range(4):
            await socket.send_bytes(b"large")
            assert len(await socket.receive_bytes()) == 5_000_000
            await socket.send_str(f"?{number + 2}")
            assert await socket.receive_str() == f"!{number + 1}"
        await socket.close()


async def test_stopping_does_not_wait_for_open_pages(tmp_path: Path) -> None:
    async with echo() as screens, site(tmp_path, web_client=screens.url) as server:
        sockets = [await connect(server) for _ in range(5)]
        for socket in sockets:
            await said(socket)
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
        assert (await said(socket)).get("X-HyperSend-Zone") == told
        await socket.close()
