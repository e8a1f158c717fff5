from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hypersend_storage.s3_buffers import Buffer, Buffers


async def waiting(buffers: Buffers, size: int, owner: str) -> asyncio.Task[Buffer]:
    """A stream that asks for room and has had every chance to get it."""
    task = asyncio.create_task(buffers.take(size, owner))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_a_stream_waits_until_there_is_room() -> None:
    buffers = Buffers(10)
    first = await buffers.take(8, "asha")
    second = await waiting(buffers, 3, "ben")
    assert not second.done()
    buffers.give_back(first)
    await second
    assert buffers.used_bytes == 3


async def test_who_asked_first_is_first_even_if_less_would_fit() -> None:
    buffers = Buffers(10)
    held = await buffers.take(6, "asha")
    large, small = await waiting(buffers, 8, "ben"), await waiting(buffers, 1, "chitra")
    assert not large.done()
    assert not small.done()
    buffers.give_back(held)
    await large
    await small


async def test_streams_of_one_person_leave_half_to_others() -> None:
    buffers = Buffers(10)
    held = [await buffers.take(2, "asha"), await buffers.take(3, "asha")]
    third = await waiting(buffers, 1, "asha")
    await (await waiting(buffers, 5, "ben"))
    assert not third.done()
    buffers.give_back(held.pop())
    await third
    # What she goes on with counts again, what she left does not.
    buffers.keep(("key", 0), held.pop())
    fourth = await waiting(buffers, 4, "asha")
    await fourth
    assert buffers.kept(("key", 0)) is None


async def test_whoever_goes_on_with_prefixes_gets_no_more_than_half_by_that() -> None:
    buffers = Buffers(10)
    for index in range(5):
        buffers.keep(("key", index), await buffers.take(2, "asha"))
    found = [buffers.kept(("key", index)) for index in range(5)]
    assert [buffer is not None for buffer in found] == [True, True, False, False, False]
    assert buffers.used_bytes == 4


async def test_a_chunk_larger_than_half_is_taken_from_whoever_has_none() -> None:
    assert len((await Buffers(10).take(10, "asha")).data) == 10


async def test_a_prefix_stays_until_its_room_is_needed_and_the_oldest_goes_first() -> None:
    buffers = Buffers(10)
    for index in range(3):
        buffers.keep(("key", index), await buffers.take(3, f"person {index}"))
    assert buffers.used_bytes == 9
    await buffers.take(3, "asha")
    assert buffers.kept(("key", 0)) is None
    assert buffers.kept(("key", 1)) is not None
    assert buffers.kept(("key", 2)) is not None


async def test_the_prefixes_of_an_upload_that_ended_make_room() -> None:
    buffers = Buffers(10)
    for key in ("one", "other"):
        buffers.keep((key, 0), await buffers.take(4, "asha"))
    buffers.forget("one")
    assert buffers.used_bytes == 4
    assert buffers.kept(("other", 0)) is not None


async def test_a_stream_that_stops_waiting_takes_nothing() -> None:
    buffers = Buffers(10)
    held = await buffers.take(10, "asha")
    gone, stays = await waiting(buffers, 10, "ben"), await waiting(buffers, 10, "chitra")
    gone.cancel()
    buffers.give_back(held)
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert buffers.used_bytes == 10


async def test_room_that_comes_with_the_cancellation_is_not_lost() -> None:
    buffers = Buffers(10)
    held = await buffers.take(10, "asha")
    gone = await waiting(buffers, 10, "ben")
    buffers.give_back(held)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert buffers.used_bytes == 0


async def test_a_chunk_that_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError):
        await Buffers(10).take(11, "asha")


class BuffersMachine(RuleBasedStateMachine):
    """Streams come, go, leave prefixes and give up in any order; the sum holds and nobody waits beside free room."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.buffers = Buffers(10)
        self.held: list[Buffer] = []
        self.alone: set[str] = set()
        self.tasks: list[asyncio.Task[Buffer]] = []
        self.asked: dict[asyncio.Task[Buffer], tuple[int, str]] = {}

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                self.held.append(task.result())
        # A chunk of more than half is taken by whoever has nothing, and then has nothing beside it.
        self.alone = {buffer.owner for buffer in self.held if len(buffer.data) > 5}
        assert all(sum(buffer.owner == owner for buffer in self.held) == 1 for owner in self.alone)

    @rule(size=st.integers(1, 10), owner=st.sampled_from(["asha", "ben", "chitra"]))
    def take(self, size: int, owner: str) -> None:
        task = self.loop.create_task(self.buffers.take(size, owner))
        self.tasks.append(task)
        self.asked[task] = (size, owner)
        self.settle()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.buffers.give_back(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))
        self.settle()

    @precondition(lambda self: self.held)
    @rule(index=st.integers(0, 3))
    def keep(self, index: int) -> None:
        self.buffers.keep(("key", index), self.held.pop())
        self.settle()

    @rule(index=st.integers(0, 3))
    def go_on(self, index: int) -> None:
        found = self.buffers.kept(("key", index))
        if found is not None:
            self.held.append(found)
        self.settle()

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), with_room=st.booleans())
    def give_up(self, data: st.DataObject, with_room: bool) -> None:
        if with_room and self.held:
            self.buffers.give_back(self.held.pop())
        self.tasks[data.draw(st.integers(0, len(self.tasks) - 1))].cancel()
        self.settle()

    @invariant()
    def holds(self) -> None:
        kept = sum(len(buffer.data) for buffer in self.buffers._kept.values())
        assert self.buffers.used_bytes == kept + sum(len(buffer.data) for buffer in self.held) <= 10
        memory = [buffer.data for buffer in (*self.held, *self.buffers._kept.values())] + list(self.buffers._idle)
        assert sum(map(len, memory)) <= 10
        assert len({id(data) for data in memory}) == len(memory)  # nobody writes into another one's
        held: Counter[str] = Counter()
        for buffer in self.held:
            held[buffer.owner] += len(buffer.data)
        assert self.buffers._held == held
        assert all(size <= 5 or owner in self.alone for owner, size in held.items())
        assert self.waits(held, kept) == {id(task) for task in self.tasks}

    def waits(self, held: Counter[str], kept: int) -> set[int]:
        """Those who must wait: with too much already, or behind one for whom there is no room."""
        has_room = True
        found = set()
        for task in self.tasks:
            size, owner = self.asked[task]
            if held[owner] and held[owner] + size > 5:
                found.add(id(task))
                continue
            has_room = has_room and sum(held.values()) + size <= 10
            if not has_room:
                found.add(id(task))
        if not has_room:
            assert kept == 0
        return found

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.settle()
        self.loop.close()


def test_the_budget_holds_whatever_streams_do() -> None:
    run_state_machine_as_test(BuffersMachine)
