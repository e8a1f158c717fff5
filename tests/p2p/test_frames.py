"""WebSocket frames as a server reads and writes them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest
from aiohttp import WSMessage, WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.p2p import frames
from hypersend_server.p2p.frames import Fragments, Head, Refused

MASK = b"\x01\x02\xf3\x04"
MOST = 70_000


def client_frame(opcode: int, payload: bytes, *, mask: bytes = MASK, final: bool = True, length: int = 0) -> bytes:
    """length: the least bytes that the size takes, of 1, 3 and 9."""
    size = len(payload)
    first = bytes([(0x80 if final else 0) | opcode])
    if size > 0xFFFF or length > 3:
        head = first + b"\xff" + size.to_bytes(8, "big")
    elif size > 125 or length > 1:
        head = first + b"\xfe" + size.to_bytes(2, "big")
    else:
        head = first + bytes([0x80 | size])
    masked = bytearray(payload)
    frames._mask_slowly(mask, masked)
    return head + mask + masked


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of each: what a client reads. All of them must be whole."""
    found, at = [], 0
    while at < len(data):
        assert data[at] & 0xF0 == 0x80
        assert not data[at + 1] & 0x80
        size, begin = data[at + 1], at + 2
        if size == 126:
            size, begin = int.from_bytes(data[begin:begin + 2], "big"), begin + 2
            assert size > 125
        elif size == 127:
            size, begin = int.from_bytes(data[begin:begin + 8], "big"), begin + 8
            assert size > 0xFFFF
        assert begin + size <= len(data)
        found.append((data[at] & 0x0F, data[begin:begin + size]))
        at = begin + size
    return found


def read(data: bytes) -> tuple[Head, bytearray]:
    """The frame that it begins with, and its payload."""
    found = frames.head(bytearray(data), 0, len(data), MOST)
    assert found is not None
    payload = bytearray(data[found.begin:found.end])
    frames.unmask(found.mask, payload)
    return found, payload


SIZES = st.sampled_from([0, 1, 5, 125, 126, 200, 65_535, 65_536, 65_561])


@pytest.mark.parametrize("mask", [frames._mask, frames._mask_slowly])
@given(st.binary(min_size=4, max_size=4), st.binary(max_size=40))
def test_a_mask_is_put_on_and_taken_off(mask: Callable[[bytes, bytearray], None], key: bytes, data: bytes) -> None:
    found = bytearray(data)
    mask(key, found)
    assert found == bytes(byte ^ key[n % 4] for n, byte in enumerate(data))


def test_the_mask_of_aiohttp_is_where_we_look_for_it() -> None:
    assert frames._mask is not frames._mask_slowly, "aiohttp moved it: unmasking takes ten times as long"


@given(SIZES, st.sampled_from([MASK, frames.NO_MASK]), st.sampled_from([1, 3, 9]), st.integers(0, 20))
def test_a_frame_is_passed_on_as_it_came(size: int, mask: bytes, length: int, before: int) -> None:
    payload = os.urandom(size)
    data = bytearray(os.urandom(before) + client_frame(frames.BINARY, payload, mask=mask, length=length) + b"next")
    found = frames.head(data, before, len(data), MOST)
    assert found is not None
    assert found.end == len(data) - 4
    written = bytes(frames.passed_on(data, memoryview(data), found))
    assert server_frames(written) == [(frames.BINARY, payload)]
    assert written == frames.frame(frames.BINARY, payload)
    assert data[-4:] == b"next"


@given(SIZES, st.sampled_from([1, 3, 9]))
def test_a_head_is_read_as_soon_as_it_is_whole(size: int, length: int) -> None:
    whole = client_frame(frames.BINARY, bytes(size), length=length)
    head_bytes = len(whole) - size
    for stop in range(head_bytes):
        assert frames.head(bytearray(whole), 0, stop, MOST) is None
    assert frames.head(bytearray(whole), 0, head_bytes, MOST) == (
        frames.BINARY, True, MASK, head_bytes, len(whole))


@pytest.mark.parametrize(("data", "code"), [
    (b"\xc2\x80", 1002), (b"\xa2\x80", 1002), (b"\x92\x80", 1002),  # reserved bits
    (b"\x83\x80", 1002), (b"\x87\x80", 1002), (b"\x8b\x80", 1002), (b"\x8f\x80", 1002),  # no such opcode
    (b"\x82\x05hello", 1002), (b"\x82\x7f" + bytes(8), 1002), (b"\x89\x00", 1002),  # not masked
    (b"\x09\x80", 1002), (b"\x89\xfe\x00\x7e", 1002),  # a control frame in pieces, and a large one
    (b"\x82\xff" + (MOST + 1).to_bytes(8, "big") + MASK, 1009), (b"\x82\xff" + b"\xff" * 8 + MASK, 1009)])
def test_what_is_no_frame_of_a_client_is_refused(data: bytes, code: int) -> None:
    with pytest.raises(Refused) as caught:
        frames.head(bytearray(data), 0, len(data), MOST)
    assert caught.value.code == code


@given(st.text(max_size=30), st.lists(st.integers(0, 30), max_size=4), st.booleans())
def test_fragments_become_a_message_with_pings_in_between(text: str, cuts: list[int], pings: bool) -> None:
    whole = text.encode()
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    fragments, found = Fragments(MOST), []
    for n, (begin, end) in enumerate(itertools.pairwise(at)):
        last = n == len(at) - 2
        found.append(fragments.add(*read(client_frame(
            frames.CONTINUATION if n else frames.TEXT, whole[begin:end], final=last))))
        assert fragments.is_open is not last
        if pings:
            ping = fragments.add(*read(client_frame(frames.PING, b"?")))
            assert ping == WSMessage(WSMsgType.PING, b"?", None)
    assert found[:-1] == [None] * (len(at) - 2)
    assert found[-1] == WSMessage(WSMsgType.TEXT, text, None)


@pytest.mark.parametrize(("came", "code"), [
    ([client_frame(0, b"x")], 1002),
    ([client_frame(2, b"x", final=False), client_frame(2, b"x")], 1002),
    ([client_frame(2, b"", final=False), client_frame(1, b"x", final=False)], 1002),
    ([client_frame(2, bytes(40_000), final=False), client_frame(0, bytes(40_000))], 1009),
    ([client_frame(1, b"\xff")], 1007),
    ([client_frame(8, b"\x03")], 1002),
    ([client_frame(8, (999).to_bytes(2, "big"))], 1002),
    ([client_frame(8, (1005).to_bytes(2, "big"))], 1002),
    ([client_frame(8, (5000).to_bytes(2, "big"))], 1002),
    ([client_frame(8, (1000).to_bytes(2, "big") + b"\xff")], 1007)])
def test_what_is_no_message_is_refused(came: list[bytes], code: int) -> None:
    fragments = Fragments(MOST)
    for data in came[:-1]:
        assert fragments.add(*read(data)) is None
    with pytest.raises(Refused) as caught:
        fragments.add(*read(came[-1]))
    assert caught.value.code == code


def test_a_close_is_read_with_its_code_and_reason() -> None:
    fragments = Fragments(MOST)
    payload = frames.close_payload(4001, "später".encode())
    assert fragments.add(*read(client_frame(8, payload))) == WSMessage(WSMsgType.CLOSE, 4001, "später")
    assert fragments.add(*read(client_frame(8, b""))) == WSMessage(WSMsgType.CLOSE, 0, "")
    assert len(frames.close_payload(1000, b"x" * 500)) == frames.CONTROL_BYTES
