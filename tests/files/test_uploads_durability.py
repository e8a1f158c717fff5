"""What of an upload outlives a reboot, a disk that fails or is full, and a process that died."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.files.uploads import Claims
from hypersend_storage.base import Layout
from hypersend_storage.errors import StorageUnavailable
from tests.files.room import ALICE, MIB, Held, opened, refused

CHUNK = 8 * MIB


async def test_receipts_are_durable_within_moments(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(2 * CHUNK)
        await room.put(file.id, 0, bytes(CHUNK))
        async with asyncio.timeout(10):
            while [row.boot_id for row in await room.files.chunks(file.id)] != [None]:
                await asyncio.sleep(0.01)


async def test_receipts_that_were_not_durable_are_checked_after_a_reboot(tmp_path: Path) -> None:
    content = os.urandom(3 * CHUNK)
    async with opened(tmp_path, sync_every_s=3600) as room:
        file = await room.init(3 * CHUNK)
        await room.put(file.id, 0, content[:CHUNK])
        await room.durability.sync(file.id)
        await room.put(file.id, 1, content[CHUNK : 2 * CHUNK])
        await room.put(file.id, 2, content[2 * CHUNK :])
        room.durability._new.clear()  # the machine stops here, before they are synced
        record = await room.files.get(file.id)
        assert record is not None
        with room.store.path(record.location).open("r+b") as disk:
            disk.seek(2 * CHUNK + 7)
            disk.write(b"never written")
    async with opened(tmp_path, boot_id="boot-2") as room:
        await room.durability.verified.wait()
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert (shown.upload.received, shown.upload.verifying) == ([(0, 1)], [])
        assert shown.upload.received_bytes == 2 * CHUNK
        await room.put(file.id, 2, content[2 * CHUNK :])
        await room.service.complete(ALICE, file.id)
        assert await room.content(file.id) == content


async def test_what_another_process_received_is_waited_for_and_at_last_synced_here(tmp_path: Path) -> None:
    content = os.urandom(2 * MIB)
    async with opened(tmp_path, sync_every_s=3600, chunk_size_for=lambda size: MIB) as room:
        file = await room.init(2 * MIB)
        await room.put(file.id, 0, content[:MIB])
        await room.put(file.id, 1, content[MIB:])
        ours = room.durability._new.pop(file.id)  # as if another process had taken them
        completing = asyncio.create_task(room.service.complete(ALICE, file.id))
        await asyncio.sleep(0.1)
        assert not completing.done()
        room.durability._new[file.id] = ours
        await room.durability.sync_all()  # the other one does
        assert (await completing).is_new
        assert await room.content(file.id) == content

        file = await room.init(MIB)
        await room.put(file.id, 0, content[:MIB])
        del room.durability._new[file.id]  # its process was killed, and none will
        assert (await room.service.complete(ALICE, file.id)).is_new
        assert [row.boot_id for row in await room.files.chunks(file.id)] == [None]
        assert await room.content(file.id) == content[:MIB]


async def test_verifying_chunks_do_not_count_and_are_not_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, sync_every_s=3600) as room:
        file = await room.init(CHUNK)
        await room.put(file.id, 0, bytes(CHUNK))
        room.durability._new.clear()
    go_on = asyncio.Event()
    from hypersend_server.files.durability import Durability

    verify = Durability._verify

    async def later(self: Durability, stale: Any) -> None:
        await go_on.wait()
        await verify(self, stale)

    monkeypatch.setattr(Durability, "_verify", later)
    async with opened(tmp_path, boot_id="boot-2") as room:
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert (shown.upload.received, shown.upload.verifying) == ([], [(0, 0)])
        assert await room.code_of(room.put(file.id, 0, bytes(CHUNK))) == "verifying"
        error = await refused(room.service.complete(ALICE, file.id))
        assert (error.code, error.kind.retryable) == ("verifying", True)
        go_on.set()
        await room.durability.verified.wait()
        assert (await room.service.complete(ALICE, file.id)).file.state == "complete"


async def test_a_disk_that_fails_takes_back_what_was_not_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, sync_every_s=3600) as room:
        file = await room.init(3 * CHUNK)
        await room.put(file.id, 0, bytes(CHUNK))
        await room.durability.sync(file.id)
        await room.put(file.id, 1, bytes(CHUNK))
        held = Held()
        held.give(bytes(MIB))
        task = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 2, held.body, Claims()))
        await held.asked.wait()

        async def sync(upload: Any) -> None:
            raise StorageUnavailable("EIO")

        with monkeypatch.context() as patched:
            patched.setattr(room.store, "sync", sync)
            assert await room.code_of(room.service.complete(ALICE, file.id)) == "storage_unavailable"
        held.give(bytes(7 * MIB))
        held.end()
        assert (await refused(task)).code == "storage_unavailable"
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert (shown.upload.received, shown.upload.partial) == ([(0, 0)], [])
        assert shown.upload.received_bytes == CHUNK


@pytest.mark.parametrize("code", ["storage_full", "metadata_unavailable"])
async def test_what_was_begun_and_could_not_be_recorded_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    async with opened(tmp_path) as room:
        async def refuse(*arguments: Any) -> None:
            raise HyperSendError(code)

        with monkeypatch.context() as patched:
            patched.setattr(room.files, "set_location", refuse)
            assert await room.code_of(room.init(3, key="once")) == code
        assert [*(tmp_path / "uploads").iterdir()] == []
        file = await room.init(3, key="once")
        await room.put(file.id, 0, b"tea")
        assert (await room.service.complete(ALICE, file.id)).file.state == "complete"
        assert await room.content(file.id) == b"tea"
        assert [*(tmp_path / "uploads").iterdir()] == []


async def test_what_a_process_began_that_died_before_it_was_recorded_goes_when_the_upload_is_complete(
    tmp_path: Path
) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(3)
        await room.store.create(file.id, Layout(3, MIB))
        await room.put(file.id, 0, b"tea")
        assert (await room.service.complete(ALICE, file.id)).file.state == "complete"
        assert await room.content(file.id) == b"tea"
        assert [*(tmp_path / "uploads").iterdir()] == []


async def test_of_two_processes_that_begin_an_upload_one_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as room:
        real = room.files.set_location

        async def late(file_id: str, location: str, instead_of: str = "") -> Any:
            await real(file_id, await room.store.create(file_id, Layout(3, MIB)))
            return await real(file_id, location, instead_of)

        with monkeypatch.context() as patched:
            patched.setattr(room.files, "set_location", late)
            file = await room.init(3)
        assert len([*(tmp_path / "uploads" / file.id).iterdir()]) == 1
        await room.put(file.id, 0, b"tea")
        assert (await room.service.complete(ALICE, file.id)).file.state == "complete"


async def test_a_full_disk_keeps_the_prefix_and_goes_on_later(tmp_path: Path, small_disk: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(small_disk / "data") as room:
        file = await room.init(CHUNK)
        ballast = small_disk / "ballast"
        with ballast.open("wb") as disk:
            disk.write(bytes(18 * MIB))
        error = await refused(room.put(file.id, 0, content))
        assert (error.code, error.kind.status) == ("storage_full", 507)
        ballast.unlink()
        await room.put(file.id, 0, content)
        await room.service.complete(ALICE, file.id)
        assert await room.content(file.id) == content
