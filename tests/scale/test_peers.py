"""Leases: who is there, who died, and whose turn the recurring work is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.server import ServerRecords
from hypersend_server.metadata.sqlite import SqliteMetadata
from hypersend_server.peers import FORGET_AFTER_S, PREFIX, Peers
from tests.harness import SettableClock


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[ServerRecords]:
    metadata = SqliteMetadata(tmp_path / "m.sqlite")
    await metadata.open()
    yield metadata.server
    await metadata.close()


class Process(Peers):
    def __init__(self, records: ServerRecords, name: str, clock: SettableClock, takes_jobs: bool = True,
                 monotonic: Callable[[], float] | None = None, beat_s: float = 3600) -> None:
        self.ends: list[tuple[str, bool]] = []
        self.beats = 0
        super().__init__(records, name, lambda process, died: self.ends.append((process, died)), clock,
                         takes_jobs=takes_jobs, beat_s=beat_s, lease_s=10,
                         monotonic=monotonic or (lambda: clock() / 1000))

    async def beat(self) -> None:
        try:
            await super().beat()
        finally:
            self.beats += 1

    async def two_beats(self) -> None:
        """The second one began after this was called."""
        wanted = self.beats + 2
        async with asyncio.timeout(30):
            while self.beats < wanted:
                await asyncio.sleep(0.01)


async def test_a_process_that_dies_is_noticed_once_by_each_other(records: ServerRecords) -> None:
    clock = SettableClock()
    a, b, c = (Process(records, name, clock) for name in "abc")
    for _ in range(2):
        for process in (a, b, c):
            await process.beat()
    assert b.others == {"a", "c"}
    clock.advance(9)
    await b.beat()
    await c.beat()
    clock.advance(2)  # a renewed nothing for 11 s
    for _ in range(3):
        await b.beat()
        await c.beat()
    assert b.ends == c.ends == [("a", True)]
    assert b.others == {"c"}


async def test_a_process_that_stops_makes_no_fuss(records: ServerRecords) -> None:
    clock = SettableClock()
    a, b = Process(records, "a", clock), Process(records, "b", clock)
    await a.beat()
    await b.beat()
    await a.close()
    await b.beat()
    assert b.ends == [("a", False)]
    assert b.others == frozenset()


async def test_recurring_work_is_one_process_s_and_passes_on(records: ServerRecords) -> None:
    clock = SettableClock()
    a, b, idle = Process(records, "a", clock), Process(records, "b", clock), Process(records, "i", clock, False)
    for process in (a, b, idle):
        await process.beat()
    assert [process.does_jobs() for process in (a, b, idle)] == [True, False, False]
    done: list[str] = []

    async def job() -> None:
        done.append("x")

    await b.when_chosen(job)()
    assert done == []
    clock.advance(11)  # a died
    assert not a.does_jobs()  # and would know it, were it only frozen
    await idle.beat()
    await b.beat()
    assert [process.does_jobs() for process in (a, b, idle)] == [False, True, False]
    await b.when_chosen(job)()
    assert done == ["x"]
    await b.close()
    await a.beat()
    assert a.does_jobs()


async def test_what_a_dead_process_left_is_cleared_away_in_the_end(records: ServerRecords) -> None:
    clock = SettableClock()
    a, b = Process(records, "a", clock), Process(records, "b", clock)
    await a.beat()
    await b.beat()
    clock.advance(20)
    await b.beat()
    assert [name for name, _ in await records.leases(PREFIX)] == [PREFIX + "a", PREFIX + "b"]
    clock.advance(FORGET_AFTER_S + 1)
    await b.beat()
    assert [name for name, _ in await records.leases(PREFIX)] == [PREFIX + "b"]
    assert b.ends == [("a", True)]


async def test_recurring_work_passes_on_from_a_process_that_died_while_its_clock_was_ahead(
    records: ServerRecords,
) -> None:
    """Found by chaos: nobody did it for the twenty minutes that the clock had been ahead."""
    time, wrong = SettableClock(), SettableClock()
    wrong.advance(1200)
    a = Process(records, "a", wrong, monotonic=lambda: time() / 1000)
    b = Process(records, "b", time)
    await a.beat()
    for _ in range(4):
        await b.beat()
        time.advance(3)
    assert b.others == {"a"}
    assert not b.does_jobs()
    for _ in range(2):
        time.advance(3)
        await b.beat()
    assert b.ends == [("a", True)]
    assert b.does_jobs()


async def test_a_living_process_whose_clock_is_hours_behind_is_not_cleared_away(records: ServerRecords) -> None:
    time, wrong = SettableClock(), SettableClock()
    wrong.advance(-7200)
    a = Process(records, "a", wrong, False, monotonic=lambda: time() / 1000)
    c = Process(records, "c", time)
    await a.beat()
    await c.beat()
    await a.beat()
    await c.beat()
    assert c.others == {"a"}
    b = Process(records, "b", time)
    await b.beat()  # to which it looks as if it had ended long ago
    await c.beat()
    assert (c.others, c.ends) == ({"a", "b"}, [])


async def test_a_machine_that_was_suspended_does_no_work_that_passed_on(records: ServerRecords) -> None:
    time, asleep = SettableClock(), SettableClock()
    a, b = Process(records, "a", time, monotonic=lambda: asleep() / 1000), Process(records, "b", time)
    await a.beat()
    time.advance(600)
    await b.beat()
    assert (a.does_jobs(), b.does_jobs()) == (False, True)


async def test_what_another_process_s_clock_says_of_who_is_there_does_not_matter(records: ServerRecords) -> None:
    time, wrong = SettableClock(), SettableClock()
    a = Process(records, "a", wrong, False, monotonic=lambda: time() / 1000)
    b = Process(records, "b", time)
    for jump_s in (0, -7200, 7200, 7200, -14_400):
        wrong.advance(jump_s)
        for _ in range(6):
            await a.beat()
            await b.beat()
            time.advance(3)
            wrong.advance(3)
        assert b.others == {"a"}
        assert a.others == {"b"}
    assert a.ends == b.ends == []


async def test_who_could_not_renew_while_the_database_was_away_has_not_died(
    records: ServerRecords, monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> bool:
        raise HyperSendError("metadata_unavailable")

    clock = SettableClock()
    a, b = Process(records, "a", clock), Process(records, "b", clock, beat_s=0.01)
    await a.beat()
    await b.start()
    with monkeypatch.context() as away:
        away.setattr(records, "take_lease", refuse)
        await b.two_beats()
        clock.advance(11)
        await b.two_beats()
    clock.advance(8)
    await b.two_beats()  # the database is back, and a has had no time to renew
    assert b.ends == []
    clock.advance(3)
    await b.two_beats()
    assert b.ends == [("a", True)]
    await b.close()
