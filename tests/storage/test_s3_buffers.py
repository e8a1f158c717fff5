from __future__ import annotations

import asyncio

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


async def waiting(buffers: Buffers, size: int) -> asyncio.Task[Buffer]:
    """A stream that asks for room and has had every chance to get it."""
    task = asyncio.create_task(buffers.take(size))
    for _ in range(3):
        await asyncio.sleep(0)
    return task


async def test_a_stream_waits_until_there_is_room() -> None:
    buffers = Buffers(10)
    first = await buffers.take(8)
    second = await waiting(buffers, 3)
    assert not second.done()
    buffers.give_back(first)
    await second
    assert buffers.used_bytes == 3


async def test_who_asked_first_is_first_even_if_less_would_fit() -> None:
    buffers = Buffers(10)
    held = await buffers.take(6)
    large, small = await waiting(buffers, 8), await waiting(buffers, 1)
    assert not large.done()
    assert not small.done()
    buffers.give_back(held)
    await large
    await small


async def test_a_prefix_stays_until_its_room_is_needed_and_the_oldest_goes_first() -> None:
    buffers = Buffers(10)
    for index in range(3):
        buffers.keep(("key", index), await buffers.take(3))
    assert buffers.used_bytes == 9
    await buffers.take(3)
    assert buffers.kept(("key", 0)) is None
    assert buffers.kept(("key", 1)) is not None
    assert buffers.kept(("key", 2)) is not None


async def test_the_prefixes_of_an_upload_that_ended_make_room() -> None:
    buffers = Buffers(10)
    for key in ("one", "other"):
        buffers.keep((key, 0), await buffers.take(4))
    buffers.forget("one")
    assert buffers.used_bytes == 4
    assert buffers.kept(("other", 0)) is not None


async def test_a_stream_that_stops_waiting_takes_nothing() -> None:
    buffers = Buffers(10)
    held = await buffers.take(10)
    gone, stays = await waiting(buffers, 10), await waiting(buffers, 10)
    gone.cancel()
    buffers.give_back(held)
    await stays
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert buffers.used_bytes == 10


async def test_room_that_comes_with_the_cancellation_is_not_lost() -> None:
    buffers = Buffers(10)
    held = await buffers.take(10)
    gone = await waiting(buffers, 10)
    buffers.give_back(held)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert buffers.used_bytes == 0


async def test_a_chunk_that_can_never_fit_is_refused() -> None:
    with pytest.raises(ValueError):
        await Buffers(10).take(11)


class BuffersMachine(RuleBasedStateMachine):
    """Streams come, go, leave prefixes and give up in any order; the sum holds and nobody waits beside free room."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.buffers = Buffers(10)
        self.held: list[Buffer] = []
        self.tasks: list[asyncio.Task[Buffer]] = []
        self.kept: dict[int, int] = {}

    def settle(self) -> None:
        async def turns() -> None:
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            if not task.cancelled():
                self.held.append(task.result())

    @rule(size=st.integers(1, 10))
    def take(self, size: int) -> None:
        self.tasks.append(self.loop.create_task(self.buffers.take(size)))
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
        if self.tasks:
            assert kept == 0
            assert self.held

    def teardown(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.settle()
        self.loop.close()


def test_the_budget_holds_whatever_streams_do() -> None:
    run_state_machine_as_test(BuffersMachine)
