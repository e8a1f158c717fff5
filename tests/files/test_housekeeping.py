"""What recurs and what operators run: expiry, garbage, strays, deletions and backups, verifying."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.files.housekeeping import Pace
from hypersend_server.metadata.files import Deletion
from tests.files.room import ALICE, MIB, Room, opened, sha

CHUNK = 8 * MIB
DAY = 86400


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def age(path: Path, seconds: float) -> None:
    stat = path.stat()
    os.utime(path, (stat.st_atime - seconds, stat.st_mtime - seconds))


async def location_of(room: Room, file_id: str) -> Path:
    record = await room.files.get(file_id)
    assert record is not None
    return room.store.path(record.location)


async def test_the_bytes_of_a_removed_file_go_an_hour_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.stored(b"abc")
        await room.service.remove(ALICE, file.id)
        assert await room.service.storage_use("alice") == (0, 0, 0)
        assert await room.deletions.run() == 0
        assert len(files_in(tmp_path / "files")) == 1
        room.clock.advance(3601)
        assert await room.deletions.run() == 1
        assert files_in(tmp_path / "files") == []
        assert await room.run("SELECT * FROM deletions") == []


async def test_nothing_is_deleted_while_a_backup_runs(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        await room.run("INSERT INTO leases VALUES ('backup', 'me', ?)", room.clock() + 7200_000)
        file = await room.stored(b"abc")
        await room.service.remove(ALICE, file.id)
        room.clock.advance(3700)
        assert await room.deletions.run() == 0
        assert await room.files.hasten_deletions(room.clock()) == 0
        room.clock.advance(3600)
        assert await room.deletions.run() == 1


async def test_a_store_that_is_away_keeps_nothing_on_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        await room.files.add_deletions([Deletion("s3", f"key{n}") for n in range(300)], 0)
        file = await room.stored(b"abc")
        await room.service.remove(ALICE, file.id)
        room.clock.advance(3601)
        assert await room.deletions.run() == 1
        assert files_in(tmp_path / "files") == []
        assert await room.run("SELECT count(*) FROM deletions") == [(300,)]


async def test_a_full_disk_brings_deletions_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as room:
        file = await room.stored(b"abc")
        await room.service.remove(ALICE, file.id)

        async def free_bytes() -> int:
            return 0

        monkeypatch.setattr(room.store, "free_bytes", free_bytes)
        assert await room.code_of(room.init(5)) == "storage_full"
        assert room.deletions._hastening is not None
        await room.deletions._hastening
        assert files_in(tmp_path / "files") == []


async def test_a_location_that_a_record_names_is_never_deleted(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.stored(b"abc")
        await room.run("INSERT INTO deletions SELECT backend, location, 0 FROM files")
        assert await room.deletions.run() == 0
        assert await room.content(file.id) == b"abc"


async def test_a_file_for_a_chat_goes_a_day_after_nothing_shows_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        await room.chat("tea", "alice")
        own = await room.stored(b"own")
        shown = await room.stored(b"shown", chat_id="tea")
        never = await room.stored(b"never", chat_id="tea")
        await room.show("tea", shown.id)
        room.clock.advance(DAY - 60)
        assert (await room.housekeeping.gc(delete=True)).unshown == []
        room.clock.advance(120)
        listed = await room.housekeeping.gc(delete=False)
        assert (listed.unshown, listed.deleted) == ([never.id], False)
        assert (await room.service.get(ALICE, never.id)).state == "complete"
        await room.housekeeping.gc(delete=True)
        assert await room.code_of(room.service.get(ALICE, never.id)) == "not_found"
        await room.run("DELETE FROM message_files")
        await room.run("UPDATE files SET unshown_since = ? WHERE id = ?", room.clock(), shown.id)
        room.clock.advance(DAY + 1)
        assert (await room.housekeeping.each_hour()).unshown == [shown.id]
        assert (await room.service.get(ALICE, own.id)).state == "complete"


async def test_strays_are_listed_and_then_removed_but_never_young_ones(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        kept, uploading = await room.stored(b"kept"), await room.init(CHUNK)
        stray, half = await room.stored(b"stray"), await room.init(CHUNK)
        young = await room.stored(b"young")
        for path in (*files_in(tmp_path / "files"), *files_in(tmp_path / "uploads")):
            if path != await location_of(room, young.id):
                age(path, DAY + 60)
        await room.run("DELETE FROM files WHERE id IN (?, ?, ?)", stray.id, half.id, young.id)
        listed = await room.housekeeping.gc(delete=False)
        assert {Path(item.location).parent.name for item in listed.stray} == {stray.id, half.id}
        assert len(files_in(tmp_path / "files")) + len(files_in(tmp_path / "uploads")) == 5
        removed = await room.housekeeping.gc(delete=True)
        assert len(removed.stray) == 2
        assert (await room.housekeeping.gc(delete=False)).stray == []
        assert await room.content(kept.id) == b"kept"
        await room.put(uploading.id, 0, bytes(CHUNK))
        assert any(path.read_bytes() == b"young" for path in files_in(tmp_path / "files"))


async def test_what_is_being_completed_is_no_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store has it as a file already, with the time of its last chunk; the record does not say so yet."""
    async with opened(tmp_path) as room:
        file = await room.init(3)
        await room.put(file.id, 0, b"abc")
        stored, finish, plain = asyncio.Event(), asyncio.Event(), room.files.finish

        async def held(*arguments: object) -> object:
            stored.set()
            await finish.wait()
            return await plain(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(room.files, "finish", held)
        async with asyncio.timeout(60):
            completing = asyncio.create_task(room.service.complete(ALICE, file.id))
            await stored.wait()
            for path in files_in(tmp_path / "files"):
                age(path, 2 * DAY)
            assert (await room.housekeeping.gc(delete=True)).stray == []
            finish.set()
            await completing
        assert await room.content(file.id) == b"abc"


async def test_lost_files_are_named_and_forgotten_unless_all_are(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        lost, cut, kept = [await room.stored(name) for name in (b"lost", b"cut off", b"kept")]
        (await location_of(room, lost.id)).unlink()
        (await location_of(room, cut.id)).write_bytes(b"cut")
        young = await room.housekeeping.gc(delete=True)
        assert (young.lost, young.forgotten) == ([lost.id, cut.id], [])
        room.clock.advance(DAY + 60)
        assert (await room.housekeeping.gc(delete=False)).lost == [lost.id, cut.id]
        assert (await room.housekeeping.each_hour()).lost == [lost.id, cut.id]
        assert (await room.housekeeping.gc(delete=True)).forgotten == [lost.id]
        assert (await room.housekeeping.gc(delete=False)).lost == [cut.id]
        for path in files_in(tmp_path / "files"):  # as where the disk is not mounted
            path.unlink()
        assert (await room.housekeeping.gc(delete=True)).lost == [cut.id, kept.id]
        assert (await room.housekeeping.gc(delete=True)).lost == [cut.id, kept.id]


async def test_verify_names_the_chunks_that_changed(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK + 10)
    async with opened(tmp_path) as room:
        whole, damaged, missing, short = [await room.stored(c) for c in (content, content, b"gone", b"shorter")]
        with (await location_of(room, damaged.id)).open("r+b") as disk:
            disk.seek(CHUNK + 5)
            disk.write(bytes([content[CHUNK + 5] ^ 1]))
        (await location_of(room, missing.id)).unlink()
        (await location_of(room, short.id)).write_bytes(b"short")
        report = await room.housekeeping.verify()
        assert report.files == 4
        assert {d.id: d.chunks for d in report.damaged} == {damaged.id: [1], missing.id: [], short.id: []}
        assert report.after == max(f.id for f in (whole, damaged, missing, short))
        rest = await room.housekeeping.verify(after=sorted(f.id for f in (whole, damaged, missing, short))[1])
        assert rest.files == 2
        # A share of few files is one of them at least.
        assert (await room.housekeeping.verify(sample=0.5, chance=lambda: 0.9)).files == 1
        chances = iter([0.9, 0.1, 0.9, 0.1])
        assert (await room.housekeeping.verify(sample=0.5, chance=lambda: next(chances))).files == 2


async def test_what_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        await room.stored(b"abc")
        store = room.stores.pop("local")
        assert (await room.housekeeping.verify()).unread == 1
        assert "local" in (await room.housekeeping.gc(delete=False)).problems[0]
        room.stores["local"] = store
        assert (await room.housekeeping.verify()).unread == 0
        assert (await room.housekeeping.gc(delete=False)).problems == []


async def test_claimed_digests_are_checked_in_the_background(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        right = await room.stored(b"abc", sha256=sha(b"abc").hex())
        wrong = await room.stored(b"abc", sha256=sha(b"other").hex())
        empty = await room.stored(b"", sha256=sha(b"").hex())
        none = await room.stored(b"abc")
        assert await room.housekeeping.check_claims() == 3
        states = [(await room.service.get(ALICE, file.id)).sha256_state for file in (right, wrong, empty, none)]
        assert states == ["verified", "failed", "verified", "none"]
        assert await room.housekeeping.check_claims() == 0


async def test_expired_uploads_are_cleared_each_minute_and_forgotten_in_a_month(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        room.clock.advance(8 * DAY)
        await room.housekeeping.each_minute()
        assert files_in(tmp_path / "uploads") == []
        assert (await room.service.get(ALICE, file.id)).state == "expired"
        room.clock.advance(30 * DAY)
        await room.housekeeping.each_hour()
        assert await room.code_of(room.service.get(ALICE, file.id)) == "not_found"


async def test_an_abort_that_was_cut_is_finished_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        await room.files.remove(file.id, room.clock())  # and then the process ended
        assert len(files_in(tmp_path / "uploads")) == 1
        await room.housekeeping.each_minute()
        assert files_in(tmp_path / "uploads") == []
        assert await room.files.get(file.id) is None


async def test_an_account_that_goes_takes_its_files_along(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        await room.chat("tea", "alice", "bob")
        one, two = await room.stored(b"one"), await room.stored(b"three")
        await room.show("tea", one.id)
        await room.init(CHUNK)
        assert await room.service.forget_files("alice") == {"files": 2, "uploads": 1, "file_bytes": 8}
        assert sorted(room.restamped) == sorted([one.id, two.id])
        assert (await room.service.list_own("alice", None, "", None, 50)).items == []
        assert files_in(tmp_path / "uploads") == []


async def test_reading_keeps_below_its_rate() -> None:
    import time

    pace, began = Pace(1_000_000), time.monotonic()
    for _ in range(4):
        await pace.passed(50_000)
    assert time.monotonic() - began >= 0.18


async def test_a_store_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hypersend_storage.errors import StorageUnavailable

    async with opened(tmp_path) as room:
        await room.stored(b"abc")

        async def size(location: str) -> int | None:
            raise StorageUnavailable("gone")

        monkeypatch.setattr(room.store, "size", size)
        with pytest.raises(HyperSendError, match="storage_unavailable"):
            await room.housekeeping.verify()
