"""The lines of a transfer, over real sockets: nothing is lost, nothing piles up, and nobody is waited for in vain."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from hypersend_client.sdk import p2p_line
from hypersend_client.sdk.errors import ApiError, ConnectionFailed
from hypersend_client.sdk.p2p_line import LARGE_BYTES, MessageLine, WebSocketLine
from hypersend_client.sdk.transport import Transport
from tests.p2p_sdk.test_frames import frame
from tests.sdk.test_transport import certificate

LIMIT_S = 60.0
Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


@contextlib.asynccontextmanager
async def opened(
    serve: Serve, *, tls: Path | None = None, heartbeat_s: float = 25.0
) -> AsyncIterator[WebSocketLine]:
    """A line to a server of aiohttp that does this. tls: where its certificate may lie."""

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=0, autoping=False)
        await socket.prepare(request)
        await serve(socket)
        return socket

    app = web.Application()
    app.router.add_get("/api/v1/ws", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    theirs, ours = None, None
    if tls is not None:
        theirs = certificate(tls)
        ours = ssl.create_default_context(cafile=str(tls / "cert.pem"))
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=theirs).start()
    http = Transport(f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}", ssl=ours or True)
    try:
        async with asyncio.timeout(LIMIT_S):
            line = WebSocketLine(await http.upgrade("/ws", "token"), heartbeat_s=heartbeat_s)
            yield line
            await line.close()
            await http.close()  # it would wait for a connection of which nobody told that it is lost
    finally:
        await http.close()
        await runner.cleanup()


def answer_of(key: str) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


@contextlib.asynccontextmanager
async def raw_server(answer: Callable[[str, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[Transport]:
    """answer: called with the key of the request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (key,) = (text.partition(": ")[2] for text in head.split("\r\n") if text.startswith("Sec-WebSocket-Key"))
        with contextlib.suppress(ConnectionError):
            await answer(key, writer)
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    serving: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    http = Transport(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        async with asyncio.timeout(LIMIT_S):
            yield http
    finally:
        await http.close()
        server.close()
        await asyncio.gather(*filter(None, serving))


async def echo(socket: web.WebSocketResponse) -> None:
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)


@pytest.mark.parametrize("kind", ["plain", "tls"])
async def test_many_frames_at_a_time_come_back_as_they_were_sent(kind: str, tmp_path: Path) -> None:
    frames = [os.urandom(size) for size in (1, 65_561, 125, 126, 40_000, 65_535, 65_536)] * 40
    batch = b"".join(WebSocketLine.header(len(data)) + data for data in frames)
    async with opened(echo, tls=tmp_path if kind == "tls" else None) as line:
        line.buffer_bytes = LARGE_BYTES
        line.say("before")

        async def send() -> None:
            buffer = bytearray(batch)
            for _ in range(3):
                line.write(memoryview(buffer))
                await line.drain()
                assert line._transport.get_write_buffer_size() == 0
                buffer[:] = bytes(len(buffer))  # it is ours again
                buffer[:] = batch
            line.say("after")

        sending = asyncio.create_task(send())
        found: list[str | bytes] = []
        while "after" not in found:
            found += [message if isinstance(message, str) else bytes(message) for message in await line.receive()]
        await sending
    assert found == ["before", *frames * 3, "after"]


async def test_what_came_is_not_overwritten_before_it_is_asked_for_more() -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        for number in range(200):
            await socket.send_bytes(bytes([number]) * 65_561)
        await socket.receive()

    number = 0
    async with opened(serve) as line:
        line.buffer_bytes = LARGE_BYTES
        while number < 200:
            messages = await line.receive()
            await asyncio.sleep(0.02)  # more comes meanwhile
            for message in messages:
                assert isinstance(message, memoryview)
                assert bytes(message) == bytes([number]) * 65_561
                number += 1


async def test_who_does_not_ask_gets_no_more_than_two_buffers_full() -> None:
    sent, still = 0, asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        nonlocal sent
        try:
            while sent < 4000:
                async with asyncio.timeout(1):
                    await socket.send_bytes(bytes(65_536))
                sent += 1
        except TimeoutError:
            still.set()

    async with opened(serve) as line:
        await still.wait()
        assert line._have <= len(line._filling)
        assert sent < 4000


