"""One open socket: its bounded outgoing queue, its heartbeat's flag, and how it closes.

Frames from a server are not masked (RFC 6455) and ours are not compressed, so an event is framed once and
the same bytes go to every socket. They are written to the transport in batches, once a turn of the event
loop; only while a client reads more slowly than we write has a socket a task of its own.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol

from aiohttp import WSMsgType, web

from hypersend_server.realtime import wire

MAX_QUEUED_BYTES = 4 * 1024 * 1024
MAX_QUEUED_FRAMES = 4096
# What is handed to the transport at once: it keeps what the kernel does not take, beside our queue.
BATCH_BYTES = 256 * 1024
CLOSE_TIMEOUT_S = 5.0

PING_FRAME = b"\x89\x00"


def text_frame(payload: bytes) -> bytes:
    """A whole text message as a server sends it. Source: RFC 6455 section 5.2."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


def pong_frame(payload: bytes) -> bytes:
    """payload: that of the ping, at most 125 bytes."""
    return b"\x8a%c%b" % (len(payload), payload)


def close_frame(code: int, reason: str = "") -> bytes:
    body = struct.pack("!H", code) + reason.encode()[:120]
    return b"\x88%c%b" % (len(body), body)


class Limits(Protocol):
    def take(self, key: str) -> int | None:
        """None where one more is allowed, else the seconds to wait."""


class Connection:
    """A socket that a handler has opened. user_id and session_id are '' until somebody has signed in.

    alive: something was heard since the last heartbeat.
    """

    __slots__ = (
        "_batch_due", "_draining", "_limits", "_loop", "_protocol", "_queue", "_queued_bytes", "_transport",
        "_writer", "_ws", "alive", "close_code", "in_flight", "room", "session_id", "slot", "user_id",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queue: list[bytes] = []
        self._queued_bytes = 0
        self._batch_due = False
        self._draining: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self.user_id = ""
        self.session_id = ""
        self.alive = True
        self.close_code: int | None = None
        self.slot = 0
        self.in_flight = 0
        self.room: asyncio.Future[None] | None = None

    async def open(self, request: web.Request) -> web.WebSocketResponse[bool]:
        """Shake hands. Raises: web.HTTPBadRequest where the request is no upgrade."""
        self._ws = web.WebSocketResponse(
            compress=False, autoping=False, decode_text=False, max_msg_size=wire.MAX_FRAME_BYTES + 1,
            timeout=CLOSE_TIMEOUT_S)
        self._writer = await self._ws.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client left during the handshake")
        self._transport = transport
        self._protocol = request.protocol
        return self._ws

    # Out

    @property
    def waiting(self) -> int:
        """Frames in the queue."""
        return len(self._queue)

    def send(self, frame: bytes) -> None:
        """Queue bytes of `text_frame`. A client that lets too much wait is closed with 4008."""
        if self.close_code is not None:
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if self._queued_bytes > MAX_QUEUED_BYTES or len(self._queue) > MAX_QUEUED_FRAMES:
            self.close(wire.TOO_SLOW, "too slow")
        elif not self._batch_due:
            self._batch_due = True
            self._loop.call_soon(self._write_batch)

    def send_json(self, payload: bytes) -> None:
        self.send(text_frame(payload))

    def _write_batch(self) -> None:
        """Hand over what is queued; where the transport is full, go on when it has drained."""
        self._batch_due = False
        if not self._queue or self._ws.closed or self._transport.is_closing():
            return
        self._transport.write(self._next_batch())
        if self._queue or self._protocol.writing_paused:
            self._batch_due = True
            self._draining = self._loop.create_task(self._drain())

    def _next_batch(self) -> bytes:
        queue = self._queue
        if self._queued_bytes <= BATCH_BYTES:
            batch = queue[0] if len(queue) == 1 else b"".join(queue)
            queue.clear()
            self._queued_bytes = 0
            return batch
        count = size = 0
        for frame in queue:
            count += 1
            size += len(frame)
            if size >= BATCH_BYTES:
                break
        batch = b"".join(queue[:count])
        del queue[:count]
        self._queued_bytes -= size
        return batch

    async def _drain(self) -> None:
        try:
            while not self._transport.is_closing():
                await self._writer.drain()
                if not self._queue or self._transport.is_closing():
                    break
                self._transport.write(self._next_batch())
        except ConnectionError:
            pass  # the reader notices the same and ends the connection
        finally:
            self._draining = None
            self._batch_due = False

    # In

    async def receive(self) -> bytes | None:
        """The next text frame, or None when the socket is over. Control frames are dealt with here.

        While the socket closes, what still comes is read and dropped: unread bytes would make the kernel
        reset the connection, and the client could miss the close code.
        """
        while True:
            message = await self._ws.receive()
            kind = message.type
            self.alive = True
            if kind is WSMsgType.TEXT or kind is WSMsgType.PING:
                if self.close_code is not None:
                    continue
                if self.session_id and self._limits.take(self.session_id) is not None:
                    self.close(wire.TOO_MANY, "too many frames")
                elif kind is WSMsgType.TEXT:
                    return bytes(message.data)
                else:
                    self.send(pong_frame(message.data))
            elif kind is WSMsgType.BINARY:
                self.close(wire.BAD_FRAME, "binary frames are not understood")
            elif kind is not WSMsgType.PONG:
                return None

    # The end

    def close(self, code: int, reason: str = "") -> None:
        """Send what the client can take, then the code. It has 5 s to answer before the connection is cut."""
        if self.close_code is not None:
            return
        self.close_code = code
        if not self._transport.is_closing():
            if code != wire.TOO_SLOW and not self._protocol.writing_paused:
                self._queue.append(close_frame(code, reason))
                self._transport.write(b"".join(self._queue))
            else:
                self._transport.write(close_frame(code, reason))
        self._queue.clear()
        self._queued_bytes = 0
        self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    def ended(self) -> None:
        """Nobody reads this socket any more. The transport may hold bytes that the client never takes."""
        if self.close_code is None:
            self.close_code = self._ws.close_code or 1006
            self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        self._queue.clear()

    def heartbeat(self) -> None:
        """Called every 30 s: ask whether the client is there; cut the connection where it did not say so."""
        if not self.alive and self.in_flight == 0:
            self.abort()
            return
        self.alive = False
        self.send(PING_FRAME)
