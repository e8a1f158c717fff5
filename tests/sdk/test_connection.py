from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from hypersend_client.sdk import ApiError, ConnectionFailed, HyperSend, events
from hypersend_client.sdk.connection import Connection
from tests.sdk.peer import Peer, Tokens, serving
from tests.sdk.proxy import proxied

CONTRACT = Path(__file__).parent.parent / "contract"
READY = {"type": "ready", "session_id": "s", "user_id": "user-1", "server_time": "2026-01-31T09:30:00.125Z",
         "epoch": "e"}


class Sockets:
    """The WebSocket of a peer. close_with: codes for the next sockets, right after they opened."""

    def __init__(self, peer: Peer, tokens: Tokens) -> None:
        self.tokens = tokens
        self.open: list[web.WebSocketResponse] = []
        self.opened = 0
        self.frames: list[dict[str, Any]] = []
        self.close_with: list[int] = []
        self.mute = False
        peer.on("/ws", self.handle)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=not self.mute)
        await socket.prepare(request)
        self.opened += 1
        if self.tokens.refusal(request) is not None:
            await socket.close(code=4001)
            return socket
        if self.close_with:
            await socket.close(code=self.close_with.pop(0))
            return socket
        await socket.send_json(READY)
        self.open.append(socket)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            frame = json.loads(message.data)
            self.frames.append(frame)
            if frame["type"] == "ping" and not self.mute:
                await socket.send_json({"type": "pong"})
            elif frame.get("chat_id") == "refused":
                await socket.send_json({"type": "error", "ref": frame["ref"], "code": "rate_limited", "detail": "d",
                                        "retryable": True, "retry_after": 2})
            elif "ref" in frame and frame.get("chat_id") != "unanswered":
                await socket.send_json({"type": "ack", "ref": frame["ref"], "data": {"got": frame["type"]}})
        self.open.remove(socket)
        return socket


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as peer:
        yield peer


@pytest.fixture
async def sockets(peer: Peer) -> Sockets:
    return Sockets(peer, Tokens(peer))


@pytest.fixture
async def hs(peer: Peer, sockets: Sockets) -> AsyncIterator[HyperSend]:
    async with HyperSend(peer.url, rand=lambda: 0.0) as hs:
        await hs.login("ann@example.org", "p")
        yield hs


async def state(connection: Connection, wanted: str) -> None:
    async with asyncio.timeout(10):
        if connection.state == wanted:
            return
        reached = asyncio.Event()
        unsubscribe = connection.on(
            lambda e: reached.set() if isinstance(e, events.StateChanged) and e.state == wanted else None)
        await reached.wait()
        unsubscribe()


async def test_requests_are_answered_by_their_ref(hs: HyperSend) -> None:
    hs.connection.start()
    await hs.connection.wait_online()
    kinds = ["read", "typing", "delivered"]
    answers = await asyncio.gather(*(hs.connection.request(kind, chat_id="c") for kind in kinds))
    assert answers == [{"got": kind} for kind in kinds]


async def test_a_refused_frame_is_an_api_error(hs: HyperSend) -> None:
    hs.connection.start()
    await hs.connection.wait_online()
    with pytest.raises(ApiError) as caught:
        await hs.connection.request("read", chat_id="refused")
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_s) == ("rate_limited", True, 2)


async def test_without_a_socket_a_request_fails_as_certainly_not_sent(hs: HyperSend) -> None:
    with pytest.raises(ConnectionFailed) as caught:
        await hs.connection.request("read", chat_id="c")
    assert not caught.value.sent


async def test_events_come_typed_and_in_order(hs: HyperSend, sockets: Sockets) -> None:
    stream = hs.connection.events()
    hs.connection.start()
    await hs.connection.wait_online()
    await sockets.open[0].send_json({"type": "typing", "chat_id": "c", "user_id": "u"})
    await sockets.open[0].send_json({"type": "something.new", "x": 1})
    await sockets.open[0].send_json({"type": "read", "chat_id": "c", "user_id": "u", "seq": 3})
    wanted: list[events.Event] = [
        events.Typing("c", "u"), events.Unknown({"type": "something.new", "x": 1}), events.Read("c", "u", 3)]
    async with asyncio.timeout(10):
        async for event in stream:
            if event == wanted[0]:
                wanted.pop(0)
                if not wanted:
                    break
    await hs.connection.stop()
    assert [e async for e in stream][-1] == events.StateChanged("offline"), "the stream ends with the connection"


async def test_a_listener_that_fails_costs_nobody_else_an_event(
    hs: HyperSend, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: events.Event) -> None:
        raise RuntimeError("a bug in a screen")

    hs.connection.on(broken)
    seen: list[events.Event] = []
    hs.connection.on(seen.append)
    hs.connection.start()
    await state(hs.connection, "online")
    assert events.StateChanged("online") in seen
    assert "a bug in a screen" in caplog.text


@pytest.mark.parametrize("code", [4008, 4012, 4029, 1011])
async def test_codes_that_mean_come_back_reconnect(hs: HyperSend, sockets: Sockets, code: int) -> None:
    sockets.close_with = [code]
    hs.connection.start()
    await state(hs.connection, "online")
    assert sockets.opened == 2


async def test_a_code_that_means_stay_away_does_not_reconnect(hs: HyperSend, sockets: Sockets) -> None:
    sockets.close_with = [4500]
    hs.connection.start()
    await state(hs.connection, "connecting")
    await state(hs.connection, "offline")
    assert hs.connection.error is not None
    assert hs.connection.error.code == "closed_4500"
    await asyncio.sleep(0.3)
    assert sockets.opened == 1


