from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from hypersend_storage.errors import StorageFull, StorageUnavailable
from hypersend_storage.pool import MAX_PARTS, Pool


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = Pool(2, "test")
    yield pool
    await pool.close()


class Sink:
    """Takes batches, one after another, when it is allowed to."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[list[bytes]] = []
        self.entered = threading.Event()
        self.open = threading.Event()
        if is_open:
            self.open.set()
        self._alone = threading.Lock()

    def __call__(self, parts: list[bytes]) -> None:
        assert self._alone.acquire(blocking=False)
        self.entered.set()
        assert self.open.wait(20)
        self.batches.append(parts)
        self._alone.release()

    @property
    def data(self) -> bytes:
        return b"".join(part for parts in self.batches for part in parts)


async def test_no_more_than_two_batches_are_in_memory_however_fast_the_body_comes(pool: Pool) -> None:
    sink = Sink(is_open=False)
    given = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(100):
            given += 1
            yield b"x" * 10

    feeding = asyncio.create_task(pool.feed(body(), sink, expected=1000, batch_bytes=50))
    assert await asyncio.to_thread(sink.entered.wait, 20)
    await asyncio.wait({feeding}, timeout=0.05)
    assert given == 10
    sink.open.set()
    assert await feeding == 1000
    assert sink.data == b"x" * 1000


async def test_a_batch_has_no_more_parts_than_one_system_call_takes(pool: Pool) -> None:
    sink = Sink()

    async def body() -> AsyncIterator[bytes]:
        for n in range(2 * MAX_PARTS + 1):
            yield bytes([n % 251])

    await pool.feed(body(), sink, expected=2 * MAX_PARTS + 1, batch_bytes=10**6)
    assert [len(parts) for parts in sink.batches] == [MAX_PARTS, MAX_PARTS, 1]


async def test_nothing_of_a_part_that_is_too_long_is_consumed(pool: Pool) -> None:
    sink = Sink()

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        yield b"defg"
        raise AssertionError("read on")

    assert await pool.feed(body(), sink, expected=6, batch_bytes=3) == 7
    assert sink.data == b"abc"


async def test_nothing_is_consumed_behind_a_failure(pool: Pool) -> None:
    consumed = []

    def full(parts: list[bytes]) -> None:
        consumed.append(b"".join(parts))
        raise StorageFull("no room")

    async def body() -> AsyncIterator[bytes]:
        yield b"aa"
        yield b"bb"
        yield b"cc"
        raise ConnectionResetError

    for expected in (6, 100):
        consumed.clear()
        with pytest.raises(StorageFull):
            await pool.feed(body(), full, expected=expected, batch_bytes=2)
        assert consumed == [b"aa"]


async def test_what_arrived_before_a_cancellation_is_consumed_before_it_goes_on(pool: Pool) -> None:
    sink = Sink(is_open=False)
    stalled = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"aaa"
        yield b"b"
        stalled.set()
        await asyncio.Event().wait()

    feeding = asyncio.create_task(pool.feed(body(), sink, expected=100, batch_bytes=3))
    await stalled.wait()
    feeding.cancel()
    assert not (await asyncio.wait({feeding}, timeout=0.05))[0]
    sink.open.set()
    with pytest.raises(asyncio.CancelledError):
        await feeding
    assert sink.data == b"aaab"


async def test_a_time_limit_around_work_still_ends_as_one(pool: Pool) -> None:
    go_on = threading.Event()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await pool.run(go_on.wait, 20)
    assert go_on.is_set()


async def test_a_closed_pool_takes_no_work(pool: Pool) -> None:
    await pool.close()
    with pytest.raises(StorageUnavailable):
        await pool.run(len, b"")
