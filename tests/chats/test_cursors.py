"""Cursors and tokens: what was given out comes back, anything else is refused in one way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.chats import cursors
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.chats import ChatPosition, SyncPosition
from hypersend_server.signer import b64

READERS: list[Callable[[str], object]] = [
    cursors.chat_position,
    cursors.user_position,
    cursors.number_position,
    lambda text: cursors.sync_position(text, "me"),
]


def test_positions_come_back() -> None:
    for position in (SyncPosition("e", "me", 7), SyncPosition("e", "me", 7, 3, 9, ("c1", "c2"))):
        assert cursors.sync_position(cursors.encode(position), "me") == position
    assert cursors.chat_position(cursors.encode(ChatPosition(True, 5, "c"))) == ChatPosition(True, 5, "c")
    assert cursors.number_position(cursors.encode(12)) == 12
    assert cursors.user_position(cursors.encode("u")) == "u"
    assert cursors.user_position(None) == ""
    assert cursors.chat_position(None) is None
    assert cursors.number_position(None) is None
    assert cursors.sync_position(None, "me") == SyncPosition("", "me", 0)


@pytest.mark.parametrize(
    "position",
    [
        SyncPosition("e", "you", 7),
        SyncPosition("e", "me", -1),
        SyncPosition("e", "me", 2**60),
        SyncPosition("e", "me", 7, 8, 9),
        SyncPosition("e", "me", 7, 3, 6),
        SyncPosition("e", "me", 7, 3, 0),
    ],
)
def test_positions_that_cannot_be_are_refused(position: SyncPosition) -> None:
    with pytest.raises(HyperSendError, match="cursor_invalid"):
        cursors.sync_position(cursors.encode(position), "me")


@given(st.one_of(st.text(), st.binary(max_size=80).map(b64)), st.sampled_from(READERS))
def test_whatever_comes_is_read_or_refused(text: str, read: Callable[[str], object]) -> None:
    try:
        read(text)
    except HyperSendError as refusal:
        code = refusal.code
    else:
        code = "cursor_invalid"
    assert code == "cursor_invalid"
