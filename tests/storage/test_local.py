from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import threading
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import hypersend_storage.local
import hypersend_storage.local_slot
from hypersend_storage.base import MIB, Layout, UploadRef
from hypersend_storage.conformance import (
    Cut,
    content,
    cut_after,
    parts,
    put,
    put_all,
    read,
)
from hypersend_storage.errors import (
    ChunkBusy,
    DigestMismatch,
    SizeMismatch,
    StorageFull,
    StorageUnavailable,
    UploadLost,
)
from hypersend_storage.local import LocalStore

LAYOUT = Layout(size=2 * MIB + 500, chunk_size=MIB)
DATA = content(LAYOUT.size)
ID = "01jd0000000000000000000k7q"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalStore]:
    store = LocalStore(tmp_path / "data")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def twin(tmp_path: Path) -> AsyncIterator[LocalStore]:
    store = LocalStore(tmp_path / "data")
    yield store
    await store.close()


async def begin(store: LocalStore, layout: Layout = LAYOUT) -> UploadRef:
    return UploadRef(ID, await store.create(ID, layout), layout)


class Gate:
    """Holds a call in its thread until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._call = getattr(os, name)
        self._arrived = threading.Event()
        self._open = threading.Event()
        monkeypatch.setattr(os, name, self._pass)

    def _pass(self, *args: Any) -> Any:
        self._arrived.set()
        assert self._open.wait(20)
        return self._call(*args)

    async def arrived(self) -> None:
        assert await asyncio.to_thread(self._arrived.wait, 20)

    def let_through(self) -> None:
        self._open.set()


def failing(monkeypatch: pytest.MonkeyPatch, target: object, name: str, number: int) -> None:
    """The next call of this name fails as a disk does, those after it don't."""
    call = getattr(target, name)

    def fail(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(target, name, call)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(target, name, fail)


# Where things are


async def test_a_file_is_where_the_operator_looks_for_it(store: LocalStore) -> None:
    upload = await begin(store)
    assert [path.name for path in (store.root / "uploads").iterdir()] == [ID]
    location = await store.complete(upload, await put_all(store, upload, DATA))
    assert list((store.root / "uploads").iterdir()) == []
    (found,) = (store.root / "files" / "7q" / ID).iterdir()
    assert found == store.path(location)
    assert found.read_bytes() == DATA


async def test_the_group_may_read_and_others_may_not_whatever_the_umask(tmp_path: Path) -> None:
    for umask in (0o077, 0o000):
        before = os.umask(umask)
        try:
            store = LocalStore(tmp_path / f"{umask}")
            await store.open()
            upload = await begin(store)
            location = await store.complete(upload, await put_all(store, upload, DATA))
            await store.close()
        finally:
            os.umask(before)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [store.root, *store.root.rglob("*")]}
        assert modes.pop(store.path(location)) == 0o640
        assert set(modes.values()) == {0o750}


async def test_folders_keep_a_group_that_they_inherit(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o2750)
    store = LocalStore(tmp_path / "data")
    await store.open()
    await store.close()
    assert stat.S_IMODE((store.root / "files").stat().st_mode) == 0o2750


async def test_an_upload_takes_the_room_of_what_arrived_and_no_more(store: LocalStore) -> None:
    layout = Layout(40 * 1024 * MIB, 8 * MIB)
    upload = await begin(store, layout)
    assert store.path(upload.location).stat().st_blocks == 0
    async with store.chunk(upload, layout.chunk_count - 1) as slot:
        await slot.write(parts(content(8 * MIB)), offset=0, sha256=None)
    (item,) = [item async for item in store.items()]
    assert 8 * MIB <= item.size <= 8.1 * MIB
    location = await store.complete(upload, [])
    assert await store.size(location) == layout.size
    assert store.path(location).stat().st_blocks * 512 <= 8.1 * MIB


async def test_what_is_not_ours_is_not_listed(store: LocalStore) -> None:
    for stray in ("files/lost+found/x/y", "uploads/notes.txt", "files/ab/id/with space", "other/a/b"):
        path = store.root / stray
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("not ours")
    (store.root / "files" / "ab" / "id" / "folder").mkdir()
    assert [item async for item in store.items()] == []


