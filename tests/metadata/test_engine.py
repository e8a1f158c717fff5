"""The SQLite engine: group commit, all or nothing for each job, snapshots, and neighbours in other processes."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.errors import MetadataTooNew
from hypersend_server.metadata.sqlite.engine import Engine, Tx, connect
from hypersend_server.metadata.sqlite.schema import migrate, migrations, version_of
from tests.parts import require


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    path = tmp_path / "test.sqlite3"
    with closing(connect(path)) as connection:
        migrate(connection)
        connection.execute("CREATE TABLE notes (text TEXT UNIQUE, changed INTEGER)")
    engine = Engine(path)
    await engine.open()
    yield engine
    await engine.close()


def add(text: str):  # type: ignore[no-untyped-def]
    def job(tx: Tx) -> int:
        stamp = tx.stamp()
        tx.execute("INSERT INTO notes VALUES (?, ?)", (text, stamp))
        return stamp

    return job


async def texts(engine: Engine) -> list[str]:
    return await engine.read(lambda tx: [row[0] for row in tx.execute("SELECT text FROM notes ORDER BY changed")])


async def test_jobs_that_wait_together_are_committed_together(engine: Engine, tmp_path: Path) -> None:
    commits: list[str] = []
    # The writer is busy with the first job, so all others wait and form one batch.
    first = engine.write(lambda tx: tx.connection.set_trace_callback(
        lambda sql: commits.append(sql) if sql == "COMMIT" else None))
    await asyncio.gather(first, *(engine.write(add(f"note {n}")) for n in range(200)))
    assert len(await texts(engine)) == 200
    assert len(commits) < 20


async def test_a_job_that_fails_leaves_nothing_and_its_neighbours_everything(engine: Engine) -> None:
    def fails(tx: Tx) -> None:
        tx.execute("INSERT INTO notes VALUES ('half', ?)", (tx.stamp(),))
        raise HyperSendError("not_allowed")

    answers = await asyncio.gather(
        engine.write(add("before")), engine.write(fails), engine.write(add("after")), return_exceptions=True)
    assert isinstance(answers[1], HyperSendError)
    assert await texts(engine) == ["before", "after"]


async def test_a_constraint_that_fails_ends_its_job_alone(engine: Engine) -> None:
    answers = await asyncio.gather(
        engine.write(add("same")), engine.write(add("same")), engine.write(add("other")), return_exceptions=True)
    assert isinstance(answers[1], sqlite3.IntegrityError)
    assert await texts(engine) == ["same", "other"]


async def test_stamps_grow_also_when_another_process_changes_the_database(engine: Engine, tmp_path: Path) -> None:
    first = await engine.write(add("first"))
    neighbour = Engine(tmp_path / "test.sqlite3")
    await neighbour.open()
    try:
        second = await neighbour.write(add("second"))
        third = await engine.write(add("third"))
    finally:
        await neighbour.close()
    assert first < second < third


async def test_reading_then_writing_without_immediate_fails_beside_another_writer(tmp_path: Path) -> None:
    """Why every batch begins IMMEDIATE: a deferred transaction cannot turn from reader to writer."""
    path = tmp_path / "deferred.sqlite3"
    with closing(connect(path)) as one, closing(connect(path)) as two:
        one.execute("CREATE TABLE t (n INTEGER)")
        one.execute("BEGIN")
        one.execute("SELECT count(*) FROM t").fetchone()
        two.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            one.execute("INSERT INTO t VALUES (2)")
        one.execute("ROLLBACK")


async def test_a_read_sees_one_moment(engine: Engine) -> None:
    await engine.write(add("one"))
    loop = asyncio.get_running_loop()

    def twice(tx: sqlite3.Connection) -> tuple[int, int]:
        before = tx.execute("SELECT count(*) FROM notes").fetchone()[0]
        asyncio.run_coroutine_threadsafe(write_more(), loop).result(10)
        return before, tx.execute("SELECT count(*) FROM notes").fetchone()[0]

    async def write_more() -> None:
        await engine.write(add("two"))

    assert await engine.read(twice) == (1, 1)
    assert len(await texts(engine)) == 2


async def test_a_cancelled_caller_does_not_stop_the_batch(engine: Engine) -> None:
    cancelled = engine.write(add("cancelled"))
    kept = engine.write(add("kept"))
    cancelled.cancel()
    await kept
    assert await texts(engine) == ["cancelled", "kept"]


async def test_a_full_disk_is_told_and_survived(small_disk: Path) -> None:
    path = small_disk / "full.sqlite3"
    with closing(connect(path)) as connection:
        migrate(connection)
        connection.execute("CREATE TABLE notes (text TEXT UNIQUE, changed INTEGER)")
    engine = Engine(path)
    await engine.open()
    try:
        await engine.write(add("kept"))
        ballast = small_disk / "ballast"
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 65536)
        with pytest.raises(HyperSendError) as raised:
            for n in range(200):
                await engine.write(add(f"{n} " + "x" * 60_000))
        assert raised.value.code == "storage_full"
        ballast.unlink()
        await engine.write(add("again"))
        kept = await texts(engine)
        assert kept[0] == "kept"
        assert kept[-1] == "again"
    finally:
        await engine.close()


def test_a_new_database_replays_every_migration(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "new.sqlite3")) as connection:
        migrate(connection)
        assert version_of(connection) == migrations()[-1][0]
        migrate(connection)  # again: nothing to do


def test_versions_of_migrations_have_no_hole() -> None:
    assert [version for version, _ in migrations()] == list(range(1, len(migrations()) + 1))


def test_a_newer_database_is_refused_with_the_reason_and_left_alone(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "newer.sqlite3")) as connection:
        connection.execute("PRAGMA user_version = 9999")
        with pytest.raises(MetadataTooNew, match="9999"):
            migrate(connection)
        assert version_of(connection) == 9999
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypersend_server.metadata.sqlite import schema as module

    known = migrations()
    broken = (known[-1][0] + 1, "CREATE TABLE half (n INTEGER);\nINSERT INTO nowhere VALUES (1);\n")
    monkeypatch.setattr(module, "migrations", lambda: [*known, broken])
    with closing(connect(tmp_path / "broken.sqlite3")) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection)
        assert version_of(connection) == known[-1][0]
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)


def test_require_fails_instead_of_skipping_where_parts_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERSEND_REQUIRE_PARTS", "1")
    with pytest.raises(pytest.fail.Exception, match="curl is missing"):
        require("curl", False)
