"""WebSocket frames as a client reads and writes them, of RFC 6455, with no extension. No I/O.

    byte 0      FIN, three reserved bits that are 0, four bits of the kind (section 5.2)
    byte 1      whether it is masked, and the length, or 126 or 127 where it stands in the next 2 or 8 bytes
    mask        4 bytes, from a client alone
    payload

What comes is taken apart where it lies, without a copy; what goes out is a header before bytes that are there already.

A client must mask (5.3), so that no script in a browser can make a proxy on the way read bytes that it chose as
another request (10.3). The payload of our binary frames is sealed, hence noise that nobody can choose, so a mask of
zeros leaves nothing to be done and nothing to be feared. Text has a mask of its own each time.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, MASKED = 0x80, 0x80
MOST_CONTROL_BYTES = 125
MOST_HEADER_BYTES = 14
NORMAL, PROTOCOL_ERROR, NO_CODE, BAD_TEXT, TOO_BIG = 1000, 1002, 1005, 1007, 1009
_OWN_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class BadFrame(Exception):
    """The server does not keep to RFC 6455. code: with which to close."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Ping:
    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The server closes. code: NO_CODE where it gives none."""

    code: int


Message = str | memoryview | Ping | Closed
"""A text, a binary message (of the bytes that were handed in, or of its own), and what is to be answered."""


class FrameReader:
    """Takes apart what a server sends. most_bytes: of a message, and of the payload of one frame.

    `take` is called with the bytes from the end of what it has used on, and with more of them each time.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kind: int | None = None  # of the message whose fragments come
        self._parts = bytearray()
        self._is_closed = False

    def take(self, data: memoryview) -> tuple[list[Message], int, int]:
        """(whole messages, bytes used, bytes that must be there, after those used, before anything more is found).

        After Closed there is nothing more. Raises: BadFrame, but only where nothing whole stands before it.
        """
        found: list[Message] = []
        at = 0
        while not self._is_closed:
            try:
                head, length = self._size_of(data[at : at + 10])
                if len(data) - at < head + length:
                    return found, at, head + length
                self._read(data[at] & 0x0F, bool(data[at] & FIN), data[at + head : at + head + length], found)
            except BadFrame:
                if found:
                    return found, at, 1
                raise
            at += head + length
        return found, at, 1

    def _size_of(self, data: memoryview) -> tuple[int, int]:
        """(bytes of the header, of the payload); as if there were no payload while the length has not come."""
        if len(data) < 2:
            return 2, 0
        kind, length, is_last = data[0] & 0x0F, data[1] & 0x7F, bool(data[0] & FIN)
        if data[0] & 0x70:
            raise BadFrame(PROTOCOL_ERROR, "a reserved bit is set")
        if data[1] & MASKED:
            raise BadFrame(PROTOCOL_ERROR, "a frame of a server is masked")
        if kind in (CLOSE, PING, PONG):
            if not is_last or length > MOST_CONTROL_BYTES:
                raise BadFrame(PROTOCOL_ERROR, "a control frame is in fragments, or too long")
            return 2, length
        if kind not in (CONTINUATION, TEXT, BINARY) or (kind == CONTINUATION) is (self._kind is None):
            raise BadFrame(PROTOCOL_ERROR, "a frame of this kind cannot come here")
        head = {126: 4, 127: 10}.get(length, 2)
        if head > 2:
            if len(data) < head:
                return head, 0
            length = int.from_bytes(data[2:head], "big")
        if len(self._parts) + length > self._most_bytes:
            raise BadFrame(TOO_BIG, "a message is too long")
        return head, length

    def _read(self, kind: int, is_last: bool, payload: memoryview, found: list[Message]) -> None:
        if kind == PING:
            found.append(Ping(bytes(payload)))
        elif kind == CLOSE:
            found.append(_closed(payload))
            self._is_closed = True
        elif kind == PONG:
            pass
        elif is_last and kind == BINARY:
            found.append(payload)
        elif is_last and kind == TEXT:
            found.append(_text(payload))
        else:
            self._parts += payload
            self._kind = kind if self._kind is None else self._kind
            if is_last:
                whole, kind = memoryview(self._parts), self._kind
                found.append(_text(whole) if kind == TEXT else whole)
                self._parts, self._kind = bytearray(), None


def _text(payload: memoryview) -> str:
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError:
        raise BadFrame(BAD_TEXT, "a text is not UTF-8") from None


def _closed(payload: memoryview) -> Closed:
    if not payload:
        return Closed(NO_CODE)
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in _OWN_CODES or 3000 <= code <= 4999):
        raise BadFrame(PROTOCOL_ERROR, "it closes with a code that cannot be")
    _text(payload[2:])
    return Closed(code)


def sealed_header(size_bytes: int) -> bytes:
    """What goes before a sealed binary frame of this size; its mask is zeros (see above)."""
    return _header(BINARY, size_bytes) + bytes(4)


def masked_frame(kind: int, payload: bytes) -> bytes:
    """A whole frame of a small message."""
    mask = os.urandom(4)
    key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
    masked = (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")
    return _header(kind, len(payload)) + mask + masked


def _header(kind: int, size_bytes: int) -> bytes:
    if size_bytes < 126:
        return bytes((FIN | kind, MASKED | size_bytes))
    if size_bytes < 65_536:
        return bytes((FIN | kind, MASKED | 126)) + size_bytes.to_bytes(2, "big")
    return bytes((FIN | kind, MASKED | 127)) + size_bytes.to_bytes(8, "big")
