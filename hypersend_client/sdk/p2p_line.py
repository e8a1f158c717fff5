"""The lines of a transfer: what comes is received into large buffers of ours, and many frames at a time are handed on
and sent.

aiohttp and asyncio's streams copy each byte three to five times, and wake a task for each frame (docs/p2p.md). Here the
system writes into one of two buffers, and whoever receives gets what lies whole in the other one, as views into it.
When both are full, nothing more is read until the receiver asks again; and who sends waits until the system has taken
what was sent before.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from hypersend_client.sdk import p2p_frames
from hypersend_client.sdk.p2p_frames import CLOSE, NORMAL, PING, PONG, TEXT, Closed, FrameReader, Ping
from hypersend_client.sdk.p2p_seal import FRAME_BYTES
from hypersend_client.sdk.upgraded import Upgraded

M = TypeVar("M")

MOST_BYTES = 128 * 1024  # of a message; a sealed frame has 65,561
SMALL_BYTES = MOST_BYTES + p2p_frames.MOST_HEADER_BYTES
BATCH_FRAMES = 32
LARGE_BYTES = BATCH_FRAMES * (FRAME_BYTES + p2p_frames.MOST_HEADER_BYTES) + SMALL_BYTES
CLOSED_OUT_OF_ORDER = 1006
PULSE_S = 20.0  # a third of the silence after which the relay lets an end go
GATHER_S = 0.002  # how long what came may wait for more, where much comes
MOST_WAITING_BYTES = 4 * 1024 * 1024
UNSENT_BYTES = 2 * 1024 * 1024


def _let_unsent(sock: socket.socket | None) -> None:
    """Let the system take a whole batch at once."""
    if sock is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


class Line(asyncio.BufferedProtocol, Generic[M]):
    """A connection of messages M. buffer_bytes: of each of the two buffers, from the next `receive` on; SMALL_BYTES,
    or LARGE_BYTES for much."""

    def __init__(self) -> None:
        self.buffer_bytes = SMALL_BYTES
        self._transport: asyncio.Transport
        self._filling = bytearray(SMALL_BYTES)
        self._lent = bytearray()
        self._have = 0
        self._needed = 1
        self._is_full = False
        self._is_over = False  # nothing more is read
        self._is_lost = False  # nor sent
        self._heard_at = 0.0
        self._waiting: asyncio.Future[None] | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._has_room = asyncio.Event()
        self._has_room.set()

    # What sort of line it is

    @abstractmethod
    def _take(self, data: memoryview) -> tuple[list[M], int, int]:
        """(whole messages, bytes used, bytes that must be there, after those used, before there is a message more).

        Raises: what `receive` raises.
        """

    @staticmethod
    @abstractmethod
    def header(size_bytes: int) -> bytes:
        """What goes before a sealed frame of this size."""

    # For whoever uses it

    async def receive(self) -> list[M]:
        """All messages that have come, at least one; none where the line is over. Only one may wait.

        Views among them are good until this is called again.
        """
        while True:
            if not self._is_lost and self._have < max(self._needed, self._enough):
                await self._gather()
            if self._is_over:
                return []
            found, used, self._needed = self._take(memoryview(self._filling)[: self._have])
            if used:
                self._turn(used)
            if found:
                return found
            if self._is_lost:
                return []

    def write(self, data: bytes | memoryview) -> None:
        """One frame or several, whole, headers and all; not to be changed until `drain` has returned.

        Raises: ConnectionResetError.
        """
        if self._is_lost or self._transport.is_closing():
            raise ConnectionResetError("the line is closed")
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the system has taken what was written. Raises: ConnectionResetError."""
        await self._has_room.wait()
        if self._is_lost:
            raise ConnectionResetError("the line is closed")

    async def send(self, frame: bytes) -> None:
        """One sealed frame. Raises: ConnectionResetError."""
        self.write(self.header(len(frame)) + frame)
        await self.drain()

    def get_extra_info(self, name: str) -> Any:
        return self._transport.get_extra_info(name)

    def abort(self) -> None:
        self._transport.abort()

    # Buffers

    async def _gather(self) -> None:
        """Wait until there is a message; where much comes, not for one alone."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._have >= self._needed:
            self._wake_soon()
        try:
            await self._waiting
        finally:
            self._waiting = None
            if self._gathering is not None:
                self._gathering.cancel()
                self._gathering = None

    @property
    def _enough(self) -> int:
        """Bytes with which nothing is waited for any longer."""
        return self.buffer_bytes // 2 if self.buffer_bytes > SMALL_BYTES else 0

    def _turn(self, used: int) -> None:
        """What was found stays where it is, for the receiver; the rest moves to the other buffer, which fills now."""
        rest = self._have - used
        spare = self._lent if len(self._lent) == self.buffer_bytes else bytearray(max(self.buffer_bytes, rest))
        spare[:rest] = memoryview(self._filling)[used : self._have]
        self._filling, self._lent, self._have = spare, self._filling, rest
        if self._is_full:
            self._is_full = False
            self._heard_at = asyncio.get_running_loop().time()
            self._transport.resume_reading()

    def _wake_soon(self) -> None:
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._wake)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # For asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not `isinstance`: the transports of uvloop, on which an app may run, are of a kind of their own.
        self._transport = cast(asyncio.Transport, transport)
        self._heard_at = asyncio.get_running_loop().time()
        _let_unsent(transport.get_extra_info("socket"))
        # From Python 3.12 on what waits is not copied, so there is room again when nothing waits. TLS compares in
        # another way, and with 0 would wait for room that it has.
        self._transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1, low=0)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._filling)[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        self._have += nbytes
        self._heard_at = asyncio.get_running_loop().time()
        if self._have == len(self._filling):
            self._is_full = True
            self._transport.pause_reading()
        if self._have >= self._needed and self._waiting is not None:
            if self._have >= self._enough:
                self._wake()
            else:
                self._wake_soon()

    def pause_writing(self) -> None:
        self._has_room.clear()

    def resume_writing(self) -> None:
        self._has_room.set()

    def eof_received(self) -> bool:
        return False  # closes the transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._has_room.set()
        self._wake()


class WebSocketLine(Line[str | memoryview]):
    """The socket of a transfer, of which aiohttp has made the upgrade: texts, and sealed frames.

    heartbeat_s: where nothing was heard for so long the server is asked, and has half of it to answer. The server hears
    us also while nobody receives, as who compares or syncs a large file. close_code: what it was closed with, once
    `receive` answers with nothing.
    """

    def __init__(self, upgraded: Upgraded, *, heartbeat_s: float) -> None:
        super().__init__()
        self.close_code = CLOSED_OUT_OF_ORDER
        self._reader = FrameReader(MOST_BYTES)
        self._upgraded = upgraded
        self._heartbeat_s = heartbeat_s
        self._beat: asyncio.TimerHandle | None = None
        came = upgraded.hand_over(self)
        self._filling = bytearray(max(SMALL_BYTES, len(came) + 1))
        self._filling[: len(came)] = came
        self._have = len(came)
        self._has_said_close = False
        self._beat_at(self._heard_at + heartbeat_s)
        self._pulse_later()

    @staticmethod
    def header(size_bytes: int) -> bytes:
        return p2p_frames.sealed_header(size_bytes)

    def say(self, text: str) -> None:
        """It waits for no room: who reads the line answers so, and must go on reading.

        Raises: ConnectionResetError, also where so much waits already that the server takes nothing.
        """
        if not self._transport.is_closing() and self._transport.get_write_buffer_size() > MOST_WAITING_BYTES:
            self._transport.abort()
            raise ConnectionResetError("the server takes nothing")
        self.write(p2p_frames.masked_frame(TEXT, text.encode()))

    async def close(self) -> None:
        """Say that it is closed, and wait until the server says so, too."""
        try:
            self._say_close(NORMAL)
            while await self.receive():
                pass
        finally:
            self._stop_beats()
            if not self._is_lost and not self._is_over and self._transport.get_write_buffer_size():
                self._transport.abort()  # to close it would wait for a server that takes nothing
            self._upgraded.close()

    def _take(self, data: memoryview) -> tuple[list[str | memoryview], int, int]:
        try:
            found, used, needed = self._reader.take(data)
        except p2p_frames.BadFrame as error:
            self._close_with(error.code)
            return [], 0, 1
        messages: list[str | memoryview] = []
        for message in found:
            if isinstance(message, Ping):
                if self._has_room.is_set():  # else the server hears us by what is on its way
                    self._say(PONG, message.data)
            elif isinstance(message, Closed):
                self._close_with(message.code)
            else:
                messages.append(message)
        return messages, used, needed

    def _close_with(self, code: int) -> None:
        self._is_over = True
        self.close_code = code
        self._say_close(code)
        self._upgraded.close()  # and not the transport itself: that of TLS is not to be closed twice

    def _say_close(self, code: int) -> None:
        if not self._has_said_close:
            self._has_said_close = True
            self._say(CLOSE, b"" if code == p2p_frames.NO_CODE else code.to_bytes(2, "big"))

    def _say(self, kind: int, data: bytes) -> None:
        if not self._is_lost and not self._transport.is_closing():
            self._transport.write(p2p_frames.masked_frame(kind, data))

    # Whether anybody is there

    def _beat_at(self, when: float, asked_at: float | None = None) -> None:
        self._beat = asyncio.get_running_loop().call_at(when, self._check, asked_at)

    def _check(self, asked_at: float | None) -> None:
        """Nothing is said of the server while it is we who do not read."""
        now = asyncio.get_running_loop().time()
        if self._is_over or self._is_lost:
            return
        if asked_at is not None and self._heard_at < asked_at and not self._is_full:
            self._transport.abort()
        elif not self._is_full and now - self._heard_at >= self._heartbeat_s:
            self._say(PING, b"")
            self._beat_at(now + self._heartbeat_s / 2, now)
        else:
            self._beat_at(max(self._heard_at, now if self._is_full else 0) + self._heartbeat_s)

    def _pulse_later(self) -> None:
        self._pulsing = asyncio.get_running_loop().call_later(PULSE_S, self._pulse)

    def _pulse(self) -> None:
        """A pong that nobody asked for (RFC 6455, 5.5.3)."""
        if not self._has_said_close:
            if self._has_room.is_set():  # else the server hears us by what is on its way
                self._say(PONG, b"")
            self._pulse_later()

    def _stop_beats(self) -> None:
        self._pulsing.cancel()
        if self._beat is not None:
            self._beat.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_beats()
        self._upgraded.connection_lost(exc)


class MessageLine(Line[memoryview]):
    """A direct connection: each message is its length, 4 bytes big-endian, and so many bytes. made: called with it as
    soon as it is open."""

    def __init__(self, made: Callable[[MessageLine], None] | None = None) -> None:
        super().__init__()
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._made is not None:
            self._made(self)

    @staticmethod
    def header(size_bytes: int) -> bytes:
        return size_bytes.to_bytes(4, "big")

    def _take(self, data: memoryview) -> tuple[list[memoryview], int, int]:
        """Raises: ValueError where one is longer than any frame."""
        found: list[memoryview] = []
        at = 0
        while True:
            size = int.from_bytes(data[at : at + 4], "big") if len(data) - at >= 4 else 0
            if size > FRAME_BYTES:
                if found:
                    return found, at, 1
                raise ValueError("a message is longer than any frame")
            if len(data) - at < 4 + size:
                return found, at, 4 + size
            found.append(data[at + 4 : at + 4 + size])
            at += 4 + size
