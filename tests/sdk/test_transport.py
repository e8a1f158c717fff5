from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hypersend_client.sdk import ApiError, ConnectionFailed, InvalidAddress, NotHyperSend, TlsFailed
from hypersend_client.sdk.address import normalise
from hypersend_client.sdk.transport import Transport, send_frame
from tests.sdk.peer import Naps, Peer, problem, serving


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as peer:
        yield peer


@pytest.fixture
async def naps() -> Naps:
    return Naps()


@pytest.fixture
async def http(peer: Peer, naps: Naps) -> AsyncIterator[Transport]:
    transport = Transport(peer.url, sleep=naps, rand=lambda: 0.5)
    yield transport
    await transport.close()


def failing(times: int, answer: web.Response | None = None, **fields: Any) -> Any:
    """A handler that refuses so many times, then says yes."""
    left = [times]

    async def handler(request: web.Request) -> web.StreamResponse:
        if left[0] > 0:
            left[0] -= 1
            return problem(**fields)
        return web.json_response({"ok": True})

    return handler


async def test_503_is_retried_after_the_time_that_the_server_asked_for(peer: Peer, http: Transport, naps: Naps) -> None:
    peer.on("/x", failing(2, status=503, code="not_ready", retryable=True, headers={"Retry-After": "7"}))
    assert (await http.call("GET", "/x")).data == {"ok": True}
    assert peer.count("/x") == 3
    assert all(7 <= nap <= 8 for nap in naps.taken)
    assert len(naps.taken) == 2


async def test_waiting_grows_and_ends(peer: Peer, http: Transport, naps: Naps) -> None:
    peer.on("/x", failing(99, status=500, code="internal", retryable=True))
    with pytest.raises(ApiError, match="internal"):
        await http.call("GET", "/x")
    assert peer.count("/x") == 4
    assert naps.taken == sorted(naps.taken)
    assert naps.taken[0] < naps.taken[-1] <= 8


async def test_a_post_that_may_have_been_done_is_not_repeated(peer: Peer, http: Transport) -> None:
    peer.on("/x", failing(1, status=500, code="internal", retryable=True))
    with pytest.raises(ApiError):
        await http.call("POST", "/x", json={})
    assert peer.count("/x") == 1


async def test_a_post_that_was_turned_away_is_repeated(peer: Peer, http: Transport) -> None:
    peer.on("/x", failing(1, status=429, code="rate_limited", retryable=True))
    assert (await http.call("POST", "/x", json={})).status == 200
    assert peer.count("/x") == 2


async def test_what_no_retry_can_help_fails_at_once_with_all_that_the_server_said(peer: Peer, http: Transport) -> None:
    peer.on("/x", failing(1, status=409, code="chunks_missing", missing=[[0, 3]],
                          errors=[{"field": "a", "problem": "b"}]))
    with pytest.raises(ApiError) as caught:
        await http.call("PUT", "/x")
    error = caught.value
    assert (error.code, error.status, error.retryable, error.request_id) == ("chunks_missing", 409, False, "r1")
    assert error.extra == {"missing": [[0, 3]]}
    assert error.errors == [{"field": "a", "problem": "b"}]


async def test_a_proxys_own_error_page_is_retried(peer: Peer, http: Transport) -> None:
    pages = [web.Response(status=502, text="<h1>Bad Gateway</h1>", content_type="text/html")]

    async def handler(request: web.Request) -> web.StreamResponse:
        return pages.pop() if pages else web.json_response({})

    peer.on("/x", handler)
    assert (await http.call("GET", "/x")).status == 200


