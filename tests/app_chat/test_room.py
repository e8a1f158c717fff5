"""One conversation kept up to date, over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import pytest

import hypersend_client.app.chat.room as room_module
from hypersend_client.app.chat.blocks import Plan
from hypersend_client.app.chat.model import Bubble, DayLine, UnreadLine
from hypersend_client.app.chat.room import PAGE, Room
from hypersend_client.app.state import AppState
from hypersend_client.sdk import HyperSend, MemoryTokenStore
from tests.app.fakes import FakeMemory
from tests.harness import PASSWORD
from tests.sdk.people import person, user_id
from tests.web.site import Site, site


@dataclass
class World:
    server: Site
    ann: HyperSend
    me: AppState
    chat_id: str


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(site(tmp_path, web_client="off"))
        ann = await stack.enter_async_context(person(server.url, "ann"))
        async with person(server.url, "meera") as meera:
            chat = await ann.chats.open_direct(user_id(meera))
        tokens = MemoryTokenStore()
        me = AppState(
            connect=lambda url: HyperSend(url, tokens=tokens), tokens=tokens, memory=FakeMemory(), built_in=server.url
        )
        stack.push_async_callback(me.close)
        await me.open()
        await me.sign_in("meera@example.org", PASSWORD)
        await me.hs.sync.wait_current()
        yield World(server, ann, me, chat.id)


async def until(room: Room, holds: Callable[[], bool]) -> None:
    """Wait from one change of the room to the next."""
    changed = asyncio.Event()
    listener = lambda *_: changed.set()  # noqa: E731 - held here, since a room holds its listeners weakly
    stop = room.subscribe(listener)
    try:
        async with asyncio.timeout(20):
            while not holds():
                changed.clear()
                await changed.wait()
    finally:
        stop()


def texts(room: Room) -> list[str]:
    return [line.text for line in reversed(room.lines) if isinstance(line, Bubble)]


async def open_room(world: World, *, at: int | None = None) -> Room:
    room = Room(world.me, world.chat_id, zone=UTC)
    await room.open(at=at)
    assert room.status == "ready"
    return room


async def say(world: World, count: int, *, start: int = 1) -> None:
    for n in range(start, start + count):
        await world.ann.messages.send(world.chat_id, f"line {n}")
    async with asyncio.timeout(20):
        while (chat := await world.me.hs.store.chat(world.chat_id)) is None or chat.seq < start + count - 1:
            await asyncio.sleep(0.02)


async def test_a_message_that_comes_is_shown_and_counts_as_read(world: World) -> None:
    room = await open_room(world)
    await world.ann.messages.send(world.chat_id, "Hello")
    await until(room, lambda: texts(room) == ["Hello"] and room.chat is not None and room.chat.unread == 0)
    async with asyncio.timeout(20):
        while not any(
            member.read_seq == 1
            for member in await world.ann.sync.members(world.chat_id, fresh=True)
            if member.user.id == world.me.me_id
        ):
            await asyncio.sleep(0.05)
    room.close()


async def test_what_is_sent_goes_from_the_clock_to_one_bubble_with_a_tick(world: World) -> None:
    room = await open_room(world)
    assert await room.send("  Hello  ")
    await until(room, lambda: texts(room) == ["Hello"] and room.lines[0].tick in ("sent", "delivered"))  # type: ignore[union-attr]
    room.close()


async def test_opening_with_many_unread_messages_begins_at_the_first_of_them(world: World) -> None:
    await say(world, 30)
    room = await open_room(world)
    assert [type(line) for line in room.lines[-2:]] == [UnreadLine, DayLine]
    assert texts(room)[0] == "line 1"
    assert room.forward
    assert room.below == 30
    assert not room.at_end
    chat = await world.me.hs.store.chat(world.chat_id)
    assert chat is not None
    assert chat.unread == 30
    await room.saw(20)
    await until(room, lambda: room.below == 10)
    await room.jump_to_end()
    await until(room, lambda: room.below == 0)
    assert room.at_end
    assert not room.forward
    room.close()


async def test_pages_come_in_at_the_top_until_the_beginning(world: World) -> None:
    await say(world, 2 * PAGE + 30)
    await world.me.hs.sync.mark_read(world.chat_id, 2 * PAGE + 30)
    room = await open_room(world)
    assert len(texts(room)) == PAGE
    assert room.has_older
    await room.older()
    assert len(texts(room)) == 2 * PAGE
    assert room.has_older
    await room.older()
    assert texts(room)[0] == "line 1"
    assert not room.has_older
    assert len(texts(room)) == 2 * PAGE + 30
    room.close()


async def test_what_comes_all_day_does_not_make_the_window_ever_larger(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_module, "PAGE", 10)
    monkeypatch.setattr(room_module, "MOST", 20)
    await say(world, 20)
    await world.me.hs.sync.mark_read(world.chat_id, 15)
    room = await open_room(world)
    assert any(isinstance(line, UnreadLine) for line in room.lines)
    await say(world, 10, start=21)
    await until(room, lambda: texts(room)[-1] == "line 30")
    assert texts(room)[0] == "line 11"
    await say(world, 1, start=31)
    await until(room, lambda: texts(room)[-1] == "line 31")
    assert texts(room)[0] == "line 22"
    assert not any(isinstance(line, UnreadLine) for line in room.lines)  # nothing of it is in the window any more
    await room.older()
    assert (texts(room)[0], texts(room)[-1]) == ("line 12", "line 31")
    room.scrolled(500, 5000, 120)  # what somebody looks at does not go away
    await say(world, 10, start=32)
    await until(room, lambda: room.below == 10)
    assert (texts(room)[0], texts(room)[-1]) == ("line 12", "line 31")
    room.close()


async def test_away_from_the_end_the_window_stays_and_counts_what_came(world: World) -> None:
    await say(world, 20)
    await world.me.hs.sync.mark_read(world.chat_id, 20)
    room = await open_room(world)
    room.scrolled(5000, 5000, 120)
    before = texts(room)
    await say(world, 2, start=21)
    await until(room, lambda: room.below == 2)
    assert texts(room) == before
    room.scrolled(0, 5000, 120)
    await until(room, lambda: texts(room)[-1] == "line 22" and room.below == 0)
    room.close()


async def test_jumping_to_a_message_shows_it_and_marks_it(world: World) -> None:
    await say(world, PAGE + 40)
    await world.me.hs.sync.mark_read(world.chat_id, PAGE + 40)
    room = await open_room(world)
    place = room.place
    await room.jump_to_seq(10)
    assert texts(room)[0] == "line 8"
    assert room.forward
    assert room.has_older
    assert room.place == place + 1
    marked = next(line for line in room.lines if isinstance(line, Bubble) and line.text == "line 10")
    assert room.highlight == marked.message_id
    assert texts(room)[-1] == f"line {7 + PAGE}"
    assert room.has_newer
    await room.newer()
    assert texts(room)[-1] == f"line {PAGE + 40}"
    assert not room.has_newer
    room.close()


async def test_a_list_that_is_turned_keeps_what_it_shows_and_goes_on_at_its_other_end(world: World) -> None:
    await say(world, PAGE + 40)
    await world.me.hs.sync.mark_read(world.chat_id, PAGE + 40)
    room = await open_room(world)
    await room.jump_to_seq(60)
    moves = room.moves
    room.reframe(Plan(58, 90, 321.0), forward=False)
    assert (room.forward, room.offset, room.moves) == (False, 321.0, moves + 1)
    assert (texts(room)[0], texts(room)[-1]) == ("line 58", "line 90")
    assert room.has_older
    assert room.has_newer
    await room.older()
    assert (texts(room)[0], texts(room)[-1]) == ("line 1", "line 90")
    room.reframe(Plan(80, 90, 0.0), forward=True)
    await room.newer()
    assert (texts(room)[0], texts(room)[-1]) == ("line 80", f"line {PAGE + 40}")
    assert room.has_older
    room.close()


async def test_blocking_in_a_chat_is_known_when_it_is_opened_again(world: World) -> None:
    room = await open_room(world)
    await until(room, lambda: room.blocked is False)
    await room.set_blocked(True)
    room.close()
    again = await open_room(world)
    await until(again, lambda: again.blocked is True)
    await again.set_blocked(False)
    assert await world.me.hs.me.blocks() == []
    again.close()


async def test_one_goes_back_to_change_the_last_message_of_ones_own(world: World) -> None:
    room = await open_room(world)
    assert not room.edit_last()
    await room.send("Mine")
    await until(room, lambda: bool(room.lines) and getattr(room.lines[0], "message", None) is not None)
    await world.ann.messages.send(world.chat_id, "Hers")
    await until(room, lambda: texts(room) == ["Mine", "Hers"])
    assert room.edit_last()
    assert room.editing is not None
    assert room.editing.text == "Mine"
    room.close()


async def test_editing_reacting_and_deleting_change_the_bubble(world: World) -> None:
    room = await open_room(world)
    await room.send("Helo")
    await until(room, lambda: bool(room.lines) and getattr(room.lines[0], "message", None) is not None)
    message = room.lines[0].message  # type: ignore[union-attr]
    assert message is not None
    room.edit(message)
    assert await room.send("Hello")
    assert room.editing is None
    await until(room, lambda: texts(room) == ["Hello"] and room.lines[0].edited)  # type: ignore[union-attr]
    await world.ann.messages.react(world.chat_id, message.id, "👍")
    await until(room, lambda: [r.emoji for r in room.lines[0].reactions] == ["👍"])  # type: ignore[union-attr]
    await room.react(message, "👍")
    await until(room, lambda: [r.count for r in room.lines[0].reactions] == [2])  # type: ignore[union-attr]
    await room.delete(message, for_everyone=True)
    await until(room, lambda: room.lines[0].deleted)  # type: ignore[union-attr]
    room.close()


async def test_deleted_for_me_goes_here_and_stays_there(world: World) -> None:
    room = await open_room(world)
    sent = await world.ann.messages.send(world.chat_id, "Not for me")
    await until(room, lambda: texts(room) == ["Not for me"])
    await room.delete(sent, for_everyone=False)
    await until(room, lambda: texts(room) == [])
    assert [m.text for m in (await world.ann.messages.page(world.chat_id)).items] == ["Not for me"]
    room.close()


async def test_a_message_that_was_refused_stays_and_can_be_given_up(world: World) -> None:
    room = await open_room(world)
    await world.ann.me.block(world.me.me_id)
    await room.send("Hello?")
    await until(room, lambda: bool(room.lines) and getattr(room.lines[0], "tick", "") == "failed")
    entry = room.lines[0].entry  # type: ignore[union-attr]
    assert entry is not None
    await room.discard(entry)
    await until(room, lambda: texts(room) == [])
    room.close()


async def test_a_draft_and_what_it_answers_survive_closing_the_conversation(world: World) -> None:
    sent = await world.ann.messages.send(world.chat_id, "Well?")
    room = await open_room(world)
    await until(room, lambda: texts(room) == ["Well?"])
    room.answer(sent)
    room.type("I think")
    room.close()
    again = await open_room(world)
    assert world.me.drafts[world.chat_id].text == "I think"
    assert again.reply is not None
    assert again.reply.id == sent.id
    again.close()