async def test_sender_waits_for_room_and_goes_on_when_there_is_some() -> None:
    taking, taken = asyncio.Event(), asyncio.Queue[int]()

    async def serve(socket: web.WebSocketResponse) -> None:
        await taking.wait()
        async for message in socket:
            taken.put_nowait(len(message.data))

    async with opened(serve) as line:
        sending = [asyncio.create_task(line.send(bytes(64 * 1024 * 1024))) for _ in range(2)]
        await asyncio.wait(sending, timeout=0.3)
        sending[0].cancel()  # which is nothing to the other one
        assert not sending[1].done()
        taking.set()
        await sending[1]
        assert [await taken.get() for _ in range(2)] == [64 * 1024 * 1024] * 2


async def test_text_does_not_wait_for_room_and_a_server_that_takes_nothing_is_left() -> None:
    forever = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        await forever.wait()

    async with opened(serve) as line:
        line.write(bytes(2))
        with pytest.raises(ConnectionResetError):
            for _ in range(1000):
                line.say("x" * 65_536)
        assert await line.receive() == []
        assert line.close_code == 1006
        with pytest.raises(ConnectionResetError):
            line.say("more")
        with pytest.raises(ConnectionResetError):
            await line.drain()
        forever.set()


@pytest.mark.parametrize("size", [5, 65_561, 120_000])
async def test_what_comes_together_with_the_answer_is_not_lost(size: int) -> None:
    data = os.urandom(size)

    async def answer(key: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_of(key) + (frame(1, b"joined") + frame(2, data)) * 3)

    async with raw_server(answer) as http:
        line = WebSocketLine(await http.upgrade("/ws", "token"), heartbeat_s=25)
        found: list[str | bytes] = []
        while len(found) < 6:
            found += [message if isinstance(message, str) else bytes(message) for message in await line.receive()]
        assert found == ["joined", data] * 3
        line.abort()
        assert await line.receive() == []
        await line.close()


