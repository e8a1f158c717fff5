"""The frames of a WebSocket as a server reads and writes them. No I/O. Source: RFC 6455, section 5.

`head` reads where a client's frame begins and ends in a buffer; `Fragments` puts what came in several frames
together; `passed_on` makes a server's frame of a client's where it lies.
"""

from __future__ import annotations

import contextlib
import struct
from typing import NamedTuple

from aiohttp import WSMessage, WSMsgType

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FINAL = 0x80
MASKED = 0x80
CONTROL_BYTES = 125
PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG = 1002, 1007, 1009
CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))
NO_MASK = bytes(4)

LONG_BINARY = (FINAL | BINARY) << 8 | MASKED | 127

_long = struct.Struct("!HQ4s").unpack_from
_size_2 = struct.Struct("!H").unpack_from
_size_8 = struct.Struct("!Q").unpack_from
_head_2 = struct.Struct("!BB")
_head_4 = struct.Struct("!BBH")
_head_10 = struct.Struct("!BBQ")


class Refused(Exception):
    """What came is no WebSocket, or too large: close with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Head(NamedTuple):
    """begin, end: where the payload lies in the buffer; the end may not have come yet."""

    opcode: int
    is_final: bool
    mask: bytes
    begin: int
    end: int


def head(data: bytearray, start: int, stop: int, max_bytes: int) -> Head | None:
    """What data[start:stop] begins with, or None where it is too short to tell. Raises: Refused."""
    if stop - start >= 14:
        kind, size, mask = _long(data, start)
        if kind == LONG_BINARY and size <= max_bytes:  # as almost all: the way below takes three times as long
            begin = start + 14
            return Head(BINARY, True, mask, begin, begin + size)
    if stop - start < 2:
        return None
    first, second = data[start], data[start + 1]
    opcode = first & 0x0F
    if first & 0x70:
        raise Refused(PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on")
    if opcode > PONG or BINARY < opcode < CLOSE:
        raise Refused(PROTOCOL_ERROR, f"there is no opcode {opcode}")
    if not second & MASKED:
        raise Refused(PROTOCOL_ERROR, "a client's frame must be masked")
    size = second & 0x7F
    if opcode >= CLOSE and (size > CONTROL_BYTES or not first & FINAL):
        raise Refused(PROTOCOL_ERROR, "a control frame is too large, or in pieces")
    begin = start + 6
    if size == 126:
        begin += 2
        if stop < begin:
            return None
        size = _size_2(data, start + 2)[0]
    elif size == 127:
        begin += 8
        if stop < begin:
            return None
        size = _size_8(data, start + 2)[0]
    elif stop < begin:
        return None
    if size > max_bytes:
        raise Refused(TOO_BIG, f"a frame is larger than {max_bytes} bytes")
    return Head(opcode, first >= FINAL, bytes(data[begin - 4:begin]), begin, begin + size)


def unmask(mask: bytes, data: bytearray) -> None:
    """In place."""
    if mask != NO_MASK:
        _mask(mask, data)


def _mask_slowly(mask: bytes, data: bytearray) -> None:
    """At a fraction of the speed of aiohttp's."""
    size = len(data)
    pattern = (mask * (size // 4 + 1))[:size]
    data[:] = (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


_mask = _mask_slowly
with contextlib.suppress(ImportError):  # C, a machine word at a time; not public, so test_frames.py looks for it
    from aiohttp._websocket.helpers import websocket_mask

    _mask = websocket_mask


def frame(opcode: int, payload: bytes | bytearray) -> bytes:
    """A server's, whole."""
    return _header(opcode, len(payload)) + payload


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """reason: what is behind its 123rd byte is left out."""
    return code.to_bytes(2, "big") + reason[:CONTROL_BYTES - 2]


def passed_on(data: bytearray, view: memoryview, found: Head) -> memoryview | bytearray:
    """The server's frame of a client's whole binary one, to be written as it is.

    view: of data. A server's header is four bytes shorter than a client's, so it stands directly before the payload,
    and nothing is moved. Where there is a mask the frame is a copy, since only a whole bytearray is unmasked quickly.
    """
    size = found.end - found.begin
    if size > 0xFFFF:
        begin = found.begin - 10
        _head_10.pack_into(data, begin, FINAL | BINARY, 127, size)
    elif size > CONTROL_BYTES:
        begin = found.begin - 4
        _head_4.pack_into(data, begin, FINAL | BINARY, 126, size)
    else:
        begin = found.begin - 2
        _head_2.pack_into(data, begin, FINAL | BINARY, size)
    if found.mask == NO_MASK:
        return view[begin:found.end]
    copy = bytearray(view[begin:found.end])
    head_bytes = found.begin - begin
    turn = -head_bytes % 4  # so that the mask's first byte meets the payload's
    unmask(found.mask[turn:] + found.mask[:turn], copy)
    copy[:head_bytes] = view[begin:found.begin]
    return copy


def _header(opcode: int, size: int) -> bytes:
    if size > 0xFFFF:
        return _head_10.pack(FINAL | opcode, 127, size)
    if size > CONTROL_BYTES:
        return _head_4.pack(FINAL | opcode, 126, size)
    return _head_2.pack(FINAL | opcode, size)


class Fragments:
    """Messages of the frames of one connection. max_bytes: of a message."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._opcode = CONTINUATION
        self._parts = bytearray()

    @property
    def is_open(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._opcode != CONTINUATION

    def add(self, found: Head, payload: bytearray) -> WSMessage | None:
        """payload: unmasked. Returns: the message that it completes. Raises: Refused."""
        if found.opcode >= CLOSE:
            return _control(found.opcode, bytes(payload))
        if (found.opcode == CONTINUATION) != self.is_open:
            raise Refused(PROTOCOL_ERROR, "a continuation of nothing, or a message within a message")
        if len(self._parts) + len(payload) > self._max_bytes:
            raise Refused(TOO_BIG, f"a message is larger than {self._max_bytes} bytes")
        if not found.is_final:
            self._opcode = self._opcode or found.opcode
            self._parts += payload
            return None
        whole = bytes(self._parts + payload)
        opcode, self._opcode = self._opcode or found.opcode, CONTINUATION
        self._parts = bytearray()
        if opcode == TEXT:
            return WSMessage(WSMsgType.TEXT, _text(whole), None)
        return WSMessage(WSMsgType.BINARY, whole, None)


def _control(opcode: int, payload: bytes) -> WSMessage:
    if opcode != CLOSE:
        return WSMessage(WSMsgType.PING if opcode == PING else WSMsgType.PONG, payload, None)
    if not payload:
        return WSMessage(WSMsgType.CLOSE, 0, "")
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or (code not in CLOSE_CODES and not 3000 <= code <= 4999):
        raise Refused(PROTOCOL_ERROR, "not a code to close with")
    return WSMessage(WSMsgType.CLOSE, code, _text(payload[2:]))


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Refused(INVALID_TEXT, "a text is not UTF-8") from None
