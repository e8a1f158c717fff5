"""Who sees whom come and go."""

from __future__ import annotations

import asyncio
import time

from hypersend_server.realtime.events import Presence
from tests.realtime.serving import serving

SEES_BOB = {"alice": {"bob": 1769851800000, "carol": None}}


async def test_watching_tells_the_state_now_and_each_change() -> None:
    async with serving(grace_s=0.05, visible=SEES_BOB) as server:
        alice = await server.sign_in("alice")
        await alice.send(type="presence.watch", user_ids=["bob", "carol", "stranger"])
        assert [await alice.receive(), await alice.receive()] == [
            {"type": "presence", "user_id": "bob", "online": False,
             "last_seen_at": "2026-01-31T09:30:00.000Z"},
            {"type": "presence", "user_id": "carol", "online": False, "last_seen_at": None},
        ]
        bob = await server.sign_in("bob")
        came = await alice.receive()
        assert (came["user_id"], came["online"]) == ("bob", True)
        assert server.presence.online("bob")
        await bob.close()
        left = await alice.receive()
        assert (left["user_id"], left["online"]) == ("bob", False)
        assert left["last_seen_at"] > "2026-01-31"
        assert not server.presence.online("bob")
        (user_ids, at), = server.seen
        assert user_ids == ["bob"]
        assert abs(at - time.time() * 1000) < 10_000


async def test_a_reconnect_within_the_grace_is_silent() -> None:
    async with serving(grace_s=0.3, visible=SEES_BOB) as server:
        alice, bob = await server.sign_in("alice"), await server.sign_in("bob")
        await alice.send(type="presence.watch", user_ids=["bob"])
        assert (await alice.receive())["online"] is True
        await bob.close()
        while server.hub.connected("bob"):
            await asyncio.sleep(0.01)
        assert server.presence.online("bob")
        await server.sign_in("bob")
        await asyncio.sleep(0.5)
        await alice.send(type="ping")
        assert (await alice.receive())["type"] == "pong"
        assert server.seen == []


async def test_the_second_device_keeps_a_person_online() -> None:
    async with serving(grace_s=0.01) as server:
        phone = await server.sign_in("bob", "phone")
        await server.sign_in("bob", "laptop")
        await phone.close()
        await asyncio.sleep(0.1)
        assert server.presence.online("bob")


async def test_strangers_are_never_told() -> None:
    async with serving(grace_s=0.01, visible={"alice": {}}) as server:
        alice = await server.sign_in("alice")
        await alice.call(type="presence.watch", user_ids=["bob"])
        bob = await server.sign_in("bob")
        await bob.close()
        while server.presence.online("bob"):
            await asyncio.sleep(0.01)
        await alice.send(type="ping")
        assert (await alice.receive())["type"] == "pong"


async def test_viewers_of_whom_nothing_can_be_read_keep_it_from_no_other() -> None:
    names = [f"v{number}" for number in range(10)]  # in any order: all of the first five last is one in 252
    async with serving(visible={name: {"bob": None} for name in names}) as server:
        viewers = [await server.sign_in(name) for name in names]
        for viewer in viewers:
            await viewer.send(type="presence.watch", user_ids=["bob"])
            assert (await viewer.receive())["online"] is False
        for name in names[:5]:
            server.visible[name] = None  # type: ignore[assignment]
        await server.sign_in("bob")
        assert [(await viewer.receive())["online"] for viewer in viewers[5:]] == [True] * 5


async def test_a_block_that_comes_later_hides_changes() -> None:
    async with serving(grace_s=0.01, visible={"alice": {"bob": None}}) as server:
        alice = await server.sign_in("alice")
        await alice.send(type="presence.watch", user_ids=["bob"])
        assert (await alice.receive())["online"] is False
        server.visible["alice"] = {}
        await server.sign_in("bob")
        await alice.call(type="ping")
        server.visible["alice"] = {"bob": None}
        server.bus.publish(Presence("bob", True, 1))
        assert (await alice.receive())["online"] is True
        await alice.send(type="ping")
        assert (await alice.receive())["type"] == "pong"  # once, not twice: the change in between was hidden


async def test_a_new_watch_replaces_the_old_one_and_a_closed_socket_leaves_nothing() -> None:
    async with serving(visible={"alice": {"bob": None, "carol": None}}) as server:
        alice = await server.sign_in("alice")
        await alice.call(type="presence.watch", user_ids=["bob"])
        await alice.call(type="presence.watch", user_ids=["carol"])
        assert [*server.presence._watchers] == ["carol"]
        await server.sign_in("bob")
        await server.sign_in("carol")
        assert (await alice.receive())["user_id"] == "carol"
        await alice.close()
        while server.hub.connected("alice"):
            await asyncio.sleep(0.01)
        assert (server.presence._watchers, server.presence._watched) == ({}, {})


async def test_only_two_hundred_can_be_watched() -> None:
    async with serving() as server:
        alice = await server.sign_in("alice")
        refused = await alice.call(type="presence.watch", user_ids=[str(n) for n in range(201)])
        assert refused["code"] == "validation_failed"


async def test_somebody_whom_another_process_loses_is_online_while_they_are_here() -> None:
    async with serving() as server:
        await server.sign_in("bob")
        server.bus.publish(Presence("bob", False, 1, "elsewhere"))
        assert server.presence.online("bob")


async def test_a_person_on_another_process_is_online_here() -> None:
    async with serving() as server:
        server.bus.publish(Presence("elsewhere", True, 1, "another"))
        assert server.presence.online("elsewhere")
        server.bus.publish(Presence("elsewhere", False, 2, "another"))
        assert not server.presence.online("elsewhere")


async def test_a_stop_writes_when_everybody_was_seen_last() -> None:
    async with serving() as server:
        await server.sign_in("alice")
        await server.sign_in("bob")
        stopping = asyncio.create_task(server.hub.close_all())
        await asyncio.gather(*(opened.close_code() for opened in server.sockets))
        await stopping
        await server.presence.close()
        assert [user_ids for user_ids, _ in server.seen] == [["alice", "bob"]]
