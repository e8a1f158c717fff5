"""Events between processes over a real Redis: in order, once, and never lost without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from hypersend_server.clock import system_clock
from hypersend_server.errors import HyperSendError
from hypersend_server.realtime import bus_redis
from hypersend_server.realtime.bus_redis import RedisBus
from hypersend_server.realtime.events import (
    AnyEvent,
    BusRefused,
    ChatChanged,
    Frame,
    Joined,
    PeopleHere,
    Resync,
    SessionsEnded,
)
from hypersend_server.realtime.presence import PresenceTracker
from tests.mongo_server import free_port
from tests.redis_server import RedisServer

LONG_S = 60.0


class Ear:
    """What one process hears, without the talk of the bus itself."""

    def __init__(self, bus: RedisBus) -> None:
        self.bus = bus
        self.heard: list[AnyEvent] = []
        self._more = asyncio.Event()
        bus.subscribe(self._hear)

    def _hear(self, event: AnyEvent) -> None:
        if not isinstance(event, Joined | PeopleHere):
            self.heard.append(event)
        self._more.set()

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(LONG_S):
            while not ready():
                self._more.clear()
                await self._more.wait()

    def frames(self) -> list[bytes]:
        return [event.frame for event in self.heard if isinstance(event, Frame)]

    def resyncs(self) -> int:
        return sum(isinstance(event, Resync) for event in self.heard)


@asynccontextmanager
async def buses(url: str, *names: str, channel: str = "hypersend:test") -> AsyncIterator[list[Ear]]:
    ears = [Ear(RedisBus(url, channel, name, pulse_s=0.1, silent_s=3, retry_s=0.05)) for name in names]
    try:
        for ear in ears:
            await ear.bus.start()
        yield ears
    finally:
        for ear in ears:
            await ear.bus.close()


async def until_well(bus: RedisBus) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                await bus.check()
                return
            except HyperSendError:
                await asyncio.sleep(0.02)


async def until_ill(bus: RedisBus) -> None:
    async with asyncio.timeout(LONG_S):
        while True:
            try:
                await bus.check()
            except HyperSendError:
                return
            await asyncio.sleep(0.02)


async def test_an_event_is_heard_once_by_every_process_and_at_once_by_its_own(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a", "b", "c") as (a, b, c):
        event = SessionsEnded("alice", ["s1"])
        a.bus.publish(event)
        assert a.heard == [event]
        a.bus.publish(ChatChanged("last", ["bob"]))
        for ear in (b, c):
            await ear.until(lambda ear=ear: len(ear.heard) == 2)  # type: ignore[misc]
            assert ear.heard == [event, ChatChanged("last", ["bob"])]
        b.bus.publish(Frame(["alice"], b"{}"))
        await a.until(lambda: len(a.frames()) == 1)
        assert len(a.heard) == 3


async def test_ten_thousand_events_in_a_burst_arrive_in_order_from_both_sides(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a", "b") as (a, b):
        for number in range(10_000):
            a.bus.publish(Frame(["bob"], b"a%d" % number))
            b.bus.publish(Frame(["alice"], b"b%d" % number))
        wanted = {name: [b"%s%d" % (name, number) for number in range(10_000)] for name in (b"a", b"b")}
        await a.until(lambda: len(a.frames()) == 20_000)
        await b.until(lambda: len(b.frames()) == 20_000)
        assert [frame for frame in b.frames() if frame[:1] == b"a"] == wanted[b"a"]
        assert [frame for frame in a.frames() if frame[:1] == b"b"] == wanted[b"b"]
        assert a.resyncs() == b.resyncs() == 0


async def test_another_device_of_the_session_is_told_where_only_the_sender_knows(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a", "b") as (a, b):
        a.bus.publish(Frame(["alice"], b"{}", except_session="s1"))
        await b.until(lambda: len(b.frames()) == 1)
        assert b.heard == [Frame(["alice"], b"{}", None)]
        assert a.heard == [Frame(["alice"], b"{}", "s1")]


async def test_deployments_that_share_a_redis_do_not_hear_each_other(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a", "b") as (a, b), buses(redis_server.url, "x", channel="hypersend:x") as (x,):
        a.bus.publish(Frame(["alice"], b"ours"))
        await b.until(lambda: len(b.frames()) == 1)
        x.bus.publish(Frame(["alice"], b"theirs"))
        a.bus.publish(Frame(["alice"], b"ours too"))
        await b.until(lambda: len(b.frames()) == 2)
        assert b.frames() == [b"ours", b"ours too"]
        assert x.frames() == [b"theirs"]


async def test_redis_gone_for_a_while_makes_everyone_sync_and_goes_on_by_itself(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a", "b") as (a, b):
        redis_server.kill()
        await until_ill(a.bus)
        await until_ill(b.bus)
        a.bus.publish(Frame(["bob"], b"while it was away"))  # neither waits nor fails
        assert a.frames() == [b"while it was away"]
        await asyncio.to_thread(redis_server.start)
        await a.until(lambda: a.resyncs() > 0)
        await b.until(lambda: b.resyncs() > 0)
        await until_well(a.bus)
        await until_well(b.bus)
        a.bus.publish(Frame(["bob"], b"after"))
        await b.until(lambda: b"after" in b.frames())


async def test_a_redis_that_answers_nothing_is_noticed(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a", "b") as (a, b):
        redis_server.freeze()
        await until_ill(b.bus)
        a.bus.publish(Frame(["bob"], b"unheard"))
        redis_server.thaw()
        await b.until(lambda: b.resyncs() > 0)
        await until_well(b.bus)


async def test_what_could_not_be_sent_is_owned_up_to(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the queue takes: the others sync, since events were dropped."""
    monkeypatch.setattr(bus_redis, "MAX_WAITING_BYTES", 10_000)
    async with buses(redis_server.url, "a", "b") as (a, b):
        for number in range(200):
            a.bus.publish(Frame(["bob"], b"%d" % number + b"." * 100))
        assert len(a.frames()) == 200
        await b.until(lambda: b.resyncs() > 0)
        a.bus.publish(Frame(["bob"], b"after"))
        await b.until(lambda: b"after" in b.frames())
        assert a.resyncs() == 0


