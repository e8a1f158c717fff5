"""What a relay says in the clear may be any JSON at all: an end goes on, or ends with an error of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.sdk.errors import HyperSendError
from hypersend_client.sdk.journal import Identity
from hypersend_client.sdk.p2p_calls import PeerTransfer
from hypersend_client.sdk.p2p_journal import PeerRow
from hypersend_client.sdk.p2p_receiver import PeerReceiver
from hypersend_client.sdk.p2p_seal import decode_key, encode_key
from hypersend_client.sdk.p2p_sender import PeerSender
from hypersend_client.sdk.retry import Backoff
from hypersend_client.sdk.transfer_errors import KeyMissing, Tampered

ASHA, BEN = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
KEYS = [encode_key(key.public_key().public_bytes_raw()) for key in (ASHA, BEN)]
SIZE = 1000

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50) | st.sampled_from([*KEYS, "0" * 43]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
rounds = st.integers(0, 3) | values
frames = st.fixed_dictionaries(
    {"type": st.sampled_from(["joined", "peer", "hello", "ready", "ack", "done", "fail", "cancel", "signal"])},
    optional={
        "present": st.just(True) | values, "round": rounds, "key": st.sampled_from(KEYS) | values,
        "offset": st.integers(-1, SIZE + 1) | values, "cipher": values, "code": values, "data": values}) | values


class _Sender(PeerSender):
    async def _meet(self, *arguments: Any) -> None:
        pass


class _Receiver(PeerReceiver):
    async def _meet(self, *arguments: Any) -> None:
        pass


def end_of(role: str, pool: ThreadPoolExecutor) -> PeerSender | PeerReceiver:
    """One that is not connected: what it says gets nowhere."""
    info = PeerTransfer(
        "t", "c", "a.txt", SIZE, "accepted", sender_id="a", sender_key=KEYS[0], receiver_id="b", receiver_key=KEYS[1])
    nothing: Any = None
    options: dict[str, Any] = {
        "account": ("s", "a"), "calls": nothing, "transport": nothing, "session": nothing, "connection": nothing,
        "journal": nothing, "endings": nothing, "pool": pool, "turn": asyncio.Semaphore(), "limits": (),
        "backoff": Backoff}
    if role == "sender":
        own = PeerRow("k", "sender", "c", "", "a.txt", Identity(SIZE, 0, 0), "t", "a.txt")
        return _Sender(own, info, ASHA, **options)
    row = PeerRow("t", "receiver", "c", "", "a.txt", Identity(0, 0, 0), "t")
    return _Receiver(row, info, BEN, server_id="s", stored=nothing, **options)


@pytest.mark.parametrize("role", ["sender", "receiver"])
@given(said=st.lists(frames, max_size=6))
def test_any_control_frame_is_taken_or_refused_with_an_error_of_ours(role: str, said: list[Any]) -> None:
    async def hear() -> None:
        with ThreadPoolExecutor(1) as pool:
            end = end_of(role, pool)
            for frame in said:
                with contextlib.suppress(HyperSendError):
                    await end._text(json.dumps(frame))

    asyncio.run(hear())


HUGE = '{"type":"peer","present":true,"round":' + "9" * 5000 + "}"


@given(st.text(max_size=200) | st.sampled_from(["[" * 100_000, HUGE]))
def test_what_is_no_json_is_refused(text: str) -> None:
    async def hear() -> None:
        with ThreadPoolExecutor(1) as pool, contextlib.suppress(HyperSendError):
            await end_of("sender", pool)._text(text)

    asyncio.run(hear())


@given(values)
def test_key_of_any_type_is_a_key_or_refused(value: Any) -> None:
    try:
        assert len(decode_key(value)) == 32
    except (Tampered, KeyMissing):
        pass


@pytest.mark.parametrize("key", [5, 1.5, True, ["x"], {"x": 1}])
async def test_key_of_another_type_is_tampered(key: Any) -> None:
    with pytest.raises(Tampered):
        decode_key(key)
    with ThreadPoolExecutor(1) as pool:
        end = end_of("sender", pool)
        with contextlib.suppress(HyperSendError):  # nobody hears its own greeting
            await end._text('{"type": "peer", "present": true, "round": 1}')
        with pytest.raises(Tampered):
            await end._text(json.dumps({"type": "ready", "round": 1, "key": key, "offset": 0}))