@pytest.mark.parametrize("file_id", ["", "..", "a/b", "a\0b", "ü", "x" * 65])
async def test_an_id_that_cannot_name_a_folder_is_refused(store: LocalStore, file_id: str) -> None:
    with pytest.raises(ValueError):
        await store.create(file_id, LAYOUT)


async def test_there_is_no_chunk_outside_the_layout(store: LocalStore) -> None:
    upload = await begin(store)
    for index in (-1, LAYOUT.chunk_count):
        with pytest.raises(ValueError):
            async with store.chunk(upload, index):
                pass


# Opening


async def test_a_root_that_is_not_writable_is_named(small_disk: Path) -> None:
    root = small_disk / "data"
    root.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StorageUnavailable, match=f"{root}.*[Rr]ead-only"):
        await LocalStore(root).open()


async def test_a_root_below_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(StorageUnavailable, match=str(root)):
            await LocalStore(root).open()


async def test_both_folders_must_be_on_one_file_system(tmp_path: Path, small_disk: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "uploads").symlink_to(small_disk)
    with pytest.raises(StorageUnavailable, match="one file system"):
        await LocalStore(root).open()
    assert list(small_disk.iterdir()) == []


async def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypersend_storage.local, "lock_range", lambda *_: None)
    with pytest.raises(StorageUnavailable, match="locks"):
        await LocalStore(tmp_path).open()


async def test_opening_leaves_nothing_but_the_two_folders(store: LocalStore) -> None:
    assert sorted(path.name for path in store.root.rglob("*")) == ["files", "uploads"]


async def test_the_boot_is_the_kernels_unless_it_is_given(tmp_path: Path) -> None:
    assert LocalStore(tmp_path, boot_id="earlier").boot_id() == "earlier"
    assert LocalStore(tmp_path).boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


# Writing


@pytest.mark.parametrize("sent", [0, 1, 700_000, MIB])
async def test_every_byte_before_a_cut_stays(store: LocalStore, sent: int) -> None:
    upload = await begin(store)
    async with store.chunk(upload, 1) as slot:
        with pytest.raises(Cut):
            await slot.write(cut_after(DATA[MIB:MIB + sent]), offset=0, sha256=None)
        assert slot.in_place == sent
    assert store.path(upload.location).read_bytes()[MIB:MIB + sent] == DATA[MIB:MIB + sent]


async def test_a_whole_chunk_is_on_its_way_to_the_disk_at_once(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _, start, size, advice: begun.append((start, size, advice)))
    upload = await begin(store)
    for index in (2, 0):
        await put(store, upload, DATA, index)
    with pytest.raises(Cut):
        async with store.chunk(upload, 1) as slot:
            await slot.write(cut_after(DATA[MIB : MIB + 1000]), offset=0, sha256=None)
    assert begun == [(2 * MIB, 500, os.POSIX_FADV_DONTNEED), (0, MIB, os.POSIX_FADV_DONTNEED)]