async def test_redis_away_at_start_is_waited_for(redis_server: RedisServer) -> None:
    redis_server.kill()
    async with buses(redis_server.url, "a", "b") as (a, b):
        with pytest.raises(HyperSendError):
            await a.bus.check()
        await asyncio.to_thread(redis_server.start)
        await until_well(a.bus)
        await until_well(b.bus)
        a.bus.publish(Frame(["bob"], b"hello"))
        await b.until(lambda: b"hello" in b.frames())


async def test_a_wrong_password_is_refused_without_being_shown(redis_server: RedisServer) -> None:
    guarded = RedisServer(redis_server._folder.parent / "guarded", password="right")
    guarded.start()
    try:
        for url in (f"redis://:swordfish@127.0.0.1:{guarded.port}/0", f"redis://127.0.0.1:{guarded.port}"):
            bus = RedisBus(url, "hypersend:test", "a")
            with pytest.raises(BusRefused, match=f"REDIS_URL.*127.0.0.1:{guarded.port} refuses") as refused:
                await bus.start()
            assert "swordfish" not in str(refused.value)
            await bus.close()
        async with buses(guarded.url, "a", "b") as (a, b):
            a.bus.publish(Frame(["bob"], b"hello"))
            await b.until(lambda: b.frames() == [b"hello"])
    finally:
        guarded.kill()


async def test_what_nobody_can_read_makes_clients_sync(redis_server: RedisServer) -> None:
    async with buses(redis_server.url, "a") as (a,):
        await a.bus._redis.publish("hypersend:test", b"\x00 no batch")
        await a.until(lambda: a.resyncs() == 1)
        a.bus.publish(Frame(["bob"], b"goes on"))
        assert a.frames() == [b"goes on"]


