"""Events reach those they concern; a slow reader costs bounded memory and nobody else's time."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypersend_server.realtime import connection as connection_module
from hypersend_server.realtime import wire
from hypersend_server.realtime.connection import (
    BATCH_BYTES,
    MAX_QUEUED_BYTES,
    MAX_QUEUED_FRAMES,
    close_frame,
    pong_frame,
    text_frame,
)
from hypersend_server.realtime.events import ChatChanged, ChatGone, Frame, Resync
from tests.realtime.serving import Raw, Serving, serving


async def test_an_event_reaches_all_devices_of_those_concerned() -> None:
    async with serving() as server:
        phone, laptop = await server.sign_in("alice", "phone"), await server.sign_in("alice", "laptop")
        bob, carol = await server.sign_in("bob"), await server.sign_in("carol")
        server.bus.publish(Frame(["alice", "bob", "not-connected"], wire.message({"id": "m"})))
        for concerned in (phone, laptop, bob):
            assert await concerned.receive() == {"type": "message", "message": {"id": "m"}}
        await carol.send(type="ping")
        assert await carol.receive() == {"type": "pong"}


async def test_the_session_that_knows_already_is_left_out() -> None:
    async with serving() as server:
        phone, laptop = await server.sign_in("alice", "phone"), await server.sign_in("alice", "laptop")
        server.bus.publish(Frame(["alice"], wire.chat_gone("one"), except_session="phone"))
        server.bus.publish(Frame(["alice"], wire.chat_gone("two")))
        assert [(await laptop.receive())["chat_id"] for _ in range(2)] == ["one", "two"]
        assert (await phone.receive())["chat_id"] == "two"


async def test_events_keep_their_order() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        for n in range(3000):
            server.bus.publish(Frame(["alice"], wire.read("c", "bob", n)))
            if n % 100 == 0:
                await asyncio.sleep(0)
        assert [(await alice.receive())["seq"] for _ in range(3000)] == list(range(3000))


async def test_a_changed_chat_is_shown_to_each_as_they_see_it() -> None:
    async with serving() as server:
        server.chats.update({("c", "alice"): {"title": "Bob"}, ("c", "bob"): b'{"title":"Alice"}'})
        alice, bob, carol = [await server.sign_in(name) for name in ("alice", "bob", "carol")]
        server.bus.publish(ChatChanged("c", ["alice", "bob", "carol", "not-connected"]))
        assert await alice.receive() == {"type": "chat", "chat": {"title": "Bob"}}
        assert await bob.receive() == {"type": "chat", "chat": {"title": "Alice"}}
        assert ("c", "not-connected") not in server.rendered
        await carol.send(type="ping")
        assert (await carol.receive())["type"] == "pong"  # no access: nothing is shown


async def test_changes_that_follow_quickly_are_rendered_once() -> None:
    async with serving() as server:
        server.chats[("c", "alice")] = {"title": "Tea"}
        alice = await server.sign_in("alice")
        for _ in range(100):
            server.bus.publish(ChatChanged("c", ["alice"]))
        assert (await alice.receive())["type"] == "chat"
        await alice.call(type="ping")
        assert len(server.rendered) <= 2


async def test_a_chat_that_cannot_be_rendered_makes_clients_sync() -> None:
    async with serving() as server:
        server.chats[("c", "alice")] = OSError("the disk is gone")
        alice = await server.sign_in("alice")
        server.bus.publish(ChatChanged("c", ["alice"]))
        assert await alice.receive() == {"type": "resync"}
        server.chats[("c", "alice")] = {"title": "Tea"}
        server.bus.publish(ChatChanged("c", ["alice"]))
        assert (await alice.receive())["type"] == "chat"


async def test_gone_and_resync_are_told() -> None:
    async with serving() as server:
        alice, bob = await server.sign_in("alice"), await server.sign_in("bob")
        server.bus.publish(ChatGone("c", ["alice"]))
        server.bus.publish(Resync())
        assert await alice.receive() == {"type": "chat.gone", "chat_id": "c"}
        assert await alice.receive() == {"type": "resync"}
        assert await bob.receive() == {"type": "resync"}


# Slow readers


def held(server: Serving, user_id: str) -> int:
    """Bytes that the process holds for this person's socket: its queue and its transport's buffer."""
    (connection,) = server.hub._by_user[user_id]
    return connection._queued_bytes + connection._transport.get_write_buffer_size()


async def flood(server: Serving, user_ids: list[str], frame: bytes, until_gone: str) -> int:
    """Publish until this person has no open socket; the most bytes held for them."""
    most = 0
    (connection,) = server.hub._by_user[until_gone]
    while connection.close_code is None:
        most = max(most, held(server, until_gone))
        server.bus.publish(Frame(user_ids, frame))
        await asyncio.sleep(0)
    assert connection.close_code == wire.TOO_SLOW
    return most


async def read_all(raw: Raw, arrived: list[float]) -> None:
    while True:
        opcode, _ = await raw.read_frame()
        if opcode == 1:
            arrived.append(time.perf_counter())


async def test_a_client_that_never_reads_costs_bounded_memory_and_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "CLOSE_TIMEOUT_S", 0.5)
    async with serving() as server:
        await server.raw("stuck", receive_buffer=4096)
        frame = wire.message(b'"%b"' % (b"x" * 50_000))
        most = await flood(server, ["stuck"], frame, "stuck")
        assert MAX_QUEUED_BYTES - 200_000 < most < MAX_QUEUED_BYTES + 2 * BATCH_BYTES
        # It never answers the close frame either; the connection is cut, and all it held is given back.
        async with asyncio.timeout(3):
            while server.hub.sockets:
                await asyncio.sleep(0.05)


async def test_a_client_that_sends_and_never_reads_is_cut_too() -> None:
    async with serving() as server:
        stuck = await server.raw("stuck", receive_buffer=4096)
        text = b'{"type":"message.send","ref":"1","chat_id":"c","client_id":"1","text":"hi"}'
        (connection,) = server.hub._by_user["stuck"]
        async with asyncio.timeout(30):
            while connection.close_code is None:
                stuck.write_frame(text, times=500)
                await asyncio.sleep(0)
        assert connection.close_code == wire.TOO_SLOW
        stuck.drop()


async def test_a_slow_reader_gets_4008_and_others_are_not_delayed() -> None:
    async with serving() as server:
        slow, quick = await server.raw("slow", receive_buffer=4096), await server.raw("quick")
        arrived: list[float] = []
        reading = asyncio.create_task(read_all(quick, arrived))
        (connection,) = server.hub._by_user["slow"]
        delays = []
        while connection.close_code is None:
            before = len(arrived)
            sent = time.perf_counter()
            server.bus.publish(Frame(["slow", "quick"], wire.message(b'"%b"' % (b"x" * 30_000))))
            while len(arrived) == before:
                await asyncio.sleep(0)
            delays.append(arrived[-1] - sent)
        assert sorted(delays)[len(delays) // 2] < 0.05
        assert server.hub.connected("quick")
        # When it reads at last, it finds whole frames up to the code that tells it to come again and sync.
        assert await slow.close_code() == wire.TOO_SLOW
        reading.cancel()


async def test_many_small_frames_are_bounded_by_their_number() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        for n in range(MAX_QUEUED_FRAMES):  # in one turn of the loop: nothing can be written in between
            server.bus.publish(Frame(["alice"], wire.read("c", "b", n)))
        for _ in range(MAX_QUEUED_FRAMES):
            assert (await alice.receive())["type"] == "read"
        for n in range(MAX_QUEUED_FRAMES + 1):
            server.bus.publish(Frame(["alice"], wire.read("c", "b", n)))
        assert await alice.close_code() == wire.TOO_SLOW


async def test_a_reader_that_pauses_gets_everything_in_order() -> None:
    async with serving() as server:
        raw = await server.raw("alice", receive_buffer=4096)
        (connection,) = server.hub._by_user["alice"]
        sent = 0
        while connection._queued_bytes < MAX_QUEUED_BYTES // 2:
            body = b'{"n":%d,"x":"%b"}' % (sent, b"x" * (sent % 7000))
            server.bus.publish(Frame(["alice"], wire.message(body)))
            sent += 1
            await asyncio.sleep(0)
        for n in range(sent):
            opcode, payload = await raw.read_frame()
            assert opcode == 1
            assert json.loads(payload)["message"]["n"] == n
        server.bus.publish(Frame(["alice"], wire.RESYNC))
        assert await raw.read_frame() == (1, wire.RESYNC)
        raw.drop()


# Frames on the wire


@given(st.binary(max_size=300) | st.sampled_from([125, 126, 127, 65535, 65536, 70_000]).map(bytes))
def test_a_text_frame_is_what_a_reader_expects(payload: bytes) -> None:
    async def read() -> tuple[int, bytes]:
        reader = asyncio.StreamReader(limit=2**20)
        reader.feed_data(text_frame(payload))
        reader.feed_eof()
        frame = await Raw(reader, None).read_frame()  # type: ignore[arg-type]
        assert reader.at_eof()
        return frame

    assert asyncio.run(read()) == (1, payload)


def test_control_frames_stay_within_125_bytes() -> None:
    assert close_frame(4500, "x" * 500)[:4] == b"\x88\x7a\x11\x94"
    assert len(close_frame(4500, "ü" * 500)) <= 127
    close_frame(4500, "ü" * 61)[4:].decode()
    assert pong_frame(b"x" * 125) == b"\x8a\x7d" + b"x" * 125