async def test_an_expired_token_is_refreshed_first(hs: HyperSend, sockets: Sockets) -> None:
    sockets.tokens.expire()
    hs.connection.start()
    await state(hs.connection, "online")
    assert sockets.tokens.refreshed == ["refresh-1"]
    assert sockets.opened == 2


async def test_a_token_that_is_refused_again_and_again_is_not_refreshed_in_a_tight_loop(
    hs: HyperSend, sockets: Sockets
) -> None:
    sockets.close_with = [4001] * 50
    hs.connection.start()
    await asyncio.sleep(0.4)
    assert 2 <= sockets.opened <= 6


async def test_an_ended_session_signs_out_and_stays_away(hs: HyperSend, sockets: Sockets) -> None:
    hs.connection.start()
    await state(hs.connection, "online")
    await sockets.open[0].close(code=4503)
    await state(hs.connection, "signed_out")
    assert hs.account is None
    assert sockets.opened == 1


async def test_a_dropped_socket_fails_what_waits_and_comes_back(peer: Peer, sockets: Sockets) -> None:
    async with proxied(peer.url) as proxy, HyperSend(proxy.url, rand=lambda: 0.0) as hs:
        await hs.login("ann@example.org", "p")
        hs.connection.start()
        await state(hs.connection, "online")
        waiting = asyncio.create_task(hs.connection.request("read", chat_id="unanswered"))
        while not sockets.frames:
            await asyncio.sleep(0.01)
        proxy.cut()
        with pytest.raises(ConnectionFailed) as caught:
            await waiting
        assert caught.value.sent, "it may have arrived"
        await state(hs.connection, "online")
        assert sockets.opened == 2


async def test_a_change_of_network_does_not_wait_for_the_delay(peer: Peer, sockets: Sockets) -> None:
    async with proxied(peer.url) as proxy, HyperSend(proxy.url, rand=lambda: 0.99) as hs:
        await hs.login("ann@example.org", "p")
        proxy.open = False
        proxy.cut()
        hs.connection.start()
        while proxy.accepted < 6:  # the delay has grown to seconds by now
            await asyncio.sleep(0.01)
            hs.connection.network_changed()
        proxy.open = True
        began = asyncio.get_running_loop().time()
        while hs.connection.state != "online":
            hs.connection.network_changed()
            await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() - began < 2


async def test_a_change_of_network_finds_out_a_dead_socket(
    peer: Peer, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypersend_client.sdk.connection.PROBE_S", 0.1)
    async with proxied(peer.url) as proxy, HyperSend(proxy.url, rand=lambda: 0.0) as hs:
        await hs.login("ann@example.org", "p")
        hs.connection.start()
        await state(hs.connection, "online")
        hs.connection.network_changed()
        await asyncio.sleep(0.3)
        assert (hs.connection.state, sockets.opened) == ("online", 1), "a healthy one is kept"
        proxy.freeze()
        hs.connection.network_changed()
        await state(hs.connection, "offline")
        proxy.thaw()
        await state(hs.connection, "online")
        assert sockets.opened == 2


async def test_a_request_that_nobody_answers_finds_out_a_dead_socket(
    peer: Peer, sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent may have arrived, and its answer not: to the system such a line is idle."""
    for name in ("DOUBT_S", "PROBE_S"):
        monkeypatch.setattr(f"hypersend_client.sdk.connection.{name}", 0.1)
    async with proxied(peer.url) as proxy, HyperSend(proxy.url, rand=lambda: 0.0) as hs:
        await hs.login("ann@example.org", "p")
        hs.connection.start()
        await state(hs.connection, "online")
        slow = asyncio.create_task(hs.connection.request("read", chat_id="unanswered"))
        await asyncio.sleep(0.5)
        assert not slow.done(), "a server that is there may take its time"
        assert (hs.connection.state, sockets.opened) == ("online", 1)
        proxy.freeze()
        with pytest.raises(ConnectionFailed):
            await hs.connection.request("read", chat_id="unanswered")
        with pytest.raises(ConnectionFailed):
            await slow
        proxy.thaw()
        await state(hs.connection, "online")
        assert sockets.opened == 2


async def test_a_socket_that_went_silent_is_noticed_by_its_heartbeat(peer: Peer, sockets: Sockets) -> None:
    async with proxied(peer.url) as proxy, HyperSend(proxy.url, rand=lambda: 0.0) as hs:
        await hs.login("ann@example.org", "p")
        connection = Connection(hs.transport, hs.session, heartbeat_s=0.2)
        connection.start()
        await state(connection, "online")
        proxy.freeze()
        await state(connection, "offline")
        await connection.stop()


def test_every_frame_of_the_contract_is_understood() -> None:
    frames = [entry["frame"] for entry in json.loads((CONTRACT / "server_to_client.json").read_text())["frames"]]
    own = ("ack", "error", "pong")
    unknown = {frame["type"] for frame in frames
               if frame["type"] not in own and isinstance(events.parse(frame), events.Unknown)}
    assert unknown == {"weather"}, "the example of one that nobody knows"
    assert len({frame["type"] for frame in frames}) >= 15


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)


@given(st.dictionaries(
    st.sampled_from(["type", "message", "chat", "chat_id", "user_id", "seq", "member", "online", "last_seen_at", "id",
                     "received_bytes", "state", "session_id", "server_time", "epoch", "transfer", "release"]),
    json_values | st.sampled_from(["message", "read", "chat", "member", "presence", "ready", "upload"])))
def test_no_frame_breaks_the_reader(frame: dict[str, Any]) -> None:
    assert isinstance(events.parse(frame), events.Event)
