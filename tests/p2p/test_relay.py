"""The relay between two raw sockets: order, back-pressure, who may come in, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hypersend_server.app import PARTS, RELAY
from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.sqlite import FILE_NAME
from hypersend_server.p2p import meeting, relay, wire
from tests.faults.test_kill import http_session
from tests.harness import Server, SettableClock, running
from tests.p2p.pair import KEY, End, begun, end, meet, pair
from tests.process import ServerProcess

FRAME = 65_536 + 25
DAY_S = 86_400
SLACK = 4 * 1024 * 1024


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than a whole installation allows, so that it is soon used up."""
    monkeypatch.setattr(meeting, "SLACK_BYTES", SLACK)


@pytest.fixture
async def server(tmp_path: Path):  # type: ignore[no-untyped-def]
    async with running(tmp_path) as server:
        yield server


async def test_frames_pass_in_order_and_the_receiver_ends_it(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(200_000)
    sender, receiver, number = await meet(both, transfer["id"])
    await sender.send(type="hello", round=number, key=KEY)
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    assert await receiver.text() == {"type": "hello", "round": number, "key": KEY}
    assert await sender.text() == {"type": "ready", "round": number, "key": KEY, "offset": 0}
    frames = [os.urandom(size) for size in (FRAME, 1, FRAME, 300)]
    for frame in frames:
        await sender.ws.send_bytes(frame)
    assert [await receiver.next() for _ in frames] == frames
    await receiver.send(type="ack", offset=150_000)
    assert await sender.text() == {"type": "ack", "offset": 150_000}
    assert (await both.until(transfer["id"], "active"))["status"] == "active"
    await receiver.ws.send_bytes(b"sealed")
    assert await sender.next() == b"sealed"
    await receiver.send(type="done")
    assert await sender.text() == {"type": "done"}
    assert [await sender.closed(), await receiver.closed()] == [1000, 1000]
    found = await both.status(transfer["id"])
    assert (found["status"], found["transferred_bytes"]) == ("done", 200_000)
    page = (await both.asha.get(f"/chats/{both.chat_id}/messages")).json["items"]
    assert page[-1]["transfer"]["status"] == "done"


async def test_either_side_may_drop_and_a_new_round_begins(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, number = await begun(both, transfer["id"])
    await receiver.send(type="ack", offset=400)
    await sender.until("ack")
    receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    assert await sender.until("peer") == {"type": "peer", "present": False, "round": None}
    paused = await both.until(transfer["id"], "paused")
    assert paused["transferred_bytes"] == 400
    receiver = await end(both.ben, "receiver", transfer["id"])
    again = await sender.until("peer")
    assert again == {"type": "peer", "present": True, "round": number + 1}
    assert (await receiver.until("joined"))["transfer"]["transferred_bytes"] == 400
    await receiver.send(type="ready", round=number, key=KEY, offset=1)  # of the round that is over
    await receiver.send(type="ready", round=number + 1, key=KEY, offset=400)
    assert (await sender.until("ready"))["round"] == number + 1


async def test_the_newer_socket_of_an_end_wins_and_the_older_is_told(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, _, number = await meet(both, transfer["id"])
    newer = await end(both.asha, "sender", transfer["id"])
    assert await sender.closed() == wire.REPLACED
    assert (await newer.until("peer"))["round"] == number + 1


async def test_a_stranger_and_the_wrong_end_get_in_nowhere(server: Server) -> None:
    both = await pair(server)
    eve = await server.person("eve")
    other = await server.login(both.ben.email)
    transfer = await both.accepted()
    for person, role in ((eve, "sender"), (eve, "receiver"), (both.ben, "sender"), (both.asha, "receiver"),
                         (other, "receiver")):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await end(person, role, transfer["id"])
        assert caught.value.status == 404
        late = await end(person, role, transfer["id"], headers={})
        await late.send(type="auth", token=person.token)
        assert await late.closed() == wire.NOT_ALLOWED
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await end(both.asha, "sender", transfer["id"], headers={"Authorization": "Bearer nonsense"})
    assert caught.value.status == 401


async def test_a_token_may_come_as_the_first_frame(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender = await end(both.asha, "sender", transfer["id"], headers={})
    await sender.send(type="auth", token=both.asha.token)
    joined = await sender.text()
    assert (joined["type"], joined["role"], joined["transfer"]["id"]) == ("joined", "sender", transfer["id"])
    nobody = await end(both.asha, "sender", transfer["id"], headers={})
    await nobody.send(type="cancel")
    assert await nobody.closed() == wire.NOT_ALLOWED


@pytest.mark.parametrize("frame", [
    b"", b"x" * (wire.MAX_BINARY_BYTES + 1), b"x" * 1024 * 1024, "no json", "[]", '{"type":"no"}',
    '{"type":"ack","offset":-1}', '{"type":"ack","offset":1001}', '{"type":"hello","round":1,"key":"k"}',
    '{"type":"auth","token":"t"}', '{"type":"ready","round":0,"key":"' + KEY + '","offset":0}', "x" * 20_000])
async def test_what_is_no_frame_closes_its_own_end_only(server: Server, frame: bytes | str) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    sender, receiver, _ = await meet(both, transfer["id"])
    if isinstance(frame, bytes):
        await receiver.ws.send_bytes(frame)
    else:
        await receiver.ws.send_str(frame)
    assert await receiver.closed() in (wire.BAD_FRAME, 1009)
    assert (await sender.until("peer"))["present"] is False
    assert (await both.until(transfer["id"], "accepted"))["transferred_bytes"] == 0


@pytest.mark.parametrize("frame", [{"type": "done"}, {"type": "ack", "offset": 1}])
async def test_the_sender_cannot_say_what_the_receiver_has(server: Server, frame: dict[str, object]) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, _, _ = await meet(both, transfer["id"])
    await sender.send(**frame)
    assert await sender.closed() == wire.BAD_FRAME
    assert (await both.status(transfer["id"]))["status"] == "accepted"


async def test_cancel_and_failure_end_both(server: Server) -> None:
    both = await pair(server)
    for number, (frame, status) in enumerate((
        ({"type": "cancel"}, "cancelled"), ({"type": "fail", "code": "corrupt_transfer"}, "failed"))):
        transfer = await both.accepted(client_id=f"k{number}")
        sender, receiver, _ = await meet(both, transfer["id"])
        await receiver.send(**frame)
        assert await sender.until(str(frame["type"])) == frame
        assert [await sender.closed(), await receiver.closed()] == [wire.OVER, wire.OVER]
        assert (await both.status(transfer["id"]))["status"] == status
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await end(both.asha, "sender", transfer["id"])
        assert caught.value.status == 409


async def test_a_call_that_ends_it_closes_the_sockets(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await meet(both, transfer["id"])
    await both.ben.post(f"/p2p/{transfer['id']}/cancel")
    assert [await sender.closed(), await receiver.closed()] == [wire.OVER, wire.OVER]


async def test_a_revoked_session_closes_its_end(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await meet(both, transfer["id"])
    await both.asha.post("/auth/logout")
    assert await sender.closed() == wire.SESSION_ENDED
    assert (await receiver.until("peer"))["present"] is False


async def push(sender: End) -> None:
    """Frames without end, as fast as they are taken."""
    while True:
        await sender.ws.send_bytes(bytes(FRAME))


async def fill(sender: End) -> asyncio.Task[None]:
    """Push for as long as it goes; the task pushes on, where there is room again."""
    sent = 0

    async def push() -> None:
        nonlocal sent
        while True:
            await sender.ws.send_bytes(bytes(FRAME))
            sent += FRAME

    pushing = asyncio.create_task(push())
    before = -1
    async with asyncio.timeout(60):
        while sent != before:
            before = sent
            await asyncio.sleep(0.5)
    return pushing


async def test_a_receiver_that_does_not_read_holds_the_sender_back(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10**9)
    sender, receiver, _ = await meet(both, transfer["id"])
    sent = 0

    async def push() -> None:
        nonlocal sent
        while True:
            await sender.ws.send_bytes(bytes(FRAME))
            sent += FRAME

    pushing = asyncio.create_task(push())
    before = -1
    async with asyncio.timeout(60):
        while sent != before:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.5)
    # What lies in the kernel's buffers of four sockets and in the relay; without back-pressure it would not end.
    assert sent < 64 * 1024 * 1024
    received, held_back = 0, sent
    while received < held_back:
        received += len(await receiver.next())
    pushing.cancel()


@pytest.mark.usefixtures("slack")
@pytest.mark.parametrize("way", ["sender", "receiver"])
@pytest.mark.parametrize("is_met", [True, False])
async def test_more_than_was_offered_closes_its_end(server: Server, way: str, is_met: bool) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    people = {"sender": both.asha, "receiver": both.ben}
    pushing = await end(people.pop(way), way, transfer["id"])
    [(name, person)] = people.items()
    other = await end(person, name, transfer["id"]) if is_met else None
    dropping = None if other is None else asyncio.create_task(other.closed())
    with contextlib.suppress(ConnectionError):
        for _ in range(16 * SLACK // FRAME):
            await pushing.ws.send_bytes(bytes(FRAME))
    assert await pushing.closed() == wire.BAD_FRAME
    assert SLACK < server.app[RELAY].relayed_bytes < SLACK * 1.1
    if other is not None and dropping is not None:
        assert not dropping.done()
        dropping.cancel()
        assert await both.status(transfer["id"]) == transfer


@pytest.mark.usefixtures("slack")
async def test_more_than_was_offered_in_fragments_closes_its_end_too(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    sender = await end(both.asha, "sender", transfer["id"])
    transport = sender.ws._response.connection.transport  # type: ignore[union-attr]
    one, other = (bytes((kind, 0xFE)) + (30_000).to_bytes(2, "big") + bytes(4 + 30_000) for kind in (0x02, 0x80))
    for _ in range(2 * SLACK // 60_000):
        transport.write(one + other)  # type: ignore[union-attr]
        await asyncio.sleep(0)
    assert await sender.closed() == wire.BAD_FRAME


@pytest.mark.usefixtures("slack")
async def test_blanks_in_what_an_end_says_count_as_well(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(1000)
    sender, receiver, _ = await meet(both, transfer["id"])
    dropping = asyncio.create_task(sender.until("peer"))
    padded = '{"type":"ack","offset":0}'.ljust(wire.MAX_TEXT_BYTES)
    with contextlib.suppress(ConnectionError):
        for _ in range(4 * SLACK // len(padded)):
            await receiver.ws.send_str(padded)
    assert await receiver.closed() == wire.BAD_FRAME
    assert (await dropping)["present"] is False
    assert server.app[RELAY].relayed_bytes == 0  # of files


@pytest.mark.usefixtures("slack")
async def test_each_round_may_bring_the_whole_file(server: Server) -> None:
    both = await pair(server)
    size = SLACK
    transfer = await both.accepted(size)
    sender, receiver, _ = await meet(both, transfer["id"])
    for _ in range(4):
        for _ in range(size // 65_536):
            await sender.ws.send_bytes(bytes(FRAME))
            assert len(await receiver.next()) == FRAME  # type: ignore[arg-type]
        receiver = await end(both.ben, "receiver", transfer["id"])
        while not (await sender.until("peer"))["present"]:
            pass
        await receiver.until("peer")


async def test_who_is_left_hears_it_though_the_database_is_slow(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await begun(both, transfer["id"])
    await both.until(transfer["id"], "active")
    transfers, go = server.app[PARTS].transfers, asyncio.Event()
    moved = transfers.moved

    async def slow(*arguments: Any) -> None:
        await go.wait()
        await moved(*arguments)

    monkeypatch.setattr(transfers, "moved", slow)
    receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    try:
        async with asyncio.timeout(5):
            assert (await sender.until("peer"))["present"] is False
        assert (await both.status(transfer["id"]))["status"] == "active"
    finally:
        go.set()
    await both.until(transfer["id"], "paused")


async def test_an_end_that_came_back_before_its_leaving_was_written_is_greeted_once_and_stays_active(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, number = await meet(both, transfer["id"])
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    await receiver.send(type="ack", offset=10)  # written at once
    await receiver.send(type="ack", offset=400)  # not yet
    while (await sender.until("ack"))["offset"] < 400:
        pass
    await both.until(transfer["id"], "active")
    transfers, came, go, left = server.app[PARTS].transfers, asyncio.Event(), asyncio.Event(), asyncio.Event()
    progressed, moves = transfers.progressed, []

    async def slow(*arguments: Any) -> None:
        came.set()
        await go.wait()
        await progressed(*arguments)
        left.set()

    async def moved(transfer_id: str, status: str) -> None:
        moves.append(status)

    monkeypatch.setattr(transfers, "progressed", slow)
    monkeypatch.setattr(transfers, "moved", moved)
    receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    await came.wait()
    again = await end(both.ben, "receiver", transfer["id"])
    assert (await again.until("peer"))["round"] == number + 1
    go.set()
    await left.wait()
    await again.send(type="ready", round=number + 1, key=KEY, offset=400)
    heard = []
    while not heard or heard[-1]["type"] != "ready":
        heard.append(await sender.text())
    assert [(frame["type"], frame["round"]) for frame in heard] == [
        ("peer", None), ("peer", number + 1), ("ready", number + 1)]
    assert moves == []
    assert (await both.status(transfer["id"]))["status"] == "active"


@pytest.mark.parametrize("frame", [{"type": "cancel"}, {"type": "fail", "code": "tampered"}])
async def test_the_other_end_hears_that_it_is_over_also_where_that_cannot_be_written(
    server: Server, monkeypatch: pytest.MonkeyPatch, frame: dict[str, str]
) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await meet(both, transfer["id"])
    monkeypatch.setattr(server.app[PARTS].transfers, "finished", _database_away)
    await receiver.send(**frame)
    assert await sender.text() == frame
    assert await receiver.closed() == 1011
    assert (await sender.until("peer"))["present"] is False


async def test_done_is_told_only_once_it_is_written(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    sender, receiver, _ = await begun(both, transfer["id"])
    await both.until(transfer["id"], "active")
    with monkeypatch.context() as patch:
        patch.setattr(server.app[PARTS].transfers, "finished", _database_away)
        await receiver.send(type="done")
        assert await receiver.closed() == 1011
    assert await sender.text() == {"type": "peer", "present": False, "round": None}
    await both.asha.post(f"/p2p/{transfer['id']}/cancel")  # and not by what ends it in another way
    with pytest.raises(ConnectionError, match=str(wire.OVER)):
        await sender.text()


async def _database_away(*arguments: Any) -> None:
    raise HyperSendError("metadata_unavailable")


async def test_claims_are_renewed_together_and_after_an_error_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "CLAIM_MS", 600)
    async with running(tmp_path) as server:
        both = await pair(server)
        ends = []
        for number in range(3):
            transfer = await both.accepted(client_id=f"k{number}")
            ends.append(await end(both.asha, "sender", transfer["id"]))
            await ends[-1].until("joined")
        together = asyncio.Barrier(3)

        async def broken(*arguments: Any) -> str:
            if not together.broken:
                await together.wait()
                await together.abort()
                raise RuntimeError("nobody thought of this")
            return "another process"

        async with asyncio.timeout(10):
            monkeypatch.setattr(server.app[RELAY], "_claim", broken)
            assert [await each.closed() for each in ends] == [wire.STOPPING] * 3


@pytest.mark.parametrize("place", ["here:another", "http://gone.invalid:8000", "a socket that takes nobody in"])
async def test_an_end_does_not_wait_for_a_process_that_cannot_be_reached(server: Server, place: str) -> None:
    both = await pair(server)
    transfer = await both.accepted()
    with contextlib.ExitStack() as stack:
        if " " in place:
            place = stack.enter_context(_full_socket())
        parts = server.app[PARTS]
        now = parts.clock()
        await parts.metadata.transfers.claim(transfer["id"], place, now, now + 600_000)
        async with asyncio.timeout(10):
            sender, receiver, _ = await meet(both, transfer["id"])
        assert not sender.ws.closed
        assert not receiver.ws.closed


@contextlib.contextmanager
def _full_socket() -> Iterator[str]:
    """An address where a connection is neither taken nor refused, as that of a machine that is off."""
    with socket.socket() as listening, contextlib.ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):  # more than the kernel keeps for a server that takes none
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


async def test_people_hear_of_progress_twice_a_second_at_most(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10_000)
    _, receiver, number = await meet(both, transfer["id"])
    socket = await both.asha.socket()
    loop = asyncio.get_running_loop()
    await receiver.send(type="ready", round=number, key=KEY, offset=0)
    began = loop.time()
    for offset in range(1, 301):
        await receiver.send(type="ack", offset=offset)
        await asyncio.sleep(0.005)
    told = []
    while not told or told[-1] < 300:
        told.append((await socket.until("transfer"))["transfer"]["transferred_bytes"])
    assert told == sorted(told)
    # One when it becomes active, and one as soon as there is something to tell.
    assert 3 <= len(told) <= 2 + (loop.time() - began) / relay.TELL_S


async def test_transfers_share_a_busy_server_evenly(server: Server) -> None:
    both = await pair(server)
    passed = []

    async def pass_on(transfer_id: str) -> None:
        sender, receiver, _ = await meet(both, transfer_id)
        pushing = asyncio.create_task(push(sender))
        mine = len(passed)
        passed.append(0)
        try:
            while sum(passed) < 192 * 1024 * 1024:
                passed[mine] += len(await receiver.next())
        finally:
            pushing.cancel()

    transfers = [await both.accepted(10**9, client_id=f"k{number}") for number in range(3)]
    await asyncio.gather(*(pass_on(transfer["id"]) for transfer in transfers))
    assert min(passed) > max(passed) / 2


async def test_a_sender_that_comes_back_to_a_receiver_without_room_stays(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10**9)
    sender, receiver, number = await meet(both, transfer["id"])
    filling = await fill(sender)
    newer = await end(both.asha, "sender", transfer["id"])  # while the relay waits for room at the receiver
    assert await sender.closed() == wire.REPLACED
    assert (await newer.until("peer"))["round"] == number + 1
    filling.cancel()
    again = await fill(newer)
    last = os.urandom(100)

    async def read() -> None:
        while await receiver.next() != last:
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    again.cancel()
    await newer.ws.send_bytes(last)
    async with asyncio.timeout(60):
        await reading
    assert not newer.ws.closed


async def test_both_ends_are_in_the_last_round_whoever_had_no_room_meanwhile(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10**9)
    receiver = await end(both.ben, "receiver", transfer["id"])  # the first one here is the first to be told
    sender = await end(both.asha, "sender", transfer["id"])
    number = (await sender.until("peer"))["round"]
    filling = await fill(sender)
    newer = await end(both.asha, "sender", transfer["id"])
    assert (await newer.until("peer"))["round"] == number + 1  # also while the other one has no room to hear of it
    filling.cancel()
    again = await end(both.ben, "receiver", transfer["id"])
    assert (await again.until("peer"))["round"] == number + 2
    assert (await newer.until("peer"))["round"] == number + 2
    receiver.ws._response.connection.transport.abort()  # type: ignore[union-attr]
    await asyncio.sleep(0.2)
    await newer.send(type="hello", round=number + 2, key=KEY)
    assert await again.text() == {"type": "hello", "round": number + 2, "key": KEY}
    await again.send(type="ready", round=number + 2, key=KEY, offset=0)
    assert (await newer.text())["type"] == "ready"


async def test_two_hundred_abandoned_transfers_leave_nothing_behind(tmp_path: Path) -> None:
    clock = SettableClock()
    async with running(tmp_path, clock=clock) as server:
        both = await pair(server)
        tasks = len(asyncio.all_tasks())
        for number in range(200):
            transfer = await both.accepted(client_id=f"k{number}")
            sender = await end(both.asha, "sender", transfer["id"])
            sender.ws._response.connection.transport.abort()  # type: ignore[union-attr]
        limited = await both.try_offer(client_id="one more")
        assert (limited.status, limited.code) == (429, "transfer_limit")
        async with asyncio.timeout(30):
            while server.app[RELAY].sockets or server.app[RELAY].meetings or len(asyncio.all_tasks()) > tasks + 5:
                await asyncio.sleep(0.05)
        with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
            async with asyncio.timeout(30):
                while database.execute("SELECT 1 FROM transfers WHERE relay IS NOT NULL").fetchone():
                    await asyncio.sleep(0.05)
            clock.advance(8 * DAY_S)
            await server.app[PARTS].transfers.tidy()
            assert database.execute("SELECT status, count(*) FROM transfers GROUP BY status").fetchall() == [
                ("expired", 200)]
        both.asha = await server.login(both.asha.email)
        await both.offer(client_id="one more")


async def test_a_server_that_was_killed_is_come_back_to(tmp_path: Path) -> None:
    process = ServerProcess(tmp_path / "data", RATE_LIMITS="off", REGISTRATION="open").start()
    try:
        async with http_session() as http:
            both = await pair(Server(http, process.url))
            transfer = await both.accepted()
            sender, receiver, number = await meet(both, transfer["id"])
            await receiver.send(type="ready", round=number, key=KEY, offset=0)
            await sender.until("ready")
            await asyncio.to_thread(process.kill)
            await asyncio.to_thread(process.start)
            receiver = await end(both.ben, "receiver", transfer["id"])
            await both.until(transfer["id"], "paused")
            sender = await end(both.asha, "sender", transfer["id"])
            assert (await receiver.until("peer"))["present"] is False
            number = (await receiver.until("peer"))["round"]
            await receiver.send(type="ready", round=number, key=KEY, offset=0)
            await sender.until("ready")
            await both.until(transfer["id"], "active")
    finally:
        await asyncio.to_thread(process.kill)
