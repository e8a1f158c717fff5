"""WebSocket frames of a server: taken apart the same however they come, and refused where RFC 6455 says so."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.sdk import p2p_frames
from hypersend_client.sdk.p2p_frames import BadFrame, Closed, FrameReader, Message, Ping, masked_frame, sealed_header

MOST = 70_000


def frame(kind: int, payload: bytes, *, first: int = 0x80, mask: int = 0) -> bytes:
    """As a server sends it. first: FIN and reserved bits."""
    size = len(payload)
    if size < 126:
        length = bytes([mask | size])
    elif size < 65_536:
        length = bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([mask | 127]) + size.to_bytes(8, "big")
    return bytes([first | kind]) + length + payload


def fragments(kind: int, payload: bytes, cuts: list[int], between: bytes = b"") -> bytes:
    """A message in pieces. between: frames after each piece but the last."""
    places = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    pieces = [payload[begin:end] for begin, end in itertools.pairwise(places)]
    found = b""
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        found += frame(kind if number == 0 else 0, piece, first=0x80 if is_last else 0) + (b"" if is_last else between)
    return found


def plain(message: Message) -> object:
    return bytes(message) if isinstance(message, memoryview) else message


def read(data: bytes, sizes: list[int]) -> tuple[list[object], int | None]:
    """What is found where it comes in pieces of these sizes, over and over: (messages, code of the error)."""
    reader, found = FrameReader(MOST), list[object]()
    buffer, at, needed, number = bytearray(), 0, 0, 0
    while True:
        if len(buffer) >= needed:
            try:
                messages, used, needed = reader.take(memoryview(bytes(buffer)))
            except BadFrame as error:
                return found, error.code
            found += map(plain, messages)
            del buffer[:used]
            assert needed > len(buffer) or messages, "it would be asked again and again"
            if messages:
                continue
        if at == len(data):
            return found, None
        size = sizes[number % len(sizes)]
        buffer += data[at : at + size]
        at, number = min(len(data), at + size), number + 1


MESSAGES = st.one_of(
    st.binary(max_size=300).map(lambda data: (frame(2, data), [data])),
    st.sampled_from([125, 126, 65_535, 65_536]).map(lambda size: (frame(2, b"x" * size), [b"x" * size])),
    st.text(max_size=100).map(lambda text: (frame(1, text.encode()), [text])),
    st.binary(max_size=125).map(lambda data: (frame(9, data), [Ping(data)])),
    st.binary(max_size=125).map(lambda data: (frame(10, data), [])),
    st.tuples(st.binary(max_size=300), st.lists(st.integers(0, 300), min_size=1, max_size=4)).map(
        lambda drawn: (fragments(2, *drawn), [drawn[0]])),
    st.tuples(st.text(max_size=100), st.lists(st.integers(0, 300), min_size=1, max_size=1)).map(
        lambda drawn: (fragments(1, drawn[0].encode(), drawn[1], frame(9, b"p")), [Ping(b"p"), drawn[0]])),
)
SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=5) | st.just([200_000])


@given(messages=st.lists(MESSAGES, max_size=8), sizes=SIZES)
def test_messages_are_found_however_they_come(messages: list[tuple[bytes, list[object]]], sizes: list[int]) -> None:
    data = b"".join(message for message, _ in messages)
    assert read(data, sizes) == ([item for _, found in messages for item in found], None)


@given(messages=st.lists(MESSAGES, max_size=3), rest=st.binary(max_size=40), sizes=SIZES)
def test_noise_is_refused_or_waited_for_the_same_however_it_comes(
    messages: list[tuple[bytes, list[object]]], rest: bytes, sizes: list[int]
) -> None:
    data = b"".join(message for message, _ in messages) + rest
    assert read(data, sizes) == read(data, [len(data) or 1])


@pytest.mark.parametrize(("data", "code"), [
    (frame(3, b""), 1002),  # a kind that is none
    (frame(11, b""), 1002),
    (frame(2, b"x", first=0xC0), 1002),  # compressed, which was not agreed
    (frame(2, b"x", mask=0x80), 1002),
    (frame(0, b"x"), 1002),  # goes on with nothing
    (frame(1, b"a", first=0) + frame(1, b"b"), 1002),  # another message within one
    (frame(9, b"x", first=0), 1002),  # a ping in fragments
    (frame(9, b"x" * 126), 1002),
    (frame(2, b"")[:1] + bytes([127]) + b"\xff" * 8, 1009),
    (frame(2, b"")[:1] + bytes([127]) + (MOST + 1).to_bytes(8, "big"), 1009),  # before any of it is there
    (frame(2, b"x" * 40_000, first=0) + frame(0, b"x" * 40_000), 1009),
    (frame(1, b"\xff"), 1007),
    (frame(1, "ä".encode()[:1], first=0) + frame(0, b"x"), 1007),
    (frame(8, b"\x03"), 1002),
    (frame(8, (1005).to_bytes(2, "big")), 1002),  # never to be sent
    (frame(8, (999).to_bytes(2, "big")), 1002),
    (frame(8, (1000).to_bytes(2, "big") + b"\xff"), 1007),
])
@pytest.mark.parametrize("before", [b"", frame(2, b"whole")])
def test_what_rfc_6455_forbids_is_refused_and_what_came_before_it_is_not_lost(
    data: bytes, code: int, before: bytes
) -> None:
    assert read(before + data, [1_000_000]) == ([b"whole"] if before else [], code)


@pytest.mark.parametrize(("payload", "code"), [
    (b"", 1005), ((1000).to_bytes(2, "big"), 1000), ((4511).to_bytes(2, "big") + b"it is over", 4511)])
def test_nothing_is_read_after_the_server_closed(payload: bytes, code: int) -> None:
    reader = FrameReader(MOST)
    found, used, _ = reader.take(memoryview(frame(8, payload) + frame(2, b"late")))
    assert (found, used) == ([Closed(code)], len(frame(8, payload)))
    assert reader.take(memoryview(frame(2, b"late")))[0] == []


def test_a_binary_message_is_not_copied() -> None:
    buffer = bytearray(frame(2, b"sealed"))
    ((message,), _, _) = FrameReader(MOST).take(memoryview(buffer))
    buffer[-1] = ord("!")
    assert isinstance(message, memoryview)
    assert bytes(message) == b"seale!"


@given(text=st.text(max_size=300))
def test_text_is_masked_with_another_mask_each_time(text: str) -> None:
    payload = text.encode()
    one, other = (masked_frame(p2p_frames.TEXT, payload) for _ in range(2))
    head = 2 if len(payload) < 126 else 4
    for sent in (one, other):
        assert sent[0] == 0x81
        assert sent[1] & 0x80
        mask, masked = sent[head : head + 4], sent[head + 4 :]
        assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked)) == payload
    assert one[:head] == other[:head]


@pytest.mark.parametrize(("size", "header"), [
    (25, "829900000000"), (126, "82fe007e00000000"), (65_535, "82feffff00000000"),
    (65_561, "82ff000000000001001900000000")])
def test_header_of_a_sealed_frame_has_a_mask_of_zeros(size: int, header: str) -> None:
    assert sealed_header(size).hex() == header
