"""A line: what it passes on, in which order, and what becomes of its buffers while the other side takes nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any
from unittest.mock import patch

import pytest
from aiohttp import WSMsgType
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersend_server.p2p import frames, line
from hypersend_server.p2p.line import CLOSED, Buffers, Line
from tests.p2p.test_frames import MASK, client_frame, server_frames

MOST = 200


class Kernel(asyncio.Transport):
    """A transport that takes as much as a test lets it, and like asyncio's since Python 3.12 keeps the very memory that
    it could not send."""

    def __init__(self, room: int = 10**9) -> None:
        super().__init__()
        self.sent = b""
        self.room = room
        self.waiting: deque[memoryview] = deque()
        self.protocol: Any = None
        self.is_paused = False
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.waiting.append(memoryview(data))
        self.take(0)
        if self.waiting and not self.protocol.is_full:
            self.protocol.pause_writing()

    def take(self, more: int) -> None:
        self.room += more
        was_full = self.protocol.is_full
        while self.waiting and self.room:
            first = self.waiting.popleft()
            self.sent += first[:self.room]
            if len(first) > self.room:
                self.waiting.appendleft(first[self.room:])
            self.room -= min(len(first), self.room)
        if was_full and not self.waiting:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.waiting))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Http(asyncio.BaseProtocol):
    def __init__(self) -> None:
        self.lost = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


class Way:
    max_bytes = MOST

    def __init__(self, there: Line | None) -> None:
        self.there = there
        self.bytes = 0
        self.stuck_at: list[Line] = []

    def target(self) -> Line | None:
        return self.there

    def passed(self, size_bytes: int) -> None:
        self.bytes += size_bytes

    def stuck(self, target: Line) -> None:
        self.stuck_at.append(target)
        self.there = None
        for each in list(target._stalled):
            each.go_on()


def a_line(buffers: Buffers | None = None, *, room: int = 10**9, early: bytes = b"") -> tuple[Line, Kernel]:
    kernel = Kernel(room)
    found = kernel.protocol = Line(kernel, Http(), buffers or Buffers(), MOST, early)
    return found, kernel


def feed(one: Line, data: bytes) -> int:
    """How much of it there was room for."""
    buffer = one.get_buffer(-1)
    assert len(buffer)
    size = min(len(data), len(buffer))
    buffer[:size] = data[:size]
    one.buffer_updated(size)
    return size


PART = st.tuples(
    st.sampled_from(["binary", "binary", "binary", "text", "pieces", "ping"]), st.integers(1, MOST),
    st.sampled_from([MASK, frames.NO_MASK]), st.sampled_from([1, 3, 9]))


def spoken(parts: list[tuple[str, int, bytes, int]]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """(what a client sends, the messages of it that go to the other side)."""
    sent, expected = b"", []
    for n, (kind, size, mask, length) in enumerate(parts):
        payload = bytes((n * 7 + at) % 128 for at in range(size))
        if kind == "ping":
            sent += client_frame(frames.PING, payload[:100], mask=mask)
            continue
        opcode = frames.TEXT if kind == "text" else frames.BINARY
        expected.append((opcode, payload))
        if kind == "pieces":
            half = size // 2
            sent += client_frame(opcode, payload[:half], mask=mask, final=False)
            sent += client_frame(frames.PING, b"in between")
            sent += client_frame(frames.CONTINUATION, payload[half:], mask=mask)
        else:
            sent += client_frame(opcode, payload, mask=mask, length=length)
    return sent, expected


async def _relayed(sent: bytes, early: int, sizes: list[int], room: list[int]) -> tuple[list[tuple[int, bytes]], int]:
    """(what the other side gets of this, fed by these sizes in turn and taken by these, bytes passed on)."""
    there, there_kernel = a_line(room=0)
    here, here_kernel = a_line(early=sent[:early])
    way = here.passage = Way(there)

    async def pump() -> None:
        while (message := await here.receive(60)) is not CLOSED:
            if message.type is WSMsgType.TEXT:
                await there.send_str(message.data)
            else:
                way.bytes += len(message.data)
                await there.send_bytes(message.data)

    pumping = asyncio.create_task(pump())
    left, turn = sent[early:], 0
    while left or not pumping.done():
        await asyncio.sleep(0)
        if left and not here_kernel.is_paused:
            left = left[feed(here, left[:sizes[turn % len(sizes)]]):]
        elif not left and not here._is_lost:
            here.connection_lost(None)
        if turn % 3 == 0:
            there_kernel.take(room[turn % len(room)])
        turn += 1
        assert turn < 100_000
    await pumping
    there_kernel.take(10**9)
    return server_frames(there_kernel.sent), way.bytes


@settings(max_examples=150, deadline=None)
@given(st.lists(PART, max_size=40), st.integers(0, 1000), st.lists(st.integers(1, 2000), min_size=1, max_size=4),
       st.lists(st.integers(1, 3000), min_size=1, max_size=4))
def test_everything_arrives_in_order_however_it_comes_and_is_taken(
    parts: list[tuple[str, int, bytes, int]], early: int, sizes: list[int], room: list[int]
) -> None:
    sent, expected = spoken(parts)
    with patch.multiple(line, BUFFER_BYTES=4 * (MOST + 14), SPARE_BYTES=MOST + 14, TURN_FRAMES=5, QUEUED_BYTES=300):
        found, passed = asyncio.run(_relayed(sent, early, sizes, room))
    assert found == expected
    assert passed == sum(len(payload) for opcode, payload in expected if opcode == frames.BINARY)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=300) | st.lists(PART, max_size=3).map(lambda parts: spoken(parts)[0]), max_size=5))
def test_whatever_comes_is_answered_with_frames_and_at_most_one_code(came: list[bytes]) -> None:
    async def run() -> None:
        here, kernel = a_line()
        here.passage = Way(None)

        async def pump() -> None:
            while (await here.receive(60)).type in (WSMsgType.TEXT, WSMsgType.BINARY):
                pass

        pumping = asyncio.create_task(pump())
        for data in came:
            await asyncio.sleep(0)
            while data and not kernel.is_paused and not kernel.closing:
                data = data[feed(here, data):]
        for _ in range(20):
            await asyncio.sleep(0)
        if not here._is_lost:
            here.connection_lost(None)
        await pumping
        await here.close()
        said = server_frames(kernel.sent)
        codes = [payload[:2] for opcode, payload in said if opcode == frames.CLOSE]
        assert [int.from_bytes(code, "big") for code in codes] in ([], [1000], [1002], [1007], [1009])
        assert {opcode for opcode, _ in said} <= {frames.CLOSE, frames.PONG}

    asyncio.run(run())


async def test_nothing_is_passed_on_while_nobody_receives() -> None:
    there, kernel = a_line()
    here, _ = a_line()
    here.passage = Way(there)
    feed(here, client_frame(frames.TEXT, b"first") + client_frame(frames.BINARY, b"second"))
    assert kernel.sent == b""
    assert (await here.receive()).data == "first"
    await asyncio.sleep(0)
    assert kernel.sent == b""
    waiting = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    assert server_frames(kernel.sent) == [(frames.BINARY, b"second")]
    here.hold()
    feed(here, client_frame(frames.BINARY, b"third"))
    assert server_frames(kernel.sent) == [(frames.BINARY, b"second")]
    await asyncio.wait({waiting})
    assert waiting.cancelled()


async def test_an_older_target_keeps_what_it_was_given_while_the_newer_one_gets_the_rest() -> None:
    buffers = Buffers()
    old, old_kernel = a_line(buffers, room=50)
    new, new_kernel = a_line(buffers)
    here, _ = a_line(buffers)
    way = here.passage = Way(old)
    waiting = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    payloads = [bytes([n]) * MOST for n in range(4)]
    feed(here, b"".join(client_frame(frames.BINARY, payload, mask=frames.NO_MASK) for payload in payloads))
    assert old.is_full
    way.there = new
    here.go_on()
    for n in range(50):  # also of what was received before the buffer was used again
        feed(here, client_frame(frames.BINARY, bytes([100 + n]) * MOST))
    old_kernel.take(10**9)
    assert server_frames(old_kernel.sent) == [(frames.BINARY, payloads[0])]
    assert [payload[0] for _, payload in server_frames(new_kernel.sent)] == [1, 2, 3, *range(100, 150)]
    here.hold()
    await asyncio.wait({waiting})


async def test_what_the_first_of_two_targets_holds_stays_also_when_the_second_has_taken_all() -> None:
    buffers = Buffers()
    old, old_kernel = a_line(buffers, room=50)
    new, new_kernel = a_line(buffers, room=50)
    here, _ = a_line(buffers)
    way = here.passage = Way(old)
    waiting = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    feed(here, b"".join(client_frame(frames.BINARY, bytes([n]) * MOST, mask=frames.NO_MASK) for n in range(3)))
    way.there = new
    here.go_on()
    assert old.is_full
    assert new.is_full
    new_kernel.take(10**9)
    for n in range(50):
        feed(here, client_frame(frames.BINARY, bytes([100 + n]) * MOST))
    old_kernel.take(10**9)
    assert server_frames(old_kernel.sent) == [(frames.BINARY, bytes([0]) * MOST)]
    assert [payload[0] for _, payload in server_frames(new_kernel.sent)] == [1, 2, *range(100, 150)]
    here.hold()
    await asyncio.wait({waiting})


async def test_who_takes_nothing_is_told_of_after_the_time_of_silence_and_who_says_nothing_too() -> None:
    there, _ = a_line(room=0)
    here, _ = a_line()
    way = here.passage = Way(there)
    feed(here, client_frame(frames.BINARY, b"one") + client_frame(frames.BINARY, b"two"))
    with pytest.raises(TimeoutError):  # of the line itself, when there is no target to wait for any more
        await here.receive(0.2)
    assert way.stuck_at == [there]


async def test_a_whole_frame_within_a_message_in_pieces_is_not_passed_on() -> None:
    there, kernel = a_line()
    here, own = a_line()
    here.passage = Way(there)
    feed(here, client_frame(frames.BINARY, b"one", final=False) + client_frame(frames.BINARY, b"two"))
    receiving = asyncio.create_task(here.receive())
    await asyncio.sleep(0.01)
    assert kernel.sent == b""
    assert server_frames(own.sent)[0][1][:2] == (1002).to_bytes(2, "big")
    here.connection_lost(None)
    assert (await receiving).type is WSMsgType.ERROR


async def test_a_flood_of_small_frames_leaves_the_others_their_turn() -> None:
    there, kernel = a_line()
    here, _ = a_line()
    here.passage = Way(there)
    waiting = asyncio.create_task(here.receive())
    await asyncio.sleep(0)
    feed(here, client_frame(frames.BINARY, b"x") * 1000)
    assert len(server_frames(kernel.sent)) == line.TURN_FRAMES
    while len(server_frames(kernel.sent)) < 1000:
        await asyncio.sleep(0)
    here.hold()
    await asyncio.wait({waiting})


async def test_an_idle_line_has_no_buffer_and_a_busy_one_gives_it_back() -> None:
    buffers = Buffers()
    one, _ = a_line(buffers)
    waiting = asyncio.create_task(one.receive())
    await asyncio.sleep(0)
    feed(one, client_frame(frames.PING, b""))
    assert one._data is None
    assert len(buffers._spare) == 1
    one.hold()
    await asyncio.wait({waiting})


async def test_aiohttp_is_told_when_the_connection_ends() -> None:
    one, _ = a_line()
    one.connection_lost(None)
    assert one._http.lost == 1  # type: ignore[attr-defined]
    assert await one.receive() is CLOSED
    with pytest.raises(ConnectionResetError):
        one._transport.close()
        await one.send_str("tea")
