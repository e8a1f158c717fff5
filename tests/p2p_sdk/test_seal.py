"""The sealed frames: what was sent next opens, and nothing else does, whoever held the line."""

from __future__ import annotations

import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from hypersend_client.sdk import p2p_seal
from hypersend_client.sdk.p2p_seal import (
    FRAME_BYTES,
    FRAME_OVERHEAD,
    Cipher,
    Handshake,
    Opener,
    Sealer,
    cipher_of_machine,
    decode_key,
    encode_key,
    safety_number,
)
from hypersend_client.sdk.transfer_errors import KeyMissing, Tampered
from hypersend_server.p2p.wire import MAX_BINARY_BYTES

ASHA, BEN, MALLORY = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))


def public(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def ends(
    *, sender: dict[str, Any] | None = None, receiver: dict[str, Any] | None = None, offset: int = 0,
    told_offset: int | None = None,
) -> tuple[tuple[Sealer, Opener], tuple[Sealer, Opener]]:
    """Both ends of a round. sender, receiver: what one of them sees otherwise."""
    common: dict[str, Any] = {"transfer_id": "t", "round_": 1, "cipher": "aes-256-gcm"}
    one = Handshake("sender", ASHA, **{"peer": public(BEN), **common, **(sender or {})})
    two = Handshake("receiver", BEN, **{"peer": public(ASHA), **common, **(receiver or {})})
    return (one.finish(two.key, two.cipher, offset if told_offset is None else told_offset),
            two.finish(one.key, one.cipher, offset))


def test_both_directions_open_what_the_other_sealed() -> None:
    (sender, from_receiver), (receiver, from_sender) = ends(offset=100)
    assert from_sender.open(sender.data(100, b"hello")) == b"hello"
    assert from_sender.open(sender.control({"kind": "end", "size": 105})) == {"kind": "end", "size": 105}
    assert from_sender.open(sender.data(105, b"x" * 65_536)) == b"x" * 65_536
    assert from_sender.offset == 105 + 65_536
    assert from_receiver.open(receiver.control({"kind": "got"})) == {"kind": "got"}


@pytest.mark.parametrize("has_into", [True, False], ids=["in place", "as older libraries do it"])
@pytest.mark.parametrize("cipher", ["aes-256-gcm", "chacha20-poly1305"])
@pytest.mark.parametrize("size", [1, 65_536, 65_537, 200_000])
def test_batch_is_the_same_frames_behind_their_headers_and_opens_into_one_place(
    monkeypatch: pytest.MonkeyPatch, size: int, cipher: Cipher, has_into: bool
) -> None:
    monkeypatch.setattr(p2p_seal, "HAS_INTO", has_into and p2p_seal.HAS_INTO)
    (sender, _), (_, opener) = ends(sender={"cipher": cipher}, offset=7)
    data = memoryview(os.urandom(size))
    buffer, opened = memoryview(bytearray(size + 4096)), memoryview(bytearray(size))
    places = sender.batch_into(buffer, 7, data, lambda size: size.to_bytes(5, "big"))
    begin = at = 0
    for end in places:
        frame = buffer[begin + 5 : end]
        assert int.from_bytes(buffer[begin : begin + 5], "big") == len(frame)
        there = at + len(frame) - FRAME_OVERHEAD
        assert opener.open_into(opened[at:there], frame) is None
        begin, at = end, there
    assert (opened, at) == (data, size)
    assert opener.open(sender.control({"kind": "end"})) == {"kind": "end"}
    assert opener.open(sender.data(7 + size, b"more")) == b"more"


def test_largest_frame_is_one_that_the_relay_passes_on() -> None:
    (sender, _), _ = ends()
    assert len(sender.data(0, b"x" * 65_536)) == FRAME_BYTES <= MAX_BINARY_BYTES


@pytest.mark.parametrize("cipher", ["aes-256-gcm", "chacha20-poly1305"])
@pytest.mark.parametrize("whose", ["sender", "receiver"])
def test_either_side_may_ask_for_the_cipher_without_aes(whose: str, cipher: Cipher) -> None:
    (sender, _), (_, opener) = ends(**{whose: {"cipher": cipher}})
    kind = "ChaCha20Poly1305" if cipher.startswith("chacha") else "AESGCM"
    assert type(sender._aead).__name__ == kind
    assert opener.open(sender.data(0, b"hello")) == b"hello"


@pytest.mark.parametrize("seen", [
    {"sender": {"transfer_id": "other"}}, {"sender": {"round_": 2}}, {"sender": {"way": "direct"}},
    {"sender": {"peer": public(MALLORY)}}, {"receiver": {"peer": public(MALLORY)}}, {"told_offset": 5}])
def test_ends_that_see_different_things_understand_nothing(seen: dict[str, Any]) -> None:
    (sender, _), (_, opener) = ends(**seen)
    with pytest.raises(Tampered):
        opener.open(sender.data(0, b"hello"))


def test_cipher_that_somebody_changed_on_the_way_is_noticed() -> None:
    one = Handshake("sender", ASHA, public(BEN), transfer_id="t", round_=1, cipher="aes-256-gcm")
    two = Handshake("receiver", BEN, public(ASHA), transfer_id="t", round_=1, cipher="aes-256-gcm")
    sealer, _ = one.finish(two.key, "chacha20-poly1305", 0)
    _, opener = two.finish(one.key, "chacha20-poly1305", 0)
    with pytest.raises(Tampered):
        opener.open(sealer.data(0, b"hello"))


def test_relay_with_ephemeral_keys_of_its_own_reads_nothing() -> None:
    """It knows both public keys, and puts its own ephemeral ones between."""
    one = Handshake("sender", ASHA, public(BEN), transfer_id="t", round_=1, cipher="aes-256-gcm")
    middle = Handshake("receiver", MALLORY, public(ASHA), transfer_id="t", round_=1, cipher="aes-256-gcm")
    sealer, opener = one.finish(middle.key, "aes-256-gcm", 0)
    its_sealer, its_opener = middle.finish(one.key, "aes-256-gcm", 0)
    with pytest.raises(Tampered):
        its_opener.open(sealer.data(0, b"secret"))
    with pytest.raises(Tampered):
        opener.open(its_sealer.control({"kind": "got"}))


def test_frames_of_a_round_open_in_no_other() -> None:
    (sender, _), _ = ends()
    frame = sender.data(0, b"hello")
    _, (_, opener) = ends()
    with pytest.raises(Tampered):
        opener.open(frame)


def test_frame_does_not_open_where_it_came_from() -> None:
    (sender, from_receiver), _ = ends()
    with pytest.raises(Tampered):
        from_receiver.open(sender.data(0, b"hello"))


def test_honest_sender_in_the_wrong_place_is_refused() -> None:
    (sender, _), (_, opener) = ends()
    with pytest.raises(Tampered):
        opener.open(sender.data(1, b"hello"))


def test_nothing_opens_after_an_error() -> None:
    (sender, _), (_, opener) = ends()
    frame = sender.data(0, b"hello")
    with pytest.raises(Tampered):
        opener.open(b"\x00" * 40)
    with pytest.raises(Tampered):
        opener.open(frame)


SIZES = st.lists(st.integers(1, 300), min_size=2, max_size=6)


@given(sizes=SIZES, attack=st.data())
@settings(max_examples=200)
def test_whatever_a_relay_does_to_the_frames_only_an_untouched_beginning_opens(
    sizes: list[int], attack: st.DataObject
) -> None:
    (sender, _), (_, opener) = ends()
    frames, offset = [], 0
    for size in sizes:
        frames.append(sender.data(offset, bytes([size % 256]) * size))
        offset += size
    sent = list(frames)
    kind = attack.draw(st.sampled_from(["flip", "cut", "drop", "repeat", "swap", "grow"]))
    at = attack.draw(st.integers(0, len(frames) - 2))
    match kind:
        case "flip":
            place = attack.draw(st.integers(0, len(frames[at]) - 1))
            changed = bytearray(frames[at])
            changed[place] ^= 1 << attack.draw(st.integers(0, 7))
            frames[at] = bytes(changed)
        case "cut":
            frames[at] = frames[at][: attack.draw(st.integers(0, len(frames[at]) - 1))]
        case "drop":
            del frames[at]
        case "repeat":
            frames.insert(at + 1, frames[at])
        case "swap":
            frames[at], frames[at + 1] = frames[at + 1], frames[at]
        case "grow":
            frames[at] += b"\x00"
    opened = 0
    with pytest.raises(Tampered):
        for frame in frames:
            opener.open(frame)
            opened += 1
    assert frames[:opened] == sent[:opened]


@given(frame=st.binary(max_size=200))
def test_any_bytes_at_all_are_refused_as_tampered(frame: bytes) -> None:
    _, (_, opener) = ends()
    with pytest.raises(Tampered):
        opener.open(frame)


@given(text=st.text(max_size=60) | st.none())
def test_what_is_no_key_is_refused(text: str | None) -> None:
    try:
        assert len(decode_key(text)) == 32
    except (KeyMissing, Tampered):
        pass


def test_points_that_everybody_shares_a_secret_with_are_refused() -> None:
    one = Handshake("sender", ASHA, public(BEN), transfer_id="t", round_=1, cipher="aes-256-gcm")
    with pytest.raises(Tampered):
        one.finish(encode_key(bytes(32)), "aes-256-gcm", 0)


def test_safety_number_is_the_same_on_both_sides_and_another_for_another_key() -> None:
    number = safety_number(public(ASHA), public(BEN))
    assert number == safety_number(public(BEN), public(ASHA))
    assert number == "13453 75095 32312 71457 93639 65140"  # must never change: people have compared it
    assert number != safety_number(public(ASHA), public(MALLORY))
    assert [len(group) for group in number.split(" ")] == [5] * 6


@pytest.mark.parametrize(("cpuinfo", "cipher"), [
    ("processor\t: 0\nflags\t\t: fpu aes avx", "aes-256-gcm"), ("flags : fpu avx", "chacha20-poly1305"),
    ("Features\t: fp asimd aes pmull", "aes-256-gcm"), ("Features\t: half thumb", "chacha20-poly1305"),
    ("", "aes-256-gcm")])
def test_cipher_is_the_one_that_is_fast_on_this_machine(cpuinfo: str, cipher: str) -> None:
    assert cipher_of_machine(cpuinfo) == cipher
