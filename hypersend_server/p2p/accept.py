"""From aiohttp's hands into ours: the answer to an upgrade, and a `Line` on its connection."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from aiohttp import hdrs, web

from hypersend_server.p2p.line import Buffers, Line

ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


async def accept(request: web.Request, buffers: Buffers, max_bytes: int) -> tuple[web.StreamResponse, Line]:
    """Answer 101. max_bytes: of a message. Returns: what the handler has to return in the end, and the line.

    aiohttp still owns the connection: it closes it when the handler has returned, or the server stops, and the line
    tells it when the connection ends. Raises: web.HTTPBadRequest where it is no upgrade; ConnectionResetError.
    """
    socket = web.WebSocketResponse(compress=False)
    if not socket.can_prepare(request):
        await socket.prepare(request)  # raises, and says what is wrong
    key = request.headers[hdrs.SEC_WEBSOCKET_KEY].encode()
    response = web.StreamResponse(status=101, headers={
        hdrs.UPGRADE: "websocket",
        hdrs.CONNECTION: "upgrade",
        hdrs.SEC_WEBSOCKET_ACCEPT: base64.b64encode(hashlib.sha1(key + ACCEPT_KEY).digest()).decode(),  # noqa: S324
    })
    response.force_close()
    await response.prepare(request)
    if request.transport is None:
        raise ConnectionResetError("the connection is lost")
    return response, take_over(request.transport, request.protocol, buffers, max_bytes)


def take_over(transport: Any, http: Any, buffers: Buffers, max_bytes: int) -> Line:
    """http: the connection's `RequestHandler`."""
    early = Early()
    http.set_parser(early)
    http.keep_alive(False)
    line = Line(transport, http, buffers, max_bytes, early.data)
    transport.set_protocol(line)
    transport.resume_reading()  # which aiohttp pauses when much has come behind a request
    return line


class Early:
    """A parser for `RequestHandler.set_parser`, which hands it what has come behind the request."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None: ...
