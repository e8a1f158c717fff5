"""One device's WebSocket once aiohttp has opened it: read into buffers of ours, and passed on from there.

aiohttp's own reader makes an object of each frame and three copies of its bytes; here a binary frame is written to
the other device's socket from where it was received. What is not passed on (text, and everything where there is no
`passage`) comes from `receive`, which is like `web.WebSocketResponse.receive`, as are `send_str`, `close` and the rest.

Frames are taken from the buffer only while somebody waits in `receive`: so what comes behind a text frame waits until
that has been dealt with, and whoever cancels the wait has stopped the passing on. A turn of the loop takes at most one
buffer, and of small frames some, before everything else in this process has its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from aiohttp import WSMessage, WSMsgType

from hypersend_server.p2p import frames
from hypersend_server.p2p.frames import BINARY, Fragments, Head, Refused

# Four frames of 64 KiB as the SDK seals and masks them: where the kernel has more than that, they end with the
# buffer and no part of a frame has to be moved.
BUFFER_BYTES = 4 * (65_536 + 25 + 14)
SPARE_BUFFERS = 4
TURN_FRAMES = 64  # of the smallest ones there may be tens of thousands in a buffer
SPARE_BYTES = 64 * 1024 + 256  # a frame always fits behind what is left of another
QUEUED_BYTES = 64 * 1024  # so much may wait at a socket before whoever sends does
CLOSE_S = 5.0
CLOSED = WSMessage(WSMsgType.CLOSED, None, None)


class Buffers:
    """Buffers to receive into. A line has one only while there is something in it, so idle lines cost nothing."""

    def __init__(self) -> None:
        self._spare: list[bytearray] = []

    def take(self) -> bytearray:
        return self._spare.pop() if self._spare else bytearray(BUFFER_BYTES)

    def give_back(self, data: bytearray) -> None:
        if len(self._spare) < SPARE_BUFFERS and len(data) == BUFFER_BYTES:
            self._spare.append(data)


class Passage(Protocol):
    """Where a line's binary frames go."""

    max_bytes: int
    """Of a frame. One that is larger, empty or in pieces comes from `receive`."""

    def target(self) -> Line | None:
        """The other device's line; where there is none the frames are dropped."""

    def passed(self, size_bytes: int) -> None:
        """So much was passed on, or dropped."""

    def stuck(self, target: Line) -> None:
        """The target has taken nothing for as long as `receive` would wait."""


