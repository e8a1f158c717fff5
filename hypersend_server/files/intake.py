"""The body of a request, received into buffers of ours.

aiohttp copies a body three times on its way to a handler, and wakes it for whatever one read of the socket brought.
Here the connection is served by another protocol for as long as the body lasts: the kernel writes into a buffer that
goes to the store as it is. aiohttp is told of each buffer by as many placeholder bytes, so that everything else stays
its own: the end of the body, a lost connection, pausing a sender who is too fast, reading on after a refusal, the next
request on the same connection. What a whole body costs with and without: docs/decisions.md.
"""

from __future__ import annotations

import asyncio
from collections import deque

from aiohttp import HttpVersion11, hdrs, web

from hypersend_server.errors import HyperSendError
from hypersend_storage.base import Piece

BUFFER_BYTES = 256 * 1024
HAND_OVER_S = 0.05  # what came is handed on after this time, so that a slow sender's bytes are kept when it is cut
_PLACEHOLDER = bytes(BUFFER_BYTES)


class Intake(asyncio.BufferedProtocol):
    """The pieces of a body, in order, to be iterated over once. Raises what reading `request.content` would.

    Who asked with `Expect: 100-continue` is told to send only when the first is asked for.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._content = request.content
        self._handler: asyncio.Protocol = request.protocol
        self._transport: asyncio.Transport | None = None
        self._is_begun = False
        self._is_wanted = True
        self._pieces: deque[Piece] = deque()
        self._buffer = bytearray()
        self._filled = 0
        self._left = 0
        self._late: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Nobody asks for more: what still comes of the body is thrown away."""
        self._is_wanted = False
        self._pieces.clear()

    def __aiter__(self) -> Intake:
        return self

    async def __anext__(self) -> Piece:
        if not self._is_begun:
            self._is_begun = True
            await self._invite()
        if self._transport is None:
            if piece := self._content.read_nowait():  # what came with the head of the request
                return piece
            self._take_over()
        told, _ = await self._content.readchunk()
        if not told:
            raise StopAsyncIteration
        if self._transport is None:
            return told
        received = self._pieces.popleft()
        if len(received) != len(told):
            raise RuntimeError("aiohttp did not pass the placeholders on as they were")
        return received

    async def _invite(self) -> None:
        request = self._request
        expect = request.headers.get(hdrs.EXPECT)
        if expect is not None and request.version >= HttpVersion11:
            if expect.lower() != "100-continue":
                raise HyperSendError("malformed_body", "Only 'Expect: 100-continue' is understood.")
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the answer itself has not begun

    def _take_over(self) -> None:
        """From here on the connection is ours, until the body ends. Nothing of it waits anywhere else."""
        request, transport = self._request, self._request.transport
        if (request.content_length is None or hdrs.CONTENT_ENCODING in request.headers or transport is None
                or transport.get_extra_info("sslcontext") is not None):
            return
        self._left = request.content_length - self._content.total_bytes
        if self._left > 0:
            self._transport = transport
            transport.set_protocol(self)

    # As the transport's protocol

    def get_buffer(self, sizehint: int) -> memoryview:
        if not self._buffer:
            self._buffer = bytearray(BUFFER_BYTES)
        return memoryview(self._buffer)[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        self._left -= nbytes
        if self._left == 0:
            assert self._transport is not None
            self._transport.set_protocol(self._handler)
            self._hand_over()
        elif self._filled == BUFFER_BYTES:
            self._hand_over()
        elif self._late is None:
            self._late = asyncio.get_running_loop().call_later(HAND_OVER_S, self._hand_over_late)

    def _hand_over(self) -> None:
        filled, self._filled = self._filled, 0
        if not filled:
            return
        if self._is_wanted and filled == BUFFER_BYTES:
            self._pieces.append(self._buffer)
            self._buffer = bytearray()
        elif self._is_wanted:
            self._pieces.append(bytes(memoryview(self._buffer)[:filled]))  # many small ones must not hold a buffer each
        if self._left == 0:
            self._buffer = bytearray()
        before = self._content.total_bytes
        self._handler.data_received(_PLACEHOLDER if filled == BUFFER_BYTES else bytes(filled))
        if self._content.total_bytes == before:
            # The server stops: aiohttp reads nothing more of a connection that it was told to close, and would not say
            # so. Nor may what comes pile up here.
            self._is_wanted = False
            if self._transport is not None:
                self._transport.abort()

    def _hand_over_late(self) -> None:
        self._late = None
        self._hand_over()

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()
        self._hand_over()
        self._handler.connection_lost(exc)
