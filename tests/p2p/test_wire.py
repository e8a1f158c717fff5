"""The parser of control frames: nothing comes out of it but a frame or BadFrame."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.p2p import wire

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3), max_leaves=8)
FRAMES = st.fixed_dictionaries(
    {"type": st.sampled_from(["auth", "hello", "ready", "ack", "done", "fail", "cancel", "other"])},
    optional={name: VALUES for name in ("round", "key", "offset", "code", "data", "token", "more")})


@given(st.binary(max_size=300) | st.text(max_size=300) | FRAMES.map(json.dumps), st.sampled_from(wire.ROLES))
def test_anything_is_a_frame_or_a_bad_one(data: bytes | str, role: wire.Role) -> None:
    try:
        frame = wire.parse(data, role)
    except wire.BadFrame:
        return
    assert isinstance(frame, wire.Frame)


@given(st.integers(min_value=0, max_value=2**53 - 1))
def test_offsets_come_through(offset: int) -> None:
    assert wire.parse(json.dumps({"type": "ack", "offset": offset}), "receiver") == wire.Ack(offset=offset)


@pytest.mark.parametrize("data", ["[" * 10_000, '{"a":' * 5_000, "x" * 20_000])
def test_deep_and_long_ones_are_bad(data: str) -> None:
    with pytest.raises(wire.BadFrame):
        wire.parse(data, "sender")