class Line(asyncio.BufferedProtocol):
    """http: aiohttp's protocol of the same connection, which is told when that ends. early: what it has read already.
    max_bytes: of a message."""

    def __init__(
        self, transport: asyncio.Transport, http: asyncio.BaseProtocol, buffers: Buffers, max_bytes: int,
        early: bytes = b"",
    ) -> None:
        self._transport = transport
        self._http = http
        self._buffers = buffers
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._fragments = Fragments(max_bytes)
        self.passage: Passage | None = None
        self._data: bytearray | None = None
        self._view = memoryview(b"")
        self._start = self._stop = 0  # what was received and not taken yet
        self._lent: set[Line] = set()  # their transports may still hold a part of the buffer
        self._receiving: asyncio.Future[WSMessage | Refused] | None = None
        self._heard_at = self._loop.time()
        self._stalled_by: Line | None = None
        self._stalled_at = 0.0
        self._stalled: set[Line] = set()  # those that wait for room here
        self._room: list[asyncio.Future[None]] = []
        self._is_due = False  # the rest of what was received has its turn
        self._is_lost = False
        self._is_closed = False
        self._is_broken = False
        # What a transport could not send at once is a copy in Python 3.11 and our own buffer since 3.12. With a limit
        # of 0 `is_full` tells that there is any.
        transport.set_write_buffer_limits(high=0)
        self.is_full = False
        if early:
            self._fill(early)

    # What the transport calls

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._data is None:
            self._replace()
        elif self._start == self._stop or (self._start and len(self._data) - self._stop < SPARE_BYTES):
            if self._is_lent():
                self._replace()
            else:
                left = self._stop - self._start
                self._view[:left] = self._view[self._start:self._stop]
                self._start, self._stop = 0, left
        return self._view[self._stop:]

    def buffer_updated(self, nbytes: int) -> None:
        self._stop += nbytes
        self._heard_at = self._loop.time()
        self._advance()

    def eof_received(self) -> None:
        """The transport closes, after what waits in it."""

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        stalled, self._stalled = self._stalled, set()
        for line in stalled:
            line.go_on()
        for waiting in self._room:
            if not waiting.done():
                waiting.set_result(None)
        self._room = []

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self.resume_writing()
        # What came before is still read, by whoever receives.
        self._advance()
        self._http.connection_lost(exc)

    # Receiving

    async def receive(self, timeout: float | None = None) -> WSMessage:
        """The next message that is not passed on; pings are answered. CLOSE where the other side closes it, ERROR
        where what came is no WebSocket: it is told so, and `close` is to follow; CLOSED where nothing more will come.

        timeout: seconds of silence. Raises: TimeoutError after these.
        """
        if self._receiving is not None:
            raise RuntimeError("somebody receives already")
        if self._is_broken:
            return CLOSED
        self._heard_at = self._loop.time()
        receiving = self._receiving = self._loop.create_future()
        try:
            self._advance()
            while not receiving.done():
                since = self._heard_at if self._stalled_by is None else self._stalled_at
                left = None if timeout is None else since + timeout - self._loop.time()
                if left is not None and left <= 0:
                    if self._stalled_by is None or self.passage is None:
                        raise TimeoutError
                    self._stalled_at = self._loop.time()
                    self.passage.stuck(self._stalled_by)
                    continue
                await asyncio.wait((receiving,), timeout=left)
        finally:
            self._receiving = None
        found: WSMessage | Refused = receiving.result()
        if isinstance(found, Refused):
            if not self._is_closed:
                self._write(frames.frame(frames.CLOSE, frames.close_payload(found.code, found.reason.encode())))
            return WSMessage(WSMsgType.ERROR, found, None)
        if found.type is WSMsgType.CLOSE and not self._is_closed:
            self._is_closed = True
            self._write(frames.frame(frames.CLOSE, frames.close_payload(1000)))
            self._transport.close()
        return found

    def hold(self) -> None:
        """Pass nothing on any more."""
        self.passage = None
        if self._receiving is not None:
            self._receiving.cancel()

    def go_on(self) -> None:
        """There may be room again at the other line, or another line."""
        if self._stalled_by is not None:
            self._stalled_by._stalled.discard(self)
            self._stalled_by = None
            self._heard_at = self._loop.time()
            self._advance()

    def _advance(self) -> None:
        receiving = self._receiving
        if receiving is not None and not receiving.done() and self._stalled_by is None and not self._is_due:
            found: WSMessage | Refused | None
            try:
                found = self._take()
            except Refused as refused:
                found, self._is_broken = refused, True
            if found is None and self._is_lost and self._stalled_by is None and not self._is_due:
                found = CLOSED
            if found is not None and not receiving.done():  # what passes frames on may have said that it is enough
                receiving.set_result(found)
        if self._is_broken:
            self._start = self._stop
        if self._data is not None and self._start == self._stop:
            if not self._is_lent():
                self._buffers.give_back(self._data)
            self._data, self._view = None, memoryview(b"")
            self._start = self._stop = 0
        if not self._is_lost:
            self._keep_reading()

    def _next_turn(self) -> None:
        self._is_due = False
        self._advance()

    def _take(self) -> WSMessage | None:
        """Pass on what is whole; the first message that is not to be passed on. Raises: Refused."""
        data, view, passage = self._data, self._view, self.passage
        if data is None:
            return None
        target = None if passage is None else passage.target()
        most = 0 if passage is None or self._fragments.is_open else passage.max_bytes
        passed = 0
        try:
            for _ in range(TURN_FRAMES):
                found = frames.head(data, self._start, self._stop, self._max_bytes)
                if found is None or found.end > self._stop:
                    return None
                size = found.end - found.begin
                if 0 < size <= most and found.opcode == BINARY and found.is_final:
                    if target is not None:
                        if target.is_full:
                            self._stalled_by, self._stalled_at = target, self._loop.time()
                            target._stalled.add(self)
                            return None
                        if not target._write(frames.passed_on(data, view, found)):
                            self._lent.add(target)
                    passed += size
                    self._start = found.end
                elif (message := self._message(data, found)) is not None:
                    return message
                elif passage is not None:
                    most = 0 if self._fragments.is_open else passage.max_bytes
        finally:
            if passage is not None and passed:
                passage.passed(passed)
        self._is_due = True
        self._loop.call_soon(self._next_turn)
        return None

    def _message(self, data: bytearray, found: Head) -> WSMessage | None:
        payload = data[found.begin:found.end]
        frames.unmask(found.mask, payload)
        self._start = found.end
        message = self._fragments.add(found, payload)
        if message is None or message.type is WSMsgType.PONG:
            return None
        if message.type is WSMsgType.PING:
            if self._transport.get_write_buffer_size() < QUEUED_BYTES:  # who reads nothing needs no answer
                self._write(frames.frame(frames.PONG, message.data))
            return None
        return message

    def _is_lent(self) -> bool:
        if self._lent:
            self._lent = {each for each in self._lent if each.is_full}
        return bool(self._lent)

    def _replace(self) -> None:
        """Go on in another buffer."""
        left = b"" if self._data is None else bytes(self._view[self._start:self._stop])
        self._fill(left)
        self._lent = set()

    def _fill(self, received: bytes) -> None:
        fits = len(received) + SPARE_BYTES <= BUFFER_BYTES
        self._data = self._buffers.take() if fits else bytearray(len(received) + SPARE_BYTES)
        self._view = memoryview(self._data)
        self._view[:len(received)] = received
        self._start, self._stop = 0, len(received)

    def _keep_reading(self) -> None:
        """While there is room for it: also of a line that has to wait, so that its end is noticed."""
        if self._data is not None and len(self._data) - self._stop < SPARE_BYTES and (
                self._receiving is None or self._receiving.done() or self._is_due or self._stalled_by is not None):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # Sending

    async def send_str(self, data: str) -> None:
        await self._send(frames.TEXT, data.encode())

    async def send_bytes(self, data: bytes) -> None:
        await self._send(BINARY, data)

    def tell(self, data: str) -> None:
        """As `send_str`, without waiting for room. Raises: ConnectionResetError."""
        self._require_open()
        self._write(frames.frame(frames.TEXT, data.encode()))

    async def ping(self, message: bytes = b"") -> None:
        """Raises: ConnectionResetError."""
        self._require_open()
        self._write(frames.frame(frames.PING, message))

    async def _send(self, opcode: int, payload: bytes) -> None:
        """Hand it over, and wait while much waits. Raises: ConnectionResetError."""
        self._require_open()
        self._write(frames.frame(opcode, payload))
        if self._transport.get_write_buffer_size() > QUEUED_BYTES:
            room = self._loop.create_future()
            self._room.append(room)
            await room

    def _require_open(self) -> None:
        if self._is_closed or self._is_broken or self._transport.is_closing():
            raise ConnectionResetError("this line is closed")

    def _write(self, data: bytes | bytearray | memoryview) -> bool:
        """False where a part of it waits for room."""
        if not self._transport.is_closing():
            self._transport.write(data)
        return not self.is_full

    # Closing

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        """Say so, wait until the other side has, and close the connection. Only where nobody receives.

        Returns: False where it was closed already.
        """
        if self._is_closed:
            return False
        self._is_closed, self.passage = True, None
        self.go_on()
        if not self._is_broken:
            self._write(frames.frame(frames.CLOSE, frames.close_payload(code, message)))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._until_closed()
        finally:
            self._transport.close()
        return True

    async def _until_closed(self) -> None:
        while not self._is_broken:
            if (await self.receive()).type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
                return
        # Nothing that comes can be read any more, but the other side still has to read why: its end is waited for.
        while not self._is_lost:
            room = self._loop.create_future()
            self._room.append(room)
            await room
