"""Moving files between two stores: nothing is lost, whatever happens on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypersend_server.clock import system_clock
from hypersend_server.files.migration import Migration, Stopped
from hypersend_storage.base import UploadRef
from hypersend_storage.errors import StorageFull, StorageUnavailable
from hypersend_storage.local import LocalStore
from tests.files.room import ALICE, Room, opened

CHUNK = 1024
WAIT_S = 60


class Other(LocalStore):
    """A second store, which a test can take away, fill up, or hold in the middle of a chunk."""

    name = "s3"

    def __init__(self, root: Path) -> None:
        super().__init__(root, boot_id="boot-1")
        self.away = 0
        self.refusing: Exception | None = None
        self.reads = 0
        self.held: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def create(self, file_id: str, layout: object) -> str:
        if self.refusing is not None:
            raise self.refusing
        if self.away:
            self.away -= 1
            raise StorageUnavailable("it is away")
        return await super().create(file_id, layout)  # type: ignore[arg-type]

    async def complete(self, upload: UploadRef, receipts: object) -> str:
        if self.held is not None:
            self.reached.set()
            await self.held.wait()
        return await super().complete(upload, receipts)  # type: ignore[arg-type]


@pytest.fixture
async def other(tmp_path: Path) -> Other:
    (tmp_path / "other").mkdir()
    return Other(tmp_path / "other")


@pytest.fixture
async def room(tmp_path: Path, other: Other) -> AsyncIterator[Room]:
    async with opened(tmp_path / "data", others={"s3": other}, chunk_size_for=lambda size: CHUNK) as found:
        yield found


def migration(room: Room, target: str = "s3", **options: object) -> Migration:
    return Migration(room.files, room.records, room.stores, target, room.clock, **options)  # type: ignore[arg-type]


async def content_of(room: Room, file_id: str) -> tuple[str, bytes]:
    """Where a file is, and its bytes as a download gets them."""
    record = await room.files.get(file_id)
    assert record is not None
    parts = [part async for part in room.downloads.read(record, 0, record.size)] if record.size else []
    return record.backend, b"".join(parts)


async def test_everything_moves_and_a_second_run_has_nothing_to_do(room: Room) -> None:
    contents = [os.urandom(size) for size in (0, 1, CHUNK, 5 * CHUNK + 3)]
    files = [await room.stored(content) for content in contents]
    under_way = await room.init(10)
    report = await migration(room).run()
    assert (report.files, report.bytes, report.uploads, report.failed) == (4, sum(map(len, contents)), 1, [])
    for file, content in zip(files, contents, strict=True):
        assert await content_of(room, file.id) == ("s3", content)
        now = await room.service.get(ALICE, file.id, digests=True)
        assert (now.checksum, now.etag) == (file.checksum, file.etag)
        assert len(now.chunk_sha256 or []) == -(-len(content) // CHUNK)
    assert (await room.service.get(ALICE, under_way.id)).backend == "local"
    again = await migration(room).run()
    assert (again.files, again.removed, again.failed) == (0, 0, [])
    assert await room.run("SELECT * FROM meta WHERE key LIKE 'mark:%'") == []


async def test_the_old_bytes_go_an_hour_later_and_the_new_ones_stay(room: Room) -> None:
    file = await room.stored(b"abc")
    await migration(room).run()
    assert len([path for path in (room.data_root / "files").rglob("*") if path.is_file()]) == 1
    room.clock.advance(3601)
    assert await room.deletions.run() == 1
    assert [path for path in (room.data_root / "files").rglob("*") if path.is_file()] == []
    room.clock.advance(30 * 86400)  # what the copy was noted by as a leftover does not come back for it
    assert await room.deletions.run() == 0
    assert await content_of(room, file.id) == ("s3", b"abc")


async def test_there_and_back_again(room: Room) -> None:
    content = os.urandom(3 * CHUNK)
    file = await room.stored(content)
    for target in ("s3", "local", "s3", "local"):
        assert (await migration(room, target).run()).files == 1
        assert await content_of(room, file.id) == (target, content)
    room.clock.advance(3601)
    await room.deletions.run()  # of three old places, none of which is the one that is in use
    assert await content_of(room, file.id) == ("local", content)


async def test_a_dry_run_says_what_it_would_move_and_moves_nothing(room: Room) -> None:
    file = await room.stored(b"abc")
    report = await migration(room, dry_run=True).run()
    assert (report.files, report.bytes, report.dry_run) == (1, 3, True)
    assert (await content_of(room, file.id))[0] == "local"


async def test_only_files_that_are_old_enough_move(room: Room) -> None:
    old = await room.stored(b"old")
    room.clock.advance(3600)
    young = await room.stored(b"young")
    room.clock.advance(1800)
    report = await migration(room, older_than_s=3600).run()
    assert (report.files, report.bytes) == (1, 3)
    assert (await content_of(room, old.id))[0] == "s3"
    assert (await content_of(room, young.id))[0] == "local"


async def test_a_file_whose_bytes_have_changed_stays_and_is_named(room: Room) -> None:
    good, bad, gone = await room.stored(b"good"), await room.stored(b"bad!"), await room.stored(b"gone")
    for file, data in ((bad, b"BAD!"), (gone, None)):
        record = await room.files.get(file.id)
        assert record is not None
        path = room.store.path(record.location)
        path.chmod(0o640)
        path.unlink() if data is None else path.write_bytes(data)
    report = await migration(room).run()
    assert report.files == 1
    assert {failure.id: failure.reason for failure in report.failed} == {
        bad.id: "Chunk 0 on 'local' differs from its digest.", gone.id: "Its bytes are missing on 'local'."}
    assert (await content_of(room, good.id))[0] == "s3"
    assert await content_of(room, bad.id) == ("local", b"BAD!")
    assert [item async for item in room.stores["s3"].items() if item.uploading] == []


async def test_a_file_that_is_removed_while_it_is_copied_is_not_brought_back(room: Room, other: Other) -> None:
    file = await room.stored(b"abc")
    other.held = asyncio.Event()
    running = asyncio.create_task(migration(room).run())
    async with asyncio.timeout(WAIT_S):
        await other.reached.wait()
        await room.service.remove(ALICE, file.id)
        other.held.set()
        report = await running
    assert (report.files, report.removed, report.failed) == (0, 1, [])
    room.clock.advance(3601)
    assert await room.deletions.run() == 2
    assert [item async for item in other.items()] == []


async def test_a_run_that_was_cut_is_gone_on_with(room: Room, other: Other) -> None:
    content = os.urandom(6 * CHUNK)
    file = await room.stored(content)
    other.held = asyncio.Event()
    running = asyncio.create_task(migration(room).run())
    async with asyncio.timeout(WAIT_S):
        await other.reached.wait()  # all chunks are there, completing is not done
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    other.held = None
    assert await content_of(room, file.id) == ("local", content)
    read: list[int] = []
    source = room.store.read

    def reading(location: str, start: int, length: int) -> AsyncIterator[bytes]:
        read.append(start)
        return source(location, start, length)

    room.store.read = reading  # type: ignore[method-assign]
    second = migration(room)
    assert (await second.run()).files == 1
    assert read == []  # no byte was copied twice
    assert second.copied_bytes == len(content)
    assert await content_of(room, file.id) == ("s3", content)
    assert [item async for item in other.items() if item.uploading] == []


async def test_what_a_run_left_that_nobody_goes_on_with_is_removed(room: Room, other: Other) -> None:
    file = await room.stored(b"abc")
    other.held = asyncio.Event()
    running = asyncio.create_task(migration(room).run())
    async with asyncio.timeout(WAIT_S):
        await other.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert len([item async for item in other.items()]) == 1
    room.clock.advance(8 * 86400)
    assert await room.deletions.run() == 1
    assert [item async for item in other.items()] == []
    other.held = None
    assert (await migration(room).run()).files == 1  # and a late one begins anew
    assert await content_of(room, file.id) == ("s3", b"abc")


async def test_a_store_that_is_away_for_a_moment_is_waited_for(room: Room, other: Other) -> None:
    file = await room.stored(b"abc")
    other.away = 2
    assert (await migration(room).run()).files == 1
    assert await content_of(room, file.id) == ("s3", b"abc")


async def test_a_store_that_stays_away_or_is_full_ends_the_run(room: Room, other: Other) -> None:
    file = await room.stored(b"abc")
    for refusing, reason in ((StorageFull(), "full"), (StorageUnavailable("nobody is there"), "nobody is there")):
        other.refusing = refusing
        run = migration(room, patience_s=0.5)
        with pytest.raises(Stopped, match=reason):
            await run.run()
        assert reason in run.report.stopped
    assert await content_of(room, file.id) == ("local", b"abc")
    other.refusing = None
    assert (await migration(room).run()).files == 1


async def test_two_runs_at_once_move_each_file_once(room: Room) -> None:
    contents = [os.urandom(3 * CHUNK + n) for n in range(12)]
    files = [await room.stored(content) for content in contents]
    reports = await asyncio.gather(migration(room).run(), migration(room).run())
    assert sum(report.files for report in reports) >= len(files) - sum(len(report.failed) for report in reports)
    await migration(room).run()
    room.clock.advance(8 * 86400)
    await room.deletions.run()
    for file, content in zip(files, contents, strict=True):
        assert await content_of(room, file.id) == ("s3", content)


async def test_the_rate_is_kept(room: Room) -> None:
    await room.stored(os.urandom(50 * CHUNK))
    began = system_clock()
    await migration(room, bytes_per_s=50 * CHUNK).run()
    assert system_clock() - began > 500


async def test_people_upload_read_and_delete_while_files_move(room: Room) -> None:
    kept = {(await room.stored(content)).id: content for content in (os.urandom(CHUNK * 4) for _ in range(20))}
    doomed = [(await room.stored(os.urandom(CHUNK))).id for _ in range(10)]
    running = asyncio.create_task(migration(room).run())
    while not running.done():
        for file_id, content in kept.items():
            assert (await content_of(room, file_id))[1] == content
        if doomed:
            await room.service.remove(ALICE, doomed.pop())
        new = os.urandom(CHUNK)
        kept[(await room.stored(new)).id] = new
        if len(kept) > 60:
            break
    await running
    await migration(room).run()
    for file_id, content in kept.items():
        assert await content_of(room, file_id) == ("s3", content)


async def test_a_copy_is_no_stray_until_it_is_switched_to_nor_after(
    room: Room, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some stores date an object from the beginning of its upload: what was just put together looks old there."""
    content = os.urandom(2 * CHUNK)
    file = await room.stored(content)
    copied, switch, plain = asyncio.Event(), asyncio.Event(), room.files.move

    async def held(*arguments: object) -> object:
        copied.set()
        await switch.wait()
        return await plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(room.files, "move", held)
    room.clock.advance(2 * 86400)
    async with asyncio.timeout(WAIT_S):
        moving = asyncio.create_task(migration(room).run())
        await copied.wait()
        assert (await room.housekeeping.gc(delete=True)).stray == []
        switch.set()
        await moving
    assert (await room.housekeeping.gc(delete=True)).stray == []
    assert await content_of(room, file.id) == ("s3", content)