@pytest.mark.parametrize("change", [
    lambda head: head.replace(b"101 Switching Protocols", b"200 OK"),
    lambda head: head.replace(b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: x"),
    lambda head: head.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    lambda head: head[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
])
async def test_answer_that_agrees_to_something_else_is_refused(change: Callable[[bytes], bytes]) -> None:
    async def answer(key: str, writer: asyncio.StreamWriter) -> None:
        writer.write(change(answer_of(key)))

    async with raw_server(answer) as http:
        with pytest.raises(ApiError):
            await http.upgrade("/ws", "token")


async def test_refusal_of_the_server_is_told_with_its_status() -> None:
    async def answer(key: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n")

    async with raw_server(answer) as http:
        with pytest.raises(ApiError) as refused:
            await http.upgrade("/ws", "token")
    assert (refused.value.status, refused.value.retry_after_s) == (409, 7)


async def test_server_that_is_not_there_is_told_as_ever() -> None:
    async def answer(key: str, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with raw_server(answer) as http:
        with pytest.raises(ConnectionFailed):
            await http.upgrade("/ws", "token")


@pytest.mark.parametrize("code", [1000, 4001, 4511])
async def test_code_with_which_the_server_closes_is_told_after_what_came_before_it(code: int) -> None:
    heard = asyncio.Queue[int | None]()

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str("last")
        await socket.close(code=code)
        heard.put_nowait(socket.close_code)

    async with opened(serve) as line:
        assert await line.receive() == ["last"]
        assert await line.receive() == []
        assert line.close_code == code
        assert await heard.get() == code  # it was answered


async def test_closing_waits_for_the_servers_own_word() -> None:
    heard = asyncio.Queue[int | None]()

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_bytes(b"on its way")
        async for _ in socket:
            pass
        heard.put_nowait(socket.close_code)

    async with opened(serve) as line:
        await line.close()
        assert line.close_code == 1000
        assert await heard.get() == 1000


async def test_server_that_does_not_keep_to_the_protocol_is_left() -> None:
    heard = asyncio.Event()

    async def answer(key: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_of(key) + frame(2, b"good") + frame(3, b"bad") + frame(2, b"never read"))
        heard.set()

    async with raw_server(answer) as http:
        line = WebSocketLine(await http.upgrade("/ws", "token"), heartbeat_s=25)
        assert [bytes(message) for message in await line.receive() if isinstance(message, memoryview)] == [b"good"]
        assert await line.receive() == []
        assert line.close_code == 1002
        await line.close()


async def test_ping_is_answered_with_what_it_brought() -> None:
    heard = asyncio.Queue[bytes]()

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"still there?")
        message = await socket.receive()
        assert message.type is WSMsgType.PONG
        heard.put_nowait(message.data)
        await socket.receive()

    async with opened(serve) as line:
        receiving = asyncio.create_task(line.receive())
        assert await heard.get() == b"still there?"
        assert not receiving.done()
        receiving.cancel()
        await asyncio.wait({receiving})


async def test_server_hears_us_also_while_nobody_receives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p2p_line, "PULSE_S", 0.05)
    heard = asyncio.Queue[WSMsgType]()
    last: list[WSMsgType] = []

    async def serve(socket: web.WebSocketResponse) -> None:
        for _ in range(3):
            heard.put_nowait((await socket.receive()).type)
        while not last or last[-1] is WSMsgType.PONG:
            last.append((await socket.receive()).type)

    async with opened(serve) as line:
        assert [await heard.get() for _ in range(3)] == [WSMsgType.PONG] * 3
        await line.close()
    assert last[-1] is WSMsgType.CLOSE  # and nothing behind it


async def test_silent_server_is_asked_and_left_when_it_does_not_answer() -> None:
    heard = asyncio.Queue[WSMsgType]()
    forever = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        message = await socket.receive()
        heard.put_nowait(message.type)
        await forever.wait()

    async with opened(serve, heartbeat_s=0.2) as line:
        assert await line.receive() == []
        assert line.close_code == 1006
        assert await heard.get() is WSMsgType.PING
        forever.set()


async def test_server_that_answers_or_speaks_is_not_left() -> None:
    pings = asyncio.Queue[bytes]()

    async def serve(socket: web.WebSocketResponse) -> None:
        for _ in range(3):
            message = await socket.receive()
            assert message.type is WSMsgType.PING
            await socket.pong(message.data)
            pings.put_nowait(message.data)
        await socket.send_str("still here")
        await socket.receive()

    async with opened(serve, heartbeat_s=0.2) as line:
        assert await line.receive() == ["still here"]
        assert pings.qsize() == 3


async def test_server_is_not_blamed_while_it_is_we_who_do_not_read() -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        for number in range(10):
            await socket.send_bytes(bytes([number]) * 65_561)
        while (await socket.receive()).type is WSMsgType.PING:
            pass

    async with opened(serve, heartbeat_s=0.05) as line:
        while not line._is_full:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.5)
        found = 0
        while found < 10:
            messages = await line.receive()
            assert messages
            found += len(messages)


async def test_lost_line_first_gives_what_came_whole() -> None:
    async def answer(key: str, writer: asyncio.StreamWriter) -> None:
        writer.write(answer_of(key) + frame(2, b"whole") + frame(2, b"cut off")[:-1])
        await writer.drain()
        writer.close()

    async with raw_server(answer) as http:
        line = WebSocketLine(await http.upgrade("/ws", "token"), heartbeat_s=25)
        while not line._is_lost:
            await asyncio.sleep(0.01)
        assert [bytes(message) for message in await line.receive() if isinstance(message, memoryview)] == [b"whole"]
        assert await line.receive() == []
        assert line.close_code == 1006
        await line.close()


async def test_direct_messages_come_whole_and_a_longer_one_than_any_frame_is_refused() -> None:
    made = asyncio.Queue[MessageLine]()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: MessageLine(made.put_nowait), "127.0.0.1", 0)
    _, one = await loop.create_connection(MessageLine, *server.sockets[0].getsockname()[:2])
    async with asyncio.timeout(LIMIT_S):
        other = await made.get()
        sent = [os.urandom(size) for size in (0, 1, 65_561, 4)] * 20
        sending = asyncio.gather(*(one.send(message) for message in sent))
        found: list[bytes] = []
        while len(found) < len(sent):
            found += map(bytes, await other.receive())
        await sending
        assert found == sent
        one.write(MessageLine.header(3) + b"one" + MessageLine.header(65_562))
        assert list(map(bytes, await other.receive())) == [b"one"]
        with pytest.raises(ValueError, match="longer"):
            await other.receive()
        other.abort()
        assert await one.receive() == []
    server.close()


def test_buffers_hold_the_largest_message_and_a_batch_is_received_at_once() -> None:
    assert p2p_line.SMALL_BYTES >= p2p_line.MOST_BYTES + 14
    assert p2p_line.LARGE_BYTES >= p2p_line.BATCH_FRAMES * (65_561 + 14)
