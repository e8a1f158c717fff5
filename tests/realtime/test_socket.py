"""Opening, signing in, commands and their answers, limits, bad input, and the ways a socket ends."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import aiohttp
import pytest

from hypersend_server.clock import system_clock
from hypersend_server.limits import NoLimits
from hypersend_server.realtime import wire
from hypersend_server.realtime.events import Frame, SessionsEnded
from hypersend_server.realtime.hub import MAX_USER_SOCKETS
from hypersend_server.realtime.socket import MAX_IN_FLIGHT, PATH, SocketEdge
from hypersend_server.realtime.unknown import MAX_UNKNOWN
from tests.realtime.serving import serving

# Opening and signing in


async def test_header_signs_in_and_ready_comes_first() -> None:
    async with serving() as server:
        alice = await server.open("alice/phone")
        ready = await alice.receive()
        assert ready.pop("server_time").endswith("Z")
        assert ready == {"type": "ready", "session_id": "phone", "user_id": "alice", "epoch": "epoch-1"}
        assert server.hub.connected("alice")


async def test_first_frame_signs_in_where_no_header_can_be_set() -> None:
    async with serving() as server:
        browser = await server.open(None)
        await browser.send(type="auth", token="alice/web", ref="a")
        assert (await browser.receive())["user_id"] == "alice"
        assert await browser.receive() == {"type": "ack", "ref": "a", "data": None}


async def test_a_socket_that_never_signs_in_is_closed() -> None:
    async with serving(auth_timeout_s=0.1) as server:
        assert await (await server.open(None)).close_code() == wire.NOT_ALLOWED


@pytest.mark.parametrize(("first", "code"), [
    ('{"type":"ping"}', wire.NOT_ALLOWED),
    ('{"type":"auth"}', wire.NOT_ALLOWED),
    ('{"type":"poll"}', wire.NOT_ALLOWED),
    ("hello", wire.BAD_FRAME),
    ('{"type":"auth","token":"nobody"}', wire.NOT_ALLOWED),
])
async def test_anything_else_first_is_closed(first: str, code: int) -> None:
    async with serving() as server:
        opened = await server.open(None)
        await opened.raw.send_str(first)
        assert await opened.close_code() == code
        assert not server.hub.connected("alice")


@pytest.mark.parametrize(("refusal", "code"), [
    ("token_expired", wire.TOKEN_EXPIRED), ("session_ended", wire.SESSION_ENDED),
    ("token_invalid", wire.NOT_ALLOWED), ("account_disabled", wire.NOT_ALLOWED),
    ("rate_limited", wire.TOO_MANY), ("metadata_unavailable", wire.SERVER_FAILED),
])
async def test_close_code_says_what_a_client_should_do(refusal: str, code: int) -> None:
    async with serving() as server:
        server.sessions.refused["alice/phone"] = refusal
        assert await (await server.open("alice/phone")).close_code() == code


async def test_a_fault_while_signing_in_closes_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        opened = await server.open(None)
        await opened.send(type="auth", token="boom")
        assert await opened.close_code() == wire.SERVER_FAILED
        assert "a fault in the authenticator" in caplog.text


async def test_a_session_that_ends_while_its_socket_opens_gets_no_further() -> None:
    """It ends after the first look at the token and before the hub knows the socket."""
    async with serving() as server:
        def end() -> None:
            server.sessions.refused["alice/phone"] = "session_ended"

        server.sessions.before_answer = end
        assert await (await server.open("alice/phone")).close_code() == wire.SESSION_ENDED


async def test_a_header_other_than_bearer_is_refused() -> None:
    async with serving() as server:
        opened = await server.open(None, Authorization="Basic YTpi")
        assert await opened.close_code() == wire.NOT_ALLOWED


async def refused_handshake(server: Any, path: str = PATH, **headers: str) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await server.http.ws_connect(f"ws://127.0.0.1:{server.port}{path}", headers=headers)
    return refused.value.status


async def test_pages_of_other_origins_are_refused() -> None:
    async with serving(origins=["https://chat.example.org/app", ""]) as server:
        own = f"http://127.0.0.1:{server.port}"
        for origin in (own, own.replace("http", "https"), "https://chat.example.org", "HTTPS://Chat.Example.org"):
            await (await server.open("alice/web", Origin=origin)).until("ready")
        for origin in ("https://evil.example", "null", "http://[", "", "http://chat.example.org",
                       "https://chat.example.org.evil.example"):
            assert await refused_handshake(server, Origin=origin) == 403, origin


async def test_unknown_query_keys_and_plain_requests_are_refused() -> None:
    async with serving() as server:
        assert await refused_handshake(server, PATH + "?token=secret") == 422
        async with server.http.get(f"http://127.0.0.1:{server.port}{PATH}") as answer:
            assert answer.status == 400


async def test_every_frame_type_must_have_a_command() -> None:
    async with serving() as server:
        with pytest.raises(ValueError, match=r"no command for .*MessageSend"):
            SocketEdge(server.hub, server.presence, server.sessions, {}, epoch="", origins=(),
                       limits=NoLimits(), clock=system_clock)


# Frames and their answers


async def test_ping_is_answered_with_pong_and_with_ack_where_asked() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        await alice.send(type="ping")
        assert await alice.receive() == {"type": "pong"}
        await alice.send(type="ping", ref="1")
        assert [await alice.receive(), await alice.receive()] == [
            {"type": "pong"}, {"type": "ack", "ref": "1", "data": None}]


async def test_a_test_leaves_no_socket_of_its_own_open() -> None:
    """The garbage collector would complain of some of them, in whatever test comes next."""
    async with serving() as server:
        alice = await server.sign_in("alice")
    assert alice.raw.closed


async def test_success_without_ref_is_silent_and_failure_is_not() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        await alice.send(type="typing", chat_id="c")
        await alice.send(type="typing", chat_id="hidden")
        error = await alice.receive()
        assert (error["type"], error["ref"], error["code"]) == ("error", None, "not_found")


async def test_a_refused_frame_leaves_the_socket_open() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        assert (await alice.call(type="typing", ref="1"))["code"] == "validation_failed"
        assert (await alice.call(type="poll.vote", ref="2"))["code"] == "frame_invalid"
        assert (await alice.call(type="auth", ref="3", token="alice/phone"))["code"] == "frame_invalid"
        assert (await alice.call(type="typing", ref="4", chat_id="c"))["type"] == "ack"


async def test_a_fault_in_a_command_is_internal_and_logged_and_the_socket_stays(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        error = await alice.call(type="typing", chat_id="boom", ref="1")
        assert (error["code"], error["retryable"]) == ("internal", True)
        assert "a fault" not in json.dumps(error)
        assert "a fault in a command" in caplog.text
        assert (await alice.call(type="typing", chat_id="c"))["type"] == "ack"


async def test_sends_start_in_order_without_waiting_for_each_other() -> None:
    async with serving() as server:
        server.commands.gate.clear()
        alice = await server.sign_in("alice")
        names = [f"c-{n}" for n in range(MAX_IN_FLIGHT - 1)]
        for name in names:
            await alice.send(type="message.send", ref=name, chat_id="c", client_id=name, text="hi")
        async with asyncio.timeout(5):
            while len(server.commands.started) < len(names):
                await asyncio.sleep(0.01)
        server.commands.gate.set()
        acks = [await alice.receive() for _ in names]
        assert server.commands.started == names
        assert [ack["ref"] for ack in acks] == names
        assert acks[0]["data"] == {"client_id": "c-0", "sender_id": "alice"}


async def test_frames_past_those_in_flight_wait_unread() -> None:
    async with serving() as server:
        server.commands.gate.clear()
        alice = await server.sign_in("alice")
        for n in range(3 * MAX_IN_FLIGHT):
            await alice.send(type="message.send", ref=str(n), chat_id="c", client_id=str(n), text="hi")
        bob = await server.sign_in("bob")
        await bob.call(type="ping")  # others go on
        assert len(server.commands.started) == MAX_IN_FLIGHT
        server.commands.gate.set()
        for n in range(3 * MAX_IN_FLIGHT):
            assert (await alice.receive())["ref"] == str(n)
        assert server.commands.most_at_once == MAX_IN_FLIGHT


async def test_a_command_goes_on_after_its_socket_is_gone() -> None:
    async with serving() as server:
        server.commands.gate.clear()
        alice = await server.raw("alice")
        alice.write_frame(b'{"type":"message.send","ref":"1","chat_id":"c","client_id":"1","text":"hi"}')
        while not server.commands.started:
            await asyncio.sleep(0.01)
        alice.drop()
        while server.hub.sockets:
            await asyncio.sleep(0.01)
        server.commands.gate.set()
        await server.edge.close()
        assert server.commands.finished == ["1"]


# Bad input


@pytest.mark.parametrize("payload", [
    b"\xff\xfe", b'{"type":"typing","chat_id":"\xff"}', b"[" * 100_000,
    b'{"type":"ping","x":' + b'{"a":' * 40_000, b"", b"null",
])
async def test_what_is_no_frame_closes_with_4500(payload: bytes) -> None:
    async with serving() as server:
        alice = await server.raw("alice")
        alice.write_frame(payload)
        assert await alice.close_code() == wire.BAD_FRAME


async def test_binary_frames_close_with_4500() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        await alice.raw.send_bytes(b'{"type":"ping"}')
        assert await alice.close_code() == wire.BAD_FRAME


async def test_the_largest_frame_is_read_and_a_larger_one_closes_with_1009() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        text = json.dumps({"type": "ping", "ref": "1"}).ljust(wire.MAX_FRAME_BYTES)
        await alice.raw.send_str(text)
        assert (await alice.until("ack"))["ref"] == "1"
        await alice.raw.send_str(text + " ")
        assert await alice.close_code() in (1009, 1006)


async def test_a_frame_of_2_mib_ends_its_socket_and_no_other() -> None:
    async with serving() as server:
        alice, bob = await server.raw("alice"), await server.sign_in("bob")
        alice.write_frame(b'{"type":"ping","x":"' + b"x" * 2 * 1024 * 1024 + b'"}')
        # The kernel may reset the connection, since much of the frame is never read: then the code is lost.
        assert await alice.close_code() in (1009, None)
        assert (await bob.call(type="ping"))["type"] == "ack"
        while server.hub.sockets > 1:
            await asyncio.sleep(0.01)


async def test_a_frame_in_many_pieces_counts_as_one() -> None:
    async with serving() as server:
        alice = await server.raw("alice")
        alice.writer.write(b"\x01\x88\0\0\0\0" + b'{"type":')
        alice.writer.write(b"\x80\x87\0\0\0\0" + b'"ping"}')
        assert await alice.read_frame() == (1, b'{"type":"pong"}')
        for _ in range(5):
            alice.writer.write(b"\x00\xff" + (65536).to_bytes(8, "big") + b"\0\0\0\0" + b" " * 65536)
        assert await alice.close_code() in (1002, 1009, None)


async def test_ten_thousand_frames_in_a_burst_close_with_4029() -> None:
    async with serving(rate=(100, 2000)) as server:
        alice, bob = await server.raw("alice"), await server.sign_in("bob")
        for n in range(10_000):
            alice.write_frame(b'{"type":"read","chat_id":"c","seq":%d}' % n)
        assert (await bob.call(type="ping"))["type"] == "ack"
        assert await alice.close_code() == wire.TOO_MANY
        assert 2000 <= len(server.commands.started) < 2500


async def test_pings_of_the_protocol_count_as_frames() -> None:
    async with serving(rate=(100, 50)) as server:
        alice = await server.raw("alice")
        for _ in range(100):
            alice.write_frame(b"x", opcode=9)
        assert await alice.read_frame() == (10, b"x")
        assert await alice.close_code() == wire.TOO_MANY


async def test_a_burst_goes_through_where_limits_are_off() -> None:
    async with serving() as server:
        alice = await server.raw("alice")
        for n in range(10_000):
            alice.write_frame(b'{"type":"read","chat_id":"c","seq":%d}' % n)
        alice.write_frame(b'{"type":"ping"}')
        assert await alice.read_frame() == (1, b'{"type":"pong"}')
        assert [frame.seq for frame in server.commands.started] == list(range(10_000))


async def test_a_token_never_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving() as server:
        secret = "alice/secret-session"
        server.sessions.refused[secret] = "token_invalid"
        opened = await server.open(None)
        await opened.send(type="auth", token=secret)
        await opened.close_code()
        again = await server.open(None)
        await again.send(type="auth", token=secret, colour="red")
        await again.close_code()
        bob = await server.sign_in("bob")
        await bob.call(type="auth", token=secret)
    assert "secret-session" not in caplog.text


# Ends


async def test_sockets_of_an_ended_session_close_at_once() -> None:
    async with serving() as server:
        phone, laptop = await server.sign_in("alice", "phone"), await server.sign_in("alice", "laptop")
        second = await server.sign_in("alice", "phone")
        began = time.monotonic()
        server.bus.publish(SessionsEnded("alice", ["phone", "gone-already"]))
        assert await phone.close_code() == wire.SESSION_ENDED
        assert await second.close_code() == wire.SESSION_ENDED
        assert time.monotonic() - began < 1
        assert (await laptop.call(type="ping"))["type"] == "ack"


async def test_an_ended_session_hears_nothing_more() -> None:
    async with serving() as server:
        phone = await server.sign_in("alice", "phone")
        server.bus.publish(Frame(["alice"], wire.chat_gone("before")))
        server.bus.publish(SessionsEnded("alice", ["phone"]))
        server.bus.publish(Frame(["alice"], wire.chat_gone("after")))
        assert (await phone.receive())["chat_id"] == "before"
        assert await phone.close_code() == wire.SESSION_ENDED


async def test_a_graceful_stop_closes_everybody_with_4012_and_takes_nobody_new() -> None:
    async with serving() as server:
        alice, bob = await server.sign_in("alice"), await server.sign_in("bob")
        unknown = await server.open(None)
        stopping = asyncio.create_task(server.hub.close_all())
        codes = await asyncio.gather(alice.close_code(), bob.close_code(), unknown.close_code())
        assert [*codes] == [wire.STOPPING] * 3
        assert await refused_handshake(server) == 503
        async with asyncio.timeout(2):
            await stopping
        assert server.hub.sockets == 0


async def test_acks_go_out_before_a_graceful_stop() -> None:
    async with serving() as server:
        server.commands.gate.clear()
        alice = await server.sign_in("alice")
        await alice.send(type="message.send", ref="1", chat_id="c", client_id="1", text="hi")
        while not server.commands.started:
            await asyncio.sleep(0.01)
        server.commands.gate.set()
        while not server.commands.finished:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(server.hub.close_all())
        assert (await alice.receive())["type"] == "ack"
        assert await alice.close_code() == wire.STOPPING
        await stopping


async def test_a_silent_client_is_cut_and_one_that_answers_pings_is_not() -> None:
    async with serving(heartbeat_s=0.3) as server:
        silent, answering = await server.raw("silent"), await server.sign_in("answering")
        reading = asyncio.create_task(answering.receive())  # aiohttp's client answers pings while it reads
        assert await silent.read_frame() == (9, b"")
        assert await silent.close_code() is None
        assert not server.hub.connected("silent")
        await asyncio.sleep(1)
        assert server.hub.connected("answering")
        server.bus.publish(Frame(["answering"], wire.RESYNC))
        assert (await reading)["type"] == "resync"


async def test_the_oldest_of_too_many_sockets_of_a_session_gives_way() -> None:
    async with serving() as server:
        sockets = [await server.sign_in("alice", "phone") for _ in range(17)]
        assert await sockets[0].close_code() == wire.TOO_MANY
        for opened in sockets[1:]:
            assert (await opened.call(type="ping"))["type"] == "ack"


async def test_the_oldest_of_too_many_sockets_of_a_person_gives_way() -> None:
    """Over all sessions, so that signing in again and again opens no more."""
    async with serving() as server:
        sockets = [await server.sign_in("alice", f"phone{number // 16}") for number in range(MAX_USER_SOCKETS)]
        other = await server.sign_in("bob")
        sockets.append(await server.sign_in("alice", "another"))
        assert await sockets[0].close_code() == wire.TOO_MANY
        for opened in (*sockets[1:3], sockets[-1], other):
            assert (await opened.call(type="ping"))["type"] == "ack"


async def test_too_many_sockets_that_say_nobodys_name_are_refused() -> None:
    async with serving() as server:
        silent = [await server.open(None) for _ in range(MAX_UNKNOWN)]
        assert await refused_handshake(server) == 429
        known = await server.sign_in("alice")  # whose token comes in the header is known at once
        assert (await known.call(type="ping"))["type"] == "ack"
        # Who says a name makes room, and so does who goes away.
        await silent[0].send(type="auth", token="bob/web")
        await silent[0].until("ready")
        await server.open(None)
        assert await refused_handshake(server) == 429
        await silent[1].close()
        async with asyncio.timeout(30):
            while True:
                try:
                    await server.open(None)
                    break
                except aiohttp.WSServerHandshakeError:  # it has not heard of the closing yet
                    await asyncio.sleep(0.01)