async def test_a_file_system_that_takes_no_hints_stores_all_the_same(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    assert await read(store, await store.complete(upload, receipts), 0, LAYOUT.size) == DATA


async def test_a_disk_that_takes_less_than_it_was_given_gets_the_rest(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    call = os.pwritev

    def short(descriptor: int, buffers: list[bytes], offset: int) -> int:
        return call(descriptor, [b"".join(buffers)[:70_001]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    receipts = await put_all(store, upload, DATA)
    location = await store.complete(upload, receipts)
    assert store.path(location).read_bytes() == DATA


async def test_a_cancelled_write_keeps_its_lock_until_its_thread_has_ended(
    store: LocalStore, twin: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    gate = Gate(monkeypatch, "pwritev")
    writing = asyncio.create_task(put(store, upload, DATA, 0))
    await gate.arrived()
    for _ in range(3):
        writing.cancel()
        with pytest.raises(ChunkBusy):
            async with twin.chunk(upload, 0):
                pass
        with pytest.raises(ChunkBusy):
            await twin.complete(upload, [])
    assert not writing.done()
    gate.let_through()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert store.path(upload.location).read_bytes()[:MIB] == DATA[:MIB]
    async with twin.chunk(upload, 0):
        pass


async def test_a_task_that_is_cancelled_while_it_takes_a_slot_leaves_no_lock(
    store: LocalStore, twin: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    gate = Gate(monkeypatch, "open")
    taking = asyncio.create_task(put(store, upload, DATA, 0))
    await gate.arrived()
    taking.cancel()
    gate.let_through()
    with pytest.raises(asyncio.CancelledError):
        await taking
    async with twin.chunk(upload, 0):
        pass


async def test_closing_waits_for_writes_in_flight(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await begin(store)
    gate = Gate(monkeypatch, "pwritev")
    writing = asyncio.create_task(put(store, upload, DATA, 0))
    await gate.arrived()
    closing = asyncio.create_task(store.close())
    assert not (await asyncio.wait({closing}, timeout=0.05))[0]
    gate.let_through()
    await closing
    assert (await writing).sha256 == sha256(DATA[:MIB]).digest()
    with pytest.raises(StorageUnavailable):
        await put(store, upload, DATA, 1)


async def test_a_slot_opened_before_the_file_completed_and_locked_after_is_refused(
    store: LocalStore, twin: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    opened, completed = threading.Event(), threading.Event()
    lock = hypersend_storage.local_slot.lock_range

    def lock_after_completing(descriptor: int, start: int, length: int) -> None:
        opened.set()
        assert completed.wait(20)
        lock(descriptor, start, length)

    monkeypatch.setattr(hypersend_storage.local_slot, "lock_range", lock_after_completing)
    late = asyncio.create_task(put(store, upload, content(MIB, seed=1), 0))
    assert await asyncio.to_thread(opened.wait, 20)
    location = await twin.complete(upload, receipts)
    completed.set()
    with pytest.raises(UploadLost):
        await late
    assert store.path(location).read_bytes() == DATA


async def test_two_that_complete_at_once_answer_the_same_file(
    store: LocalStore, twin: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    opened, completed = threading.Event(), threading.Event()
    lock = hypersend_storage.local.lock_range

    def first_one_waits(descriptor: int, start: int, length: int) -> None:
        if not opened.is_set():
            opened.set()
            assert completed.wait(20)
        lock(descriptor, start, length)

    # One has the file open and not yet its lock, while the other completes it.
    monkeypatch.setattr(hypersend_storage.local, "lock_range", first_one_waits)
    late = asyncio.create_task(store.complete(upload, receipts))
    assert await asyncio.to_thread(opened.wait, 20)
    location = await twin.complete(upload, receipts)
    completed.set()
    assert await late == location


def repeats() -> dict[str, tuple[bytes, type[Exception] | None]]:
    other = content(MIB + 1, seed=1)
    return {
        "same": (DATA[:MIB], None), "other bytes": (other[:MIB], None), "cut off": (other[:MIB // 2], Cut),
        "too short": (other[:5], SizeMismatch), "too long": (other, SizeMismatch)}


@pytest.mark.parametrize("kind", repeats())
async def test_a_repeat_of_an_acknowledged_chunk_never_changes_the_file(
    store: LocalStore, twin: LocalStore, kind: str
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    body, error = repeats()[kind]
    go_on, arrived = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        async for part in parts(body):
            yield part
            arrived.set()
            await go_on.wait()
        if error is Cut:
            raise Cut

    async def repeat() -> bytes:
        return await store.read_received(upload, slowly(), expected=MIB)

    # In flight while the file completes.
    repeating = asyncio.create_task(repeat())
    await arrived.wait()
    location = await twin.complete(upload, receipts)
    go_on.set()
    if error is None:
        assert await repeating == sha256(body).digest()
    else:
        with pytest.raises(error):
            await repeating
    assert store.path(location).read_bytes() == DATA


# Disks that fail


async def test_a_disk_that_fills_up_keeps_an_honest_prefix_and_goes_on_later(small_disk: Path) -> None:
    store = LocalStore(small_disk / "data")
    await store.open()
    layout = Layout(20 * MIB, 10 * MIB)
    data = content(layout.size)
    upload = await begin(store, layout)
    first = await put(store, upload, data, 0)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(8 * MIB))
    async with store.chunk(upload, 1) as slot:
        with pytest.raises(StorageFull):
            await slot.write(parts(data[10 * MIB:]), offset=0, sha256=None)
        have = slot.in_place
    assert 0 < have < 10 * MIB
    assert store.path(upload.location).read_bytes()[:10 * MIB + have] == data[:10 * MIB + have]
    free = await store.free_bytes()
    assert free is not None
    assert free < MIB
    ballast.unlink()
    async with store.chunk(upload, 1) as slot:
        second = await slot.write(parts(data[10 * MIB + have:]), offset=have, sha256=sha256(data[10 * MIB:]).digest())
    location = await store.complete(upload, [first, second])
    assert store.path(location).read_bytes() == data
    await store.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
async def test_a_failed_flush_is_never_taken_for_a_success(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    failing(monkeypatch, os, "fdatasync", number)
    with pytest.raises(StorageUnavailable):
        await store.sync(upload)
    failing(monkeypatch, os, "fsync", number)
    with pytest.raises(StorageUnavailable):
        await store.complete(upload, receipts)
    assert store.path(upload.location).exists()


@pytest.mark.parametrize(("number", "error"), [
    (errno.EIO, StorageUnavailable), (errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull)])
async def test_a_failed_write_says_what_is_in_place(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    upload = await begin(store)
    call = os.pwritev
    calls = 0

    def short_then_failing(descriptor: int, buffers: list[bytes], offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return call(descriptor, [buffers[0], buffers[1][:5]], offset)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", short_then_failing)
    async with store.chunk(upload, 0) as slot:
        with pytest.raises(error):
            await slot.write(parts(DATA[:MIB], 1000), offset=0, sha256=None)
        assert slot.in_place == 1005
        monkeypatch.undo()
        receipt = await slot.write(parts(DATA[1005:MIB]), offset=1005, sha256=None)
    assert receipt.sha256 == sha256(DATA[:MIB]).digest()


async def test_no_folder_stays_of_an_upload_that_found_no_room(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ftruncate", "fsync", "open"):
        failing(monkeypatch, os, name, errno.ENOSPC)
        with pytest.raises(StorageFull):
            await begin(store)
        assert list((store.root / "uploads").iterdir()) == []


async def test_a_file_made_shorter_by_others_is_lost_and_not_hashed_as_it_is(store: LocalStore) -> None:
    upload = await begin(store)
    await put_all(store, upload, DATA)
    os.truncate(store.path(upload.location), MIB + 5)
    async with store.chunk(upload, 1) as slot:
        with pytest.raises(UploadLost):
            await slot.sha256()
    location = await store.complete(upload, [])
    with pytest.raises(StorageUnavailable, match="ends at byte"):
        await read(store, location, 0, LAYOUT.size)


# Completing that is cut off


async def test_completing_cut_off_before_the_rename_is_carried_on_with(
    store: LocalStore, twin: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    failing(monkeypatch, Path, "rename", errno.EIO)
    with pytest.raises(StorageUnavailable):
        await store.complete(upload, receipts)
    assert store.path(upload.location).exists()
    location = await twin.complete(upload, receipts)
    assert store.path(location).read_bytes() == DATA


async def test_completing_cut_off_after_the_rename_is_carried_on_with(
    store: LocalStore, twin: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    failing(monkeypatch, hypersend_storage.local, "_sync_folder", errno.EIO)
    with pytest.raises(StorageUnavailable):
        await store.complete(upload, receipts)
    assert not store.path(upload.location).exists()
    location = await twin.complete(upload, receipts)
    assert store.path(location).read_bytes() == DATA
    assert list((store.root / "uploads").iterdir()) == []


async def test_what_completing_makes_durable_and_in_which_order(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begin(store)
    receipts = await put_all(store, upload, DATA)
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(f"fsync {path.relative_to(store.root)}")
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> Path:
        done.append("rename")
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    location = await store.complete(upload, receipts)
    folder = location.rsplit("/", 1)[0]
    assert done[:2] == [f"fsync {upload.location}", "rename"]
    assert {f"fsync {folder}", "fsync files/7q", "fsync files", "fsync uploads"} == set(done[2:])


async def test_a_wrong_prefix_is_found_when_the_chunk_is_gone_on_with(store: LocalStore) -> None:
    upload = await begin(store)
    async with store.chunk(upload, 0) as slot:
        with pytest.raises(Cut):
            await slot.write(cut_after(content(1000, seed=1)), offset=0, sha256=None)
        with pytest.raises(DigestMismatch):
            await slot.write(parts(DATA[1000:MIB]), offset=1000, sha256=sha256(DATA[:MIB]).digest())
