"""Chunks whose body ends early, comes late, or meets another one: what is kept, and where it goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from hypersend_server.files.body import Body
from hypersend_server.files.uploads import Claims
from tests.files.room import ALICE, MIB, Held, Room, opened, refused, sha

CHUNK = 8 * MIB


async def cut_after(room: Room, file_id: str, data: bytes, *, index: int = 0, offset: int = 0) -> None:
    """Send these bytes and then vanish, as a phone does."""
    held = Held()
    held.give(data)
    task = asyncio.create_task(
        room.uploads.put_chunk(ALICE, file_id, index, held.body, Claims(), offset=offset))
    await held.asked.wait()
    task.cancel()
    await asyncio.wait([task])
    await settled(room)


async def prefixes(room: Room, file_id: str) -> list[tuple[int, int]]:
    """(chunk, bytes) of what has begun to come."""
    upload = (await room.service.get(ALICE, file_id)).upload
    assert upload is not None
    return upload.partial


async def settled(room: Room) -> None:
    """Wait for writes whose request has gone."""
    while room.uploads._writing:
        await asyncio.wait(list(room.uploads._writing))


async def test_a_chunk_that_was_cut_goes_on_where_it_stopped(tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        await cut_after(room, file.id, content[: 3 * MIB])
        assert await prefixes(room, file.id) == [(0, 3 * MIB)]
        error = await refused(room.put(file.id, 0, content[4 * MIB :], offset=4 * MIB))
        assert (error.code, error.extra["have"]) == ("chunk_offset", 3 * MIB)
        await cut_after(room, file.id, content[3 * MIB : 5 * MIB], offset=3 * MIB)
        accepted = await room.put(
            file.id, 0, content[5 * MIB :], offset=5 * MIB, body_sha256=sha(content[5 * MIB :]),
            chunk_sha256=sha(content))
        assert (accepted.size, accepted.sha256) == (CHUNK, sha(content))
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert (shown.upload.partial, shown.upload.received) == ([], [(0, 0)])
        # The same end again, as after a lost answer.
        assert (await room.put(file.id, 0, content[5 * MIB :], offset=5 * MIB)).sha256 == sha(content)


async def test_a_body_that_fails_keeps_what_came_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        held = Held()
        held.give(bytes(MIB))
        held.fail(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError):
            await room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims())
        assert await prefixes(room, file.id) == [(0, MIB)]


async def test_a_prefix_whose_end_is_wrong_is_dropped(tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        await cut_after(room, file.id, b"\0" * 3 * MIB)
        assert await room.code_of(room.put(
            file.id, 0, content[3 * MIB :], offset=3 * MIB, chunk_sha256=sha(content))) == "digest_mismatch"
        error = await refused(room.put(file.id, 0, content[3 * MIB :], offset=3 * MIB))
        assert (error.code, error.extra["have"]) == ("chunk_offset", 0)


async def test_an_offset_behind_a_whole_chunk_is_told_that_all_of_it_is_there(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(100)
        await room.put(file.id, 0, b"a" * 100)
        error = await refused(room.put(file.id, 0, b"a", offset=101))
        assert (error.code, error.extra["have"]) == ("chunk_offset", 100)


async def test_starting_anew_below_a_prefix_forgets_it_first(tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        await cut_after(room, file.id, content[: 5 * MIB])
        held = Held()
        held.give(os.urandom(MIB))
        task = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims()))
        await held.asked.wait()
        assert await prefixes(room, file.id) == []  # nobody goes on from what is being overwritten
        task.cancel()
        await asyncio.wait([task])
        await settled(room)
        await room.put(file.id, 0, content)
        await room.service.complete(ALICE, file.id)
        assert await room.content(file.id) == content


async def test_a_prefix_is_void_after_a_reboot(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        await cut_after(room, file.id, bytes(2 * MIB))
    async with opened(tmp_path, boot_id="boot-1") as room:
        assert await prefixes(room, file.id) == [(0, 2 * MIB)]
    async with opened(tmp_path, boot_id="boot-2") as room:
        assert await prefixes(room, file.id) == []
        error = await refused(room.put(file.id, 0, bytes(6 * MIB), offset=2 * MIB))
        assert (error.code, error.extra["have"]) == ("chunk_offset", 0)
        await cut_after(room, file.id, bytes(MIB))
        assert await prefixes(room, file.id) == [(0, MIB)]


async def test_the_newest_request_for_a_chunk_cuts_the_older_off(tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        older, waiting = Held(), Held()
        older.give(os.urandom(2 * MIB))
        first = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 0, older.body, Claims()))
        await older.asked.wait()
        second = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 0, waiting.body, Claims()))
        await waiting.asked.wait()
        assert (await refused(first)).code == "chunk_busy"
        third = await room.put(file.id, 0, content)
        assert (await refused(second)).code == "chunk_busy"
        assert third.sha256 == sha(content)
        await room.service.complete(ALICE, file.id)
        assert await room.content(file.id) == content


async def test_a_chunk_held_by_another_process_is_busy(tmp_path: Path) -> None:
    async with opened(tmp_path) as one, opened(tmp_path) as other:
        file = await one.init(CHUNK)
        held = Held()
        held.give(bytes(MIB))
        task = asyncio.create_task(one.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims()))
        await held.asked.wait()
        assert await other.code_of(other.put(file.id, 0, bytes(CHUNK))) == "chunk_busy"
        task.cancel()
        await asyncio.wait([task])
        await settled(one)
        await other.put(file.id, 0, bytes(CHUNK))


async def test_a_slow_body_is_answered_and_keeps_its_prefix(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        held = Held()
        body = Body(held._parts(), min_bytes_per_s=1000, slow_after_s=0.1)
        held.give(bytes(50))
        error = await refused(room.uploads.put_chunk(ALICE, file.id, 0, body, Claims()))
        assert (error.code, error.kind.status) == ("request_timeout", 408)
        assert await prefixes(room, file.id) == [(0, 50)]