async def test_a_page_in_place_of_json_is_no_hypersend(peer: Peer, http: Transport) -> None:
    async def portal(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Sign in to the Wi-Fi</html>", content_type="text/html")

    peer.on("/x", portal)
    with pytest.raises(NotHyperSend):
        await http.call("GET", "/x")


async def test_nobody_listening_is_told_apart_and_certainly_not_sent(unused_tcp_port: int, naps: Naps) -> None:
    http = Transport(f"http://127.0.0.1:{unused_tcp_port}", sleep=naps)
    with pytest.raises(ConnectionFailed) as caught:
        await http.call("POST", "/x", json={})
    assert (caught.value.reason, caught.value.sent) == ("refused", False)
    assert len(naps.taken) == 3  # what was not sent may be sent again, a POST too
    await http.close()


async def test_a_name_that_does_not_exist_is_told_apart(naps: Naps) -> None:
    http = Transport("http://nothing.invalid", sleep=naps)
    with pytest.raises(ConnectionFailed) as caught:
        await http.call("GET", "/x")
    assert caught.value.reason == "name"
    await http.close()


async def test_an_answer_that_stops_in_the_middle_is_a_cut_line(peer: Peer, http: Transport) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    peer.on("/x", handler)
    async with http.stream("GET", "/x") as response:
        with pytest.raises(ConnectionFailed):
            async for _ in http.pieces(response):
                pass


async def test_a_server_that_says_nothing_is_given_up(peer: Peer) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    peer.on("/x", handler)
    http = Transport(peer.url, read_s=0.1)
    with pytest.raises(ConnectionFailed) as caught:
        await http.call("GET", "/x", max_tries=1)
    assert caught.value.reason == "timeout"
    await http.close()


async def test_a_slow_body_is_not_given_up_while_it_moves(peer: Peer) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        return web.json_response({"size": size})

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(10):
            await asyncio.sleep(0.05)
            yield b"x" * 1000

    peer.on("/x", handler)
    http = Transport(peer.url, read_s=0.2, stall_s=0.2)
    async with http.stream("PUT", "/x", body=slowly, length=10_000) as response:
        assert await http.read_json(response) == {"size": 10_000}
    await http.close()


async def test_a_network_that_takes_no_more_bytes_is_given_up(peer: Peer) -> None:
    reading = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        await request.content.readany()
        reading.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * (1024 * 1024)

    peer.on("/x", handler)
    http = Transport(peer.url, stall_s=0.3)
    with pytest.raises(ConnectionFailed) as caught:
        async with http.stream("PUT", "/x", body=endless):
            pass
    assert reading.is_set()
    assert caught.value.reason == "timeout"
    await http.close()


async def test_what_the_body_raises_comes_out_as_it_is(peer: Peer, http: Transport) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({})

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise PermissionError("the file went away")

    peer.on("/x", handler)
    with pytest.raises(PermissionError):
        async with http.stream("PUT", "/x", body=broken, length=2):
            pass


async def test_an_object_store_never_sees_the_token(peer: Peer) -> None:
    class Auth:
        async def token(self) -> str:
            return "secret"

        async def renew(self, refused: str) -> str:
            raise AssertionError

        async def ended(self, refused: str, reason: str) -> None:
            raise AssertionError

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect(store.url + "/bytes")

    async def content(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"bytes")

    peer.on("/file", away)
    store = Peer()
    store.on("/bytes", content)
    async with serving(store):
        http = Transport(peer.url, auth=Auth())
        for url in ("/file", store.url + "/bytes"):
            async with http.stream("GET", url) as response:
                assert b"".join([piece async for piece in http.pieces(response)]) == b"bytes"
        await http.close()
    assert peer.headers[0]["Authorization"] == "Bearer secret"
    assert all("Authorization" not in headers for headers in store.headers)


def certificate(folder: Path) -> ssl.SSLContext:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_a_certificate_that_is_not_trusted_is_told_apart(tmp_path: Path) -> None:
    async with serving(Peer(), certificate(tmp_path)) as peer:
        http = Transport(peer.url)
        with pytest.raises(TlsFailed) as caught:
            await http.call("GET", "/server")
        assert caught.value.certificate
        await http.close()
        trusting = Transport(peer.url, ssl=ssl.create_default_context(cafile=str(tmp_path / "cert.pem")))
        assert (await trusting.call("GET", "/server")).status == 200
        await trusting.close()


async def test_https_to_a_port_without_tls_is_told_apart(peer: Peer) -> None:
    http = Transport(peer.url.replace("http://", "https://"))
    with pytest.raises(TlsFailed) as caught:
        await http.call("GET", "/server")
    assert not caught.value.certificate
    await http.close()


@pytest.mark.parametrize(("typed", "meant"), [
    ("chat.example.org", "https://chat.example.org"),
    (" HTTPS://Chat.Example.org/ ", "https://chat.example.org"),
    ("localhost:8000", "http://localhost:8000"),
    ("192.168.1.5:8000", "http://192.168.1.5:8000"),
    ("[::1]:8000", "http://[::1]:8000"),
    ("8.8.8.8", "https://8.8.8.8"),
    ("http://x.org/hs/api/v1/", "http://x.org/hs"),
    ("दिल्ली.भारत", "https://xn--j2bya4ch0f.xn--h2brj9c"),
])
def test_addresses_are_understood_as_people_type_them(typed: str, meant: str) -> None:
    assert normalise(typed) == meant


@pytest.mark.parametrize("typed", ["", "http://", "ftp://x.org", "a b", "https://u:p@x.org", "x.org:99999", "x:y"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(InvalidAddress):
        normalise(typed)


async def test_who_waits_for_room_on_a_socket_is_not_cancelled_with_another(peer: Peer, http: Transport) -> None:
    taking = asyncio.Event()
    taken = asyncio.Queue[bytes]()

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await taking.wait()
        async for message in socket:
            taken.put_nowait(message.data)
        return socket

    peer.on("/ws", handler)
    socket = await http.websocket("/ws", "token")
    frame = bytes(32 * 1024 * 1024)  # more than all buffers between the two hold
    waiting = [asyncio.create_task(send_frame(socket, frame)) for _ in range(2)]
    await asyncio.sleep(0.1)
    waiting[0].cancel()
    await asyncio.wait({waiting[1]}, timeout=1)
    late = asyncio.create_task(send_frame(socket, bytes(1024 * 1024)))
    await asyncio.sleep(0.1)
    taking.set()
    async with asyncio.timeout(60):
        await asyncio.gather(waiting[1], late)
        assert [len(await taken.get()) for _ in range(3)] == [len(frame), len(frame), 1024 * 1024]
    assert waiting[0].cancelled()
    await socket.close()