async def test_publishing_without_redis_neither_waits_nor_grows() -> None:
    bus = RedisBus(f"redis://127.0.0.1:{free_port()}", "hypersend:test", "a", retry_s=0.05)
    await bus.start()
    try:
        for _ in range(1000):
            bus.publish(Frame(["bob"], b"x" * 100_000))
        assert bus._waiting_bytes <= bus_redis.MAX_WAITING_BYTES
    finally:
        await bus.close()


# Presence


async def nobody(viewer_id: str, user_ids: object) -> dict[str, int | None]:
    return {}


def tracker(ear: Ear, process: str, seen: list[tuple[list[str], int]]) -> PresenceTracker:
    async def record(user_ids: object, at: int) -> None:
        seen.append((sorted(user_ids), at))  # type: ignore[call-overload]

    return PresenceTracker(ear.bus, nobody, record, system_clock, 0.01, process)


async def test_people_are_online_wherever_they_are_connected(redis_server: RedisServer) -> None:
    seen: list[tuple[list[str], int]] = []
    async with buses(redis_server.url, "a", "b") as (a, b):
        at_a, at_b = tracker(a, "a", seen), tracker(b, "b", seen)
        at_a.opened("alice")
        await b.until(lambda: at_b.online("alice"))
        at_b.opened("alice")
        await a.until(lambda: at_a._online["alice"] == ("a", "b"))
        at_a.closed("alice")
        await b.until(lambda: at_b._online["alice"] == ("b",))
        assert at_a.online("alice")
        at_b.closed("alice")
        await a.until(lambda: not at_a.online("alice"))
        assert not at_b.online("alice")
        await at_a.close()
        await at_b.close()


async def test_a_process_that_starts_learns_who_is_online(redis_server: RedisServer) -> None:
    seen: list[tuple[list[str], int]] = []
    async with buses(redis_server.url, "a") as (a,):
        at_a = tracker(a, "a", seen)
        at_a.opened("alice")
        bus = RedisBus(redis_server.url, "hypersend:test", "b", pulse_s=0.1)
        late = Ear(bus)
        at_b = tracker(late, "b", seen)
        await bus.start()
        await late.until(lambda: at_b.online("alice"))
        await at_b.close()
        await bus.close()
        await at_a.close()


async def test_who_left_while_redis_was_away_is_offline_when_it_is_back(redis_server: RedisServer) -> None:
    seen: list[tuple[list[str], int]] = []
    async with buses(redis_server.url, "a", "b") as (a, b):
        at_a, at_b = tracker(a, "a", seen), tracker(b, "b", seen)
        at_a.opened("alice")
        at_a.opened("carol")
        await b.until(lambda: at_b.online("alice") and at_b.online("carol"))
        redis_server.kill()
        await until_ill(a.bus)
        at_a.closed("alice")
        await a.until(lambda: not at_a.online("alice"))
        assert at_b.online("alice")
        await asyncio.to_thread(redis_server.start)
        await b.until(lambda: not at_b.online("alice"))
        assert at_b.online("carol")
        await at_a.close()
        await at_b.close()


async def test_people_of_a_process_that_died_are_offline_and_seen_last_then(redis_server: RedisServer) -> None:
    seen: list[tuple[list[str], int]] = []
    async with buses(redis_server.url, "a", "b") as (a, b):
        at_a, at_b = tracker(a, "a", seen), tracker(b, "b", seen)
        at_a.opened("alice")
        at_a.opened("carol")
        at_b.opened("carol")
        await b.until(lambda: at_b.online("alice") and at_b.online("carol"))
        at_b.process_ended("a", 1_769_851_800_000)
        assert not at_b.online("alice")
        assert at_b.online("carol")
        await at_b.close()
        assert (["alice"], 1_769_851_800_000) in seen
        await at_a.close()
