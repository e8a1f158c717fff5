from __future__ import annotations

import asyncio
import gc
import ssl
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from hypersend_client.sdk import ApiError, ConnectionFailed, NotHyperSend, TlsFailed
from hypersend_client.sdk.bulk import BulkConnection, Response, Wire
from hypersend_client.sdk.transport import Transport
from tests.harness import Server
from tests.sdk.peer import Peer, problem, serving
from tests.sdk_transfers.device import CHUNK, MIB, device, digest
from tests.sdk_transfers.line import line_to


class Token:
    """Implements transport.Auth with tokens that count up."""

    def __init__(self) -> None:
        self.now = "t1"

    async def token(self) -> str:
        return self.now

    async def renew(self, refused: str) -> str:
        self.now = f"t{int(refused[1:]) + 1}"
        return self.now

    async def ended(self, refused: str, reason: str) -> None:
        raise AssertionError(reason)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as peer:
        yield peer


@pytest.fixture
async def line(peer: Peer) -> AsyncIterator[BulkConnection]:
    transport = Transport(peer.url, auth=Token(), stall_s=2)
    with ThreadPoolExecutor(2) as pool:
        line = BulkConnection(transport, pool)
        yield line
        await line.close()
    await transport.close()


def everything(response: Response) -> bytes:
    data, view = b"", memoryview(bytearray(1000))
    while response.remaining != 0:
        data += view[: response.read_into(view)]
    return data


def nothing(wire: Wire) -> None:
    raise AssertionError("nothing was wanted")


async def put(line: BulkConnection, data: bytes, *, ask_first: bool = False) -> object:
    headers = {"Expect": "100-continue"} if ask_first else {}
    return await line.put(
        "/x", query={"index": 1}, headers=headers, length=len(data), send=lambda wire: wire.send(memoryview(data))
    )


async def test_a_body_goes_there_and_a_body_comes_back_on_one_connection(peer: Peer, line: BulkConnection) -> None:
    ports = set()

    async def echo(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        if request.method == "PUT":
            return web.json_response({"got": len(await request.read()), "index": request.query["index"]})
        return web.Response(body=b"x" * 5000)

    peer.on("/x", echo)
    assert await put(line, b"y" * 300_000) == {"got": 300_000, "index": "1"}
    assert await put(line, b"y", ask_first=True) == {"got": 1, "index": "1"}
    assert await line.get("/x", headers={}, receive=everything) == b"x" * 5000
    assert len(ports) == 1


async def test_an_expired_token_is_renewed_once(peer: Peer, line: BulkConnection) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if request.headers["Authorization"] == "Bearer t1":
            return problem(401, "token_expired")
        return web.Response(body=b"yes")

    peer.on("/x", handler)
    assert await line.get("/x", headers={}, receive=everything) == b"yes"


async def test_a_redirect_is_followed_without_the_token_to_another_origin(peer: Peer, line: BulkConnection) -> None:
    async with serving(Peer()) as store:

        async def here(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{store.url}/bucket/key?signature=a%2Fb")

        async def there(request: web.Request) -> web.StreamResponse:
            assert "Authorization" not in request.headers
            assert request.query["signature"] == "a/b"
            assert request.headers["Range"] == "bytes=0-3"
            return web.Response(body=b"yes!", status=206)

        peer.on("/x", here)
        store.on("/bucket/key", there)
        assert await line.get("/x", headers={"Range": "bytes=0-3"}, receive=everything) == b"yes!"


async def test_what_is_refused_beforehand_is_not_sent(peer: Peer, line: BulkConnection) -> None:
    reader_done = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b'{"code": "chunk_offset", "have": 7, "retryable": true}'
        writer.write(
            b"HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        )
        assert await reader.read() == b""  # the connection is closed, with no byte of a body
        writer.close()
        reader_done.set()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    line._transport.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(ApiError) as caught:
        await line.put("/x", query={}, headers={"Expect": "100-continue"}, length=10, send=nothing)
    assert (caught.value.code, caught.value.extra, caught.value.status) == ("chunk_offset", {"have": 7}, 409)
    await reader_done.wait()
    server.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", NotHyperSend),
        (b"", ConnectionFailed),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", ConnectionFailed),
        (b"HTTP/1.1 200 OK\r\n\r\nno length", ConnectionFailed),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nsad", ApiError),
        (b"HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ConnectionFailed),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, ConnectionFailed),
        (b"\xff\xfe\x00\x01\r\n\r\n", NotHyperSend),
    ],
)
async def test_answers_that_make_no_sense_are_told_as_ours(
    line: BulkConnection, answer: bytes, kind: type[Exception]
) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    line._transport.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(kind):
        await line.get("/x", headers={}, receive=everything)
    server.close()


async def test_cancelling_twice_leaves_no_word_of_the_thread_behind(peer: Peer, line: BulkConnection) -> None:
    """As Ctrl-C does: whoever waits for the thread to end is cancelled, too."""
    arrived, said = asyncio.Event(), list[dict[str, object]]()

    async def never(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        raise AssertionError

    peer.on("/x", never)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    task = asyncio.create_task(line.get("/x", headers={}, receive=everything))
    await arrived.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0.5)  # the thread has ended
    gc.collect()
    assert said == []


async def test_cancelling_ends_the_thread_at_once(peer: Peer, line: BulkConnection) -> None:
    arrived = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await asyncio.sleep(60)
        raise AssertionError

    peer.on("/x", never)
    task = asyncio.create_task(line.get("/x", headers={}, receive=everything))
    await arrived.wait()
    task.cancel()
    async with asyncio.timeout(1):
        with pytest.raises(asyncio.CancelledError):
            await task


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(a server's, the one of a client that trusts it)."""
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return ours, ssl.create_default_context(cafile=folder / "cert.pem")


async def test_transfers_over_tls_survive_cuts_and_pauses(server: Server, tmp_path: Path) -> None:
    ours, trust = certificate(tmp_path)
    async with (
        line_to(server.url, ours) as line,
        device(tmp_path / "asha", line.url, "asha", trust=trust) as asha,
    ):
        path = asha.file("a.bin", 2 * CHUNK + 5)
        line.cut_each = CHUNK // 2  # no connection ever carries a whole chunk
        upload = await asha.transfers.upload(path)
        await line.until_bytes(up=6 * MIB)
        upload.pause()
        await line.until_still()
        upload.resume()
        file = await upload.wait()
        assert line.cuts >= 4
        download = await asha.transfers.download(file)
        assert digest(await download.wait()) == digest(path)


async def test_a_certificate_that_is_not_trusted_gets_no_token(server: Server, tmp_path: Path) -> None:
    ours, _ = certificate(tmp_path)
    async with line_to(server.url, ours) as line:
        transport = Transport(line.url, auth=Token())
        with ThreadPoolExecutor(1) as pool:
            connection = BulkConnection(transport, pool)
            with pytest.raises(TlsFailed) as caught:
                await connection.get("/server", headers={}, receive=everything)
        assert caught.value.certificate
        assert line.up_bytes == 0
