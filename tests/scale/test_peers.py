"""Leases: who is there, who died, and whose turn the recurring work is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypersend_server.metadata.server import ServerRecords
from hypersend_server.metadata.sqlite import SqliteMetadata
from hypersend_server.peers import FORGET_AFTER_MS, PREFIX, Peers
from tests.harness import SettableClock


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[ServerRecords]:
    metadata = SqliteMetadata(tmp_path / "m.sqlite")
    await metadata.open()
    yield metadata.server
    await metadata.close()


class Process(Peers):
    def __init__(self, records: ServerRecords, name: str, clock: SettableClock, takes_jobs: bool = True) -> None:
        self.ends: list[tuple[str, bool]] = []
        super().__init__(records, name, lambda process, died: self.ends.append((process, died)), clock,
                         takes_jobs=takes_jobs, beat_s=3600, lease_s=10)


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
    clock.advance(FORGET_AFTER_MS / 1000 + 1)
    await b.beat()
    assert [name for name, _ in await records.leases(PREFIX)] == [PREFIX + "b"]
    assert b.ends == [("a", True)]
