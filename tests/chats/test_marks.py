"""Marks are written at most once a second a member and chat, and none is lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypersend_server.app import PARTS
from hypersend_server.chats.marks import MarkWriter
from hypersend_server.chats.present import ChatPresenter
from hypersend_server.chats.publisher import MAX_MARKED_MEMBERS, Publisher
from hypersend_server.errors import HyperSendError
from hypersend_server.files.present import FilePresenter
from hypersend_server.metadata.chats import Draft
from hypersend_server.realtime.bus_local import LocalBus
from hypersend_server.realtime.events import AnyEvent, Frame
from hypersend_server.resources import User
from tests.chats.world import World, opened, prepare
from tests.harness import running

CROWD = [f"p{n:03d}" for n in range(MAX_MARKED_MEMBERS + 1)]


async def nobody(ids: Collection[str], viewer_id: str) -> Mapping[str, User]:
    return {}


class Room:
    def __init__(self, world: World, interval_s: float) -> None:
        self.world = world
        self.frames: list[tuple[list[str], dict[str, object]]] = []
        self.heard = asyncio.Event()
        bus = LocalBus()
        bus.subscribe(self.hear)
        publisher = Publisher(bus, ChatPresenter(nobody, FilePresenter(str), str))
        self.marks = MarkWriter(world.chats, publisher, interval_s)

    def hear(self, event: AnyEvent) -> None:
        assert isinstance(event, Frame)
        self.frames.append((event.user_ids, msgspec.json.decode(event.frame)))
        self.heard.set()

    async def stored(self, user_id: str = "bob") -> tuple[object, ...]:
        [row] = await self.world.rows(
            "SELECT delivered_seq, read_seq, changed FROM members WHERE user_id = ? AND chat_id = 'g'", user_id
        )
        return row


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    prepare(tmp_path / "db", ["alice", "bob", *CROWD])
    async with opened(tmp_path / "db") as world:
        await world.chats.create_group("alice", ["bob"], "t", "all", "g", "made", 1)
        for n in range(20):
            await world.chats.append(
                Draft(id=f"m{n}", chat_id="g", sender_id="alice", client_id=str(n), text="x", now=1), -1
            )
        yield world


async def test_a_burst_of_marks_is_two_writes(world: World) -> None:
    room = Room(world, interval_s=0.05)
    for seq in range(1, 15):
        await room.marks.mark("bob", "g", delivered_seq=seq, read_seq=seq, until_written=False)
    assert (await room.stored())[:2] == (1, 1)
    room.heard.clear()
    await asyncio.wait_for(room.heard.wait(), 5)
    assert (await room.stored())[:2] == (14, 14)
    assert [frame["seq"] for _, frame in room.frames] == [1, 14]
    await room.marks.close()


async def test_who_looks_sees_their_own_marks_and_closing_loses_none(world: World) -> None:
    room = Room(world, interval_s=60)
    for seq in (1, 5):
        await room.marks.mark("bob", "g", read_seq=seq, until_written=False)
    await room.marks.flush("bob")
    assert (await room.stored())[:2] == (5, 5)
    await room.marks.mark("bob", "g", delivered_seq=9, until_written=False)
    await room.marks.close()
    assert (await room.stored())[:2] == (9, 5)


@pytest.mark.parametrize("ends", ["it is over", "its person looks", "the server stops"])
async def test_who_marks_is_answered_when_it_is_written(world: World, ends: str) -> None:
    room = Room(world, interval_s=0.2 if ends == "it is over" else 60)
    await room.marks.mark("bob", "g", read_seq=1)
    waiting = [asyncio.create_task(room.marks.mark("bob", "g", read_seq=seq)) for seq in (7, 6)]
    await asyncio.sleep(0.02)
    assert not any(task.done() for task in waiting)
    assert (await room.stored())[1] == 1
    waiting[1].cancel()  # the first still waits
    if ends == "its person looks":
        await room.marks.flush("bob")
    elif ends == "the server stops":
        await room.marks.close()
    await asyncio.wait_for(waiting[0], 5)
    assert (await room.stored())[1] == 7
    await room.marks.close()


async def test_what_waited_is_told_though_its_person_looked_and_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(world, interval_s=60)
    write, written, go_on = world.chats.set_marks, asyncio.Event(), asyncio.Event()

    async def slow(*given: Any) -> Any:
        found = await write(*given)
        written.set()
        await go_on.wait()
        return found

    for seq in (1, 5):
        await room.marks.mark("bob", "g", read_seq=seq, until_written=False)
    monkeypatch.setattr(world.chats, "set_marks", slow)
    looking = asyncio.create_task(room.marks.flush("bob"))
    await written.wait()
    looking.cancel()
    await asyncio.wait([looking])
    room.heard.clear()
    go_on.set()
    await asyncio.wait_for(room.heard.wait(), 5)
    assert room.frames[-1][1]["seq"] == 5
    await room.marks.close()


async def test_who_marks_hears_why_it_was_not_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(world, interval_s=0.05)
    await room.marks.mark("bob", "g", read_seq=1)

    async def fails(*_: object) -> None:
        raise HyperSendError("metadata_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(world.chats, "set_marks", fails)
        told = await asyncio.gather(
            *(room.marks.mark("bob", "g", read_seq=seq) for seq in (2, 3)), return_exceptions=True)
    assert [str(getattr(error, "code", error)) for error in told] == ["metadata_unavailable"] * 2
    await room.marks.mark("bob", "g", read_seq=2)
    assert (await room.stored())[1] == 2
    await room.marks.close()


async def test_who_waits_behind_a_first_mark_that_fails_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room(world, interval_s=60)
    write, may_fail, calls = world.chats.set_marks, asyncio.Event(), 0

    async def fails_once(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return await write(*given)
        await may_fail.wait()
        raise HyperSendError("metadata_unavailable")

    monkeypatch.setattr(world.chats, "set_marks", fails_once)
    first, second = (asyncio.create_task(room.marks.mark("bob", "g", read_seq=seq)) for seq in (1, 2))
    await asyncio.sleep(0.02)
    may_fail.set()
    with pytest.raises(HyperSendError, match="metadata_unavailable"):
        await first
    await asyncio.wait_for(second, 5)
    assert (await room.stored())[1] == 2
    await room.marks.close()


async def test_marks_that_change_nothing_write_nothing(world: World) -> None:
    room = Room(world, interval_s=0.001)
    await room.marks.mark("bob", "g", read_seq=5)
    before = await room.stored()
    await room.marks.flush("bob")
    await room.marks.mark("bob", "g", read_seq=3, until_written=False)
    await room.marks.close()
    assert await room.stored() == before
    assert len(room.frames) == 1


async def test_a_stranger_cannot_mark(world: World) -> None:
    room = Room(world, interval_s=60)
    for _ in range(2):
        with pytest.raises(HyperSendError, match="not_found"):
            await room.marks.mark("p000", "g", read_seq=1)
    await room.marks.close()


async def test_in_a_large_group_marks_go_to_ones_own_devices(world: World) -> None:
    await world.chats.add_members("g", "alice", CROWD, "n", 2)
    room = Room(world, interval_s=60)
    await room.marks.mark("bob", "g", read_seq=3)
    assert room.frames == [(["bob"], {"type": "read", "chat_id": "g", "user_id": "bob", "seq": 3})]
    await room.marks.close()


async def test_marks_whose_viewers_cannot_be_read_are_caught_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> Any:
        raise HyperSendError("metadata_unavailable")

    async with running(tmp_path) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        chat_id = (await alice.post("/chats", {"kind": "direct", "user_id": bob.id})).json["id"]
        await alice.post(f"/chats/{chat_id}/messages", {"client_id": "1", "text": "tea"})
        live, own = await alice.socket(), await bob.socket()
        monkeypatch.setattr(server.app[PARTS].chats._publisher, "_unblocked", fails)
        assert (await bob.post(f"/chats/{chat_id}/read", {"seq": 1})).status == 204
        assert (await live.receive())["type"] == "resync"
        assert (await own.until("read"))["seq"] == 1