async def test_a_copy_that_is_switched_to_while_strays_are_looked_for_stays(
    room: Room, other: Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = os.urandom(2 * CHUNK)
    file = await room.stored(content)
    room.clock.advance(2 * 86400)
    copied, switch = asyncio.Event(), asyncio.Event()
    move, known = room.files.move, room.files.known

    async def held(*arguments: object) -> object:
        copied.set()
        await switch.wait()
        return await move(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(room.files, "move", held)
    async with asyncio.timeout(WAIT_S):
        moving = asyncio.create_task(migration(room).run())
        await copied.wait()

        async def known_just_before(backend: str, *others: object) -> set[str]:
            found = await known(backend, *others)  # type: ignore[arg-type]
            if backend == "s3":
                switch.set()
                await moving
            return found

        monkeypatch.setattr(room.files, "known", known_just_before)
        assert (await room.housekeeping.gc(delete=True)).stray == []
    assert await content_of(room, file.id) == ("s3", content)


async def test_a_file_that_the_disk_cannot_read_is_named_and_the_others_move(room: Room) -> None:
    good, bad, last = [await room.stored(os.urandom(2 * CHUNK)) for _ in range(3)]
    record = await room.files.get(bad.id)
    assert record is not None
    path = room.store.path(record.location)
    path.unlink()
    path.mkdir()  # reading fails, as from a sector that has gone bad
    report = await migration(room).run()
    assert (report.files, report.stopped, [failure.id for failure in report.failed]) == (2, "", [bad.id])
    assert "Chunk" in report.failed[0].reason
    for file in (good, last):
        assert (await content_of(room, file.id))[0] == "s3"
