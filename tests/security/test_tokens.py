"""Every kind of token in the place of every other: each opens its own door and no other."""

from __future__ import annotations

from hypersend_server.clock import system_clock
from hypersend_server.p2p.edge import Pass
from hypersend_server.signer import Signer
from tests.security.doors import KINDS, Doors

# A door that takes two kinds of key: uploading, by who is signed in and by who was given a link for it.
ALSO = {("upload ticket", "access")}


async def test_no_token_opens_the_door_of_another(doors: Doors) -> None:
    assert set(doors.tokens) == set(KINDS)
    opened = {(door, kind) for door in KINDS for kind in KINDS
              if door != kind and await doors.opens(door, doors.tokens[kind])}
    assert opened == ALSO
    # All are genuine, and were all the time: each opens its own.
    assert [kind for kind in KINDS if not await doors.opens(kind, doors.tokens[kind])] == []


async def test_what_a_door_seals_is_no_key_to_it(doors: Doors) -> None:
    """Signatures of one purpose under the key of another: `signer.py` derives a key for each."""
    purposes = ("picture", "relay", "web ticket", "web renewal", "upload", "download", "cursor")
    payload = Pass(doors.transfer_id, "sender", doors.asha.session["session_id"], system_clock() // 1000 + 60)
    opened = [purpose for purpose in purposes if await doors.opens("pass", Signer("k" * 40, purpose).seal(payload))]
    assert opened == ["relay"]
