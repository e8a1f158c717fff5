"""A connection that became a WebSocket, for whoever reads and writes its frames without aiohttp."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import aiohttp

_WS_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Upgraded:
    """A connection whose server has agreed to speak WebSocket on it, and of which aiohttp is done.

    key: that of the request. Raises: aiohttp.WSServerHandshakeError where the server did not agree. Source: RFC 6455,
    section 4.1.
    """

    def __init__(self, response: aiohttp.ClientResponse, key: str) -> None:
        headers = response.headers
        accept = base64.b64encode(hashlib.sha1(key.encode() + _WS_GUID, usedforsecurity=False).digest()).decode()
        if (
            response.status != 101
            or headers.get("Upgrade", "").lower() != "websocket"
            or headers.get("Connection", "").lower() != "upgrade"
            or headers.get("Sec-WebSocket-Accept") != accept
            or headers.get("Sec-WebSocket-Extensions")
            or response.connection is None
            or response.connection.protocol is None
            or response.connection.transport is None
        ):
            raise aiohttp.WSServerHandshakeError(
                response.request_info, response.history, message="it is no WebSocket", status=response.status,
                headers=headers)
        self._response = response
        self._handler = response.connection.protocol
        self.transport: asyncio.Transport = response.connection.transport

    def hand_over(self, protocol: asyncio.BaseProtocol) -> bytes:
        """From now on the connection is this protocol's; what has come behind the answer's head already.

        It has to pass `connection_lost` on to this.
        """
        rest = _Rest()
        self._handler.read_timeout = None
        self._handler.set_parser(rest, None)  # where aiohttp's own reader of frames would be
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        return bytes(rest.data)

    def connection_lost(self, error: Exception | None) -> None:
        self._handler.connection_lost(error)

    def close(self) -> None:
        self._response.close()


class _Rest:
    """Takes from aiohttp what came behind the head of an answer."""

    def __init__(self) -> None:
        self.data = bytearray()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        pass
