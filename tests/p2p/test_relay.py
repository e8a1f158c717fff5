"""The relay between two raw sockets: order, back-pressure, who may come in, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from hypersend_server.app import PARTS, RELAY
from hypersend_server.metadata.sqlite import FILE_NAME
from hypersend_server.p2p import wire
from tests.harness import Server, SettableClock, running
from tests.http_session import http_session
from tests.p2p.pair import FRAME, KEY, begun, end, fill, meet, pair
from tests.process import ServerProcess

DAY_S = 86_400


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


async def test_a_receiver_that_does_not_read_holds_the_sender_back(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10**9)
    sender, receiver, _ = await meet(both, transfer["id"])
    pushing, held_back = await fill(sender)
    # What lies in the kernel's buffers of four sockets and in the relay; without back-pressure it would not end.
    assert held_back < 64 * 1024 * 1024
    received = 0
    while received < held_back:
        received += len(await receiver.next())
    pushing.cancel()


async def test_a_sender_that_comes_back_to_a_receiver_without_room_stays(server: Server) -> None:
    both = await pair(server)
    transfer = await both.accepted(10**9)
    sender, receiver, number = await meet(both, transfer["id"])
    filling, _ = await fill(sender)
    newer = await end(both.asha, "sender", transfer["id"])  # while the relay waits for room at the receiver
    assert await sender.closed() == wire.REPLACED
    assert (await newer.until("peer"))["round"] == number + 1
    filling.cancel()
    again, _ = await fill(newer)
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
    filling, _ = await fill(sender)
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
