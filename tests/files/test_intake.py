"""Bodies that are received into buffers of our own, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from hypersend_server.files.intake import BUFFER_BYTES, Intake
from tests.sdk.test_transport import certificate

MIB = 1024 * 1024


class Site:
    """Answers PUT with what it received, as `length digest`. take: bytes after which the handler refuses the rest."""

    def __init__(self) -> None:
        self.intakes: list[Intake] = []
        self.errors: list[BaseException] = []
        self.kept: list[bytes] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def put(self, request: web.Request) -> web.Response:
        intake = Intake(request)
        self.intakes.append(intake)
        take = int(request.query.get("take", 2**60))
        self.kept = []
        try:
            async for piece in intake:
                self.kept.append(bytes(piece))
                await self.hold.wait()
                if sum(map(len, self.kept)) >= take:
                    return web.Response(status=409, text="enough")
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            intake.close()
        body = b"".join(self.kept)
        return web.Response(text=f"{len(body)} {hashlib.sha256(body).hexdigest()}")


Open = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def site() -> Site:
    return Site()


@pytest.fixture
async def connect(site: Site, tmp_path: Path) -> AsyncIterator[Open]:
    app = web.Application()

    async def leave_it_to_the_intake(request: web.Request) -> None:
        pass

    app.router.add_put("/", site.put, expect_handler=leave_it_to_the_intake)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    writers = []

    async def start(*, tls: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = trust = None
        if tls:
            context = certificate(tmp_path)
            trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        listener = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await listener.start()
        port = runner.addresses[-1][1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trust)
        writers.append(writer)
        return reader, writer

    yield start
    for writer in writers:
        writer.close()
    await runner.cleanup()


def head(length: int, query: str = "", **headers: str) -> bytes:
    lines = [f"PUT /{query} HTTP/1.1", "Host: localhost", f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, str]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length"))
    return int(lines[0].split()[1]), (await reader.readexactly(length)).decode()


def told(body: bytes) -> tuple[int, str]:
    return 200, f"{len(body)} {hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize(
    "length", [0, 1, 1000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 8 * BUFFER_BYTES, 5 * MIB + 77])
async def test_every_body_on_one_connection_arrives_as_it_was_sent(connect: Open, length: int) -> None:
    reader, writer = await connect()
    chance = random.Random(length)
    for _ in range(3):
        body = chance.randbytes(length)
        writer.write(head(length))
        view = memoryview(body)
        while view:
            step = chance.choice([1, 100, 70_000, 600_000, len(view)])
            writer.write(view[:step])
            view = view[step:]
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        await writer.drain()
        assert await answer(reader) == told(body)


async def test_requests_sent_without_waiting_for_answers_are_told_apart(connect: Open) -> None:
    reader, writer = await connect()
    bodies = [random.Random(n).randbytes(n * 300_000 + 5) for n in range(6)]
    writer.write(b"".join([head(len(body)) + body for body in bodies]))
    for body in bodies:
        assert await answer(reader) == told(body)


@pytest.mark.parametrize("seed", range(10))
async def test_bodies_in_any_pieces_and_any_order_are_told_apart(connect: Open, seed: int) -> None:
    """Requests sent without waiting, in pieces that end anywhere: some in chunks, some refused in the middle."""
    reader, writer = await connect()
    chance = random.Random(seed)
    stream, answers = bytearray(), []
    for _ in range(12):
        size = chance.choice([0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, chance.randrange(900_000)])
        body, kind = chance.randbytes(size), chance.choice(["whole", "whole", "chunked", "refused"])
        if kind == "chunked":
            stream += b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            stream += b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:1000], body[1000:]) if part)
            stream += b"0\r\n\r\n"
            answers.append(told(body))
        elif kind == "refused" and size:
            take = chance.randrange(size) + 1
            stream += head(size, f"?take={take}") + body
            answers.append((409, "enough"))
        else:
            stream += head(size) + body
            answers.append(told(body))

    async def send() -> None:
        view = memoryview(bytes(stream))
        while view:
            step = chance.choice([1, 7, 1000, 65_536, BUFFER_BYTES, chance.randrange(1, 700_000)])
            writer.write(view[:step])
            view = view[step:]
            await writer.drain()
            if chance.random() < 0.2:
                await asyncio.sleep(chance.choice([0, 0.06]))

    sending = asyncio.create_task(send())
    assert [await answer(reader) for _ in answers] == answers
    await sending


async def test_a_slow_body_is_handed_on_before_a_buffer_is_full(connect: Open, site: Site) -> None:
    _, writer = await connect()
    writer.write(head(MIB))
    for count in range(1, 4):
        writer.write(bytes(1000))
        while sum(map(len, site.kept)) < count * 1000:
            await asyncio.sleep(0.01)


async def test_after_a_refusal_in_the_middle_the_connection_serves_the_next_request(
    connect: Open, site: Site
) -> None:
    reader, writer = await connect()
    writer.write(head(6 * MIB, "?take=1000000") + bytes(6 * MIB) + head(3) + b"abc")
    assert await answer(reader) == (409, "enough")
    assert await answer(reader) == told(b"abc")
    assert not site.intakes[0]._pieces  # what nobody wanted was not kept


async def test_a_body_that_is_not_asked_for_pauses_its_sender(connect: Open, site: Site) -> None:
    reader, writer = await connect()
    body = random.Random(1).randbytes(64 * MIB)
    site.hold.clear()
    writer.write(head(len(body)) + body)
    waiting = -1
    while waiting != (waiting := writer.transport.get_write_buffer_size()) or not site.kept:
        await asyncio.sleep(0.2)
    # The rest is in the kernel's buffers, which autotuning makes some MiB large.
    held = sum(map(len, site.intakes[0]._pieces)) + sum(map(len, site.kept))
    assert held <= 6 * BUFFER_BYTES
    assert waiting > 32 * MIB
    site.hold.set()
    assert await answer(reader) == told(body)


async def test_a_lost_connection_ends_the_body_with_an_error(connect: Open, site: Site) -> None:
    _, writer = await connect()
    writer.write(head(8 * MIB) + bytes(MIB))
    while sum(map(len, site.kept)) < MIB:
        await asyncio.sleep(0.01)
    writer.transport.abort()
    while not site.errors:
        await asyncio.sleep(0.01)
    assert isinstance(site.errors[0], ConnectionError | asyncio.CancelledError)


async def test_a_body_that_ends_early_is_not_taken_for_whole(connect: Open, site: Site) -> None:
    _, writer = await connect()
    writer.write(head(8 * MIB) + bytes(MIB))
    writer.write_eof()
    while not site.errors:
        await asyncio.sleep(0.01)


async def test_a_sender_that_asked_first_is_told_to_go_on(connect: Open) -> None:
    reader, writer = await connect()
    writer.write(head(MIB, Expect="100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(bytes(MIB))
    assert await answer(reader) == told(bytes(MIB))


async def test_a_body_of_unknown_length_is_read_by_aiohttp(connect: Open, site: Site) -> None:
    reader, writer = await connect()
    writer.write(b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(3):
        writer.write(b"80000\r\n" + bytes(0x80000) + b"\r\n")
        await writer.drain()
    writer.write(b"0\r\n\r\n" + head(1) + b"x")
    assert await answer(reader) == told(bytes(3 * 0x80000))
    assert site.intakes[0]._transport is None
    assert await answer(reader) == told(b"x")


async def test_an_encrypted_body_is_read_by_aiohttp(connect: Open, site: Site) -> None:
    reader, writer = await connect(tls=True)
    body = random.Random(2).randbytes(3 * MIB)
    writer.write(head(len(body)) + body)
    assert await answer(reader) == told(body)
    assert site.intakes[0]._transport is None
