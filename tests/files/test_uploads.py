"""Uploading at the service: any order, repeats, two writers, and what each refusal leaves behind."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.files import progress
from hypersend_server.files.types import Uploader
from hypersend_server.files.uploads import Claims
from hypersend_server.realtime.events import Frame
from tests.files.room import ALICE, BOB, MIB, Held, body_of, checksum_of, opened, parts_of, refused, sha

CHUNK = 8 * MIB


async def test_chunks_in_any_order_and_in_parallel_become_the_file(tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK + 5)
    async with opened(tmp_path) as room:
        file = await room.init(len(content), name="film.mp4")
        assert file.upload is not None
        assert (file.upload.chunk_size, file.upload.chunk_count) == (CHUNK, 3)
        answers = await asyncio.gather(*(
            room.put(file.id, index, content[index * CHUNK : (index + 1) * CHUNK]) for index in (2, 0, 1)))
        assert [answer.size for answer in answers] == [5, CHUNK, CHUNK]
        assert max(answer.received_bytes for answer in answers) == len(content)
        done, is_new = await room.service.complete(ALICE, file.id)
        assert is_new
        assert (done.state, done.checksum) == ("complete", checksum_of(content, CHUNK))
        assert await room.content(file.id) == content
        again, is_new = await room.service.complete(ALICE, file.id)
        assert (again, is_new) == (done, False)


@pytest.mark.parametrize("size", [0, 1, CHUNK])
async def test_files_of_no_byte_one_byte_and_one_chunk_complete(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    async with opened(tmp_path) as room:
        done = await room.stored(content)
        assert await room.content(done.id) == content
        assert done.checksum == checksum_of(content, CHUNK)
        if size == 0:
            assert done.checksum == hashlib.sha256().hexdigest()


async def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(0)
        assert file.upload is not None
        assert file.upload.chunk_count == 0
        assert await room.code_of(room.put(file.id, 0, b"")) == "chunk_index_invalid"


async def test_missing_chunks_are_named_as_ranges(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(5 * CHUNK)
        await room.put(file.id, 2, bytes(CHUNK))
        error = await refused(room.service.complete(ALICE, file.id))
        assert (error.code, error.extra["missing"]) == ("chunks_missing", [(0, 1), (3, 4)])
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert (shown.state, shown.upload.received, shown.upload.received_bytes) == ("uploading", [(2, 2)], CHUNK)


async def test_a_repeated_chunk_is_hashed_and_never_written(tmp_path: Path) -> None:
    first, other = os.urandom(CHUNK), os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        accepted = await room.put(file.id, 0, first)
        assert await room.put(file.id, 0, first) == accepted
        assert await room.code_of(room.put(file.id, 0, other)) == "chunk_conflict"
        assert await room.code_of(room.put(file.id, 0, first, body_sha256=sha(other))) == "digest_mismatch"
        assert await room.code_of(room.put(file.id, 0, first[:-1])) == "chunk_size_mismatch"
        held = Held()
        held.give(other[: 2 * MIB])
        cut = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims()))
        await held.asked.wait()
        cut.cancel()
        await asyncio.wait([cut])
        await room.service.complete(ALICE, file.id)
        assert await room.content(file.id) == first


async def test_a_repeat_in_flight_while_the_file_completes_changes_nothing(tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        await room.put(file.id, 0, content)
        held = Held()
        held.give(bytes(3 * MIB))
        slow = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims()))
        await held.asked.wait()
        await room.service.complete(ALICE, file.id)
        held.give(bytes(5 * MIB))
        held.end()
        assert (await refused(slow)).code == "chunk_conflict"
        assert await room.content(file.id) == content


async def test_wrong_digest_stores_nothing_and_is_not_gone_on_from(tmp_path: Path) -> None:
    content = os.urandom(CHUNK)
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        error = await refused(room.put(file.id, 0, content, body_sha256=sha(b"other")))
        assert (error.code, error.extra["sha256"]) == ("digest_mismatch", sha(content).hex())
        assert await room.code_of(room.put(file.id, 0, content, chunk_sha256=sha(b"other"))) == "digest_mismatch"
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert (shown.upload.received, shown.upload.partial) == ([], [])
        await room.put(file.id, 0, content, body_sha256=sha(content), chunk_sha256=sha(content))


async def test_bodies_of_the_wrong_size_earn_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK + 5)
        for index, size in ((0, CHUNK + 1), (0, 5), (1, 6), (1, 4), (1, 0)):
            error = await refused(room.put(file.id, index, bytes(size)))
            assert (error.code, error.kind.status) == ("chunk_size_mismatch", 400)
        shown = await room.service.get(ALICE, file.id)
        assert shown.upload is not None
        assert shown.upload.received == []


async def test_a_stated_length_that_is_wrong_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        held = Held()
        error = await refused(room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims(length=CHUNK + 1)))
        assert error.code == "chunk_size_mismatch"
        assert not held.asked.is_set()


async def test_reading_stops_at_the_first_byte_too_many(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(1000)
        held = Held()
        held.give(bytes(1000))
        held.give(b"x")
        error = await asyncio.wait_for(
            refused(room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims())), 10)
        assert error.code == "chunk_size_mismatch"


@pytest.mark.parametrize("index", [-1, 1, 9000, 2**31, 2**70])
async def test_an_index_out_of_range_is_refused(tmp_path: Path, index: int) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        assert await room.code_of(room.put(file.id, index, b"x")) == "chunk_index_invalid"


async def test_two_completes_at_once_make_one_file(tmp_path: Path) -> None:
    content = os.urandom(CHUNK + 1)
    async with opened(tmp_path) as room:
        file = await room.init(len(content))
        await room.put(file.id, 0, content[:CHUNK])
        await room.put(file.id, 1, content[CHUNK:])
        answers = await asyncio.gather(*(room.service.complete(ALICE, file.id) for _ in range(5)))
        assert {answer.file.checksum for answer in answers} == {checksum_of(content, CHUNK)}
        assert sum(answer.is_new for answer in answers) == 1
        assert len([path for path in (tmp_path / "files").rglob("*") if path.is_file()]) == 1


async def test_completing_that_was_cut_carries_on_at_start(tmp_path: Path) -> None:
    content = os.urandom(1000)
    async with opened(tmp_path) as room:
        waits = await room.init(1000)
        moved = await room.init(1000)
        for file in (waits, moved):
            await room.put(file.id, 0, content)
            await room.durability.sync(file.id)
            record = await room.files.begin_completing(file.id)
        await room.store.complete(_ref(record), [])  # renamed, and then the process ended
    async with opened(tmp_path) as room:
        await room.uploads.recover()
        for file in (waits, moved):
            assert (await room.service.get(ALICE, file.id)).state == "complete"
            assert await room.content(file.id) == content


def _ref(record: Any) -> Any:
    from hypersend_server.files.storing import ref_of

    return ref_of(record)


async def test_an_abort_gives_space_back_at_once_and_ends_writers(tmp_path: Path) -> None:
    async with opened(tmp_path, quota=CHUNK) as room:
        file = await room.init(CHUNK)
        held = Held()
        held.give(bytes(MIB))
        task = asyncio.create_task(room.uploads.put_chunk(ALICE, file.id, 0, held.body, Claims()))
        await held.asked.wait()
        assert await room.code_of(room.init(1)) == "quota_exceeded"
        await room.service.remove(ALICE, file.id)
        assert (await refused(task)).code == "upload_closed"
        assert await room.code_of(room.service.get(ALICE, file.id)) == "not_found"
        assert await room.code_of(room.service.remove(ALICE, file.id)) == "not_found"
        assert await room.code_of(room.put(file.id, 0, bytes(CHUNK))) == "not_found"
        assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []
        await room.init(CHUNK)


async def test_an_upload_expires_after_its_last_chunk(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(2 * CHUNK)
        room.clock.advance(6 * 86400)
        await room.put(file.id, 0, bytes(CHUNK))
        room.clock.advance(6 * 86400)
        assert await room.uploads.expire() == 0
        room.clock.advance(2 * 86400)
        assert await room.code_of(room.put(file.id, 1, bytes(CHUNK))) == "upload_expired"
        assert await room.code_of(room.service.complete(ALICE, file.id)) == "upload_expired"
        assert await room.uploads.expire() == 1
        assert (await room.service.get(ALICE, file.id)).state == "expired"
        assert await room.code_of(room.put(file.id, 1, bytes(CHUNK))) == "upload_expired"
        assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []
        assert await room.service.storage_use("alice") == (0, 0, 0)


async def test_that_uploads_expired_is_told_of_all_though_clearing_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(file_id: str) -> None:
        raise HyperSendError("metadata_unavailable")

    async with opened(tmp_path) as room:
        begun = [(await room.init(CHUNK)).id for _ in range(3)]
        room.clock.advance(8 * 86400)
        with monkeypatch.context() as patch:
            patch.setattr(room.files, "forget_upload", unavailable)
            assert await room.code_of(room.uploads.expire()) == "metadata_unavailable"
        told = [msgspec.json.decode(event.frame) for event in room.frames if isinstance(event, Frame)]
        assert [frame["id"] for frame in told if frame.get("state") == "expired"] == begun
        await room.housekeeping.each_minute()
        assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []


async def test_a_complete_file_takes_no_more_chunks(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        done = await room.stored(b"abc")
        assert await room.code_of(room.put(done.id, 0, b"abc")) == "upload_closed"


async def test_chunks_for_another_persons_upload_are_not_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        file = await room.init(CHUNK)
        for call in (room.put(file.id, 0, bytes(CHUNK), by=BOB), room.service.complete(BOB, file.id),
                     room.service.get(BOB, file.id), room.service.remove(BOB, file.id),
                     room.put("nothing", 0, b"x")):
            assert await room.code_of(call) == "not_found"


async def test_parallel_inits_never_reserve_more_than_the_quota(tmp_path: Path) -> None:
    async with opened(tmp_path, quota=10_000) as room:
        answers = await asyncio.gather(*(room.init(3_000) for _ in range(20)), return_exceptions=True)
        begun = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert len(begun) == 3
        error = next(answer for answer in answers if isinstance(answer, HyperSendError))
        assert error.code == "quota_exceeded"
        assert error.extra == {"size": 3000, "quota_bytes": 10_000, "used_bytes": 0, "reserved_bytes": 9000}
        await room.run("UPDATE users SET quota_bytes = 12000 WHERE id = 'alice'")
        await room.init(3_000)
        assert await room.service.storage_use("alice") == (0, 12_000, 0)


async def test_uploads_reserve_the_free_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path) as room:
        async def free_bytes() -> int:
            return 28 * MIB

        monkeypatch.setattr(room.store, "free_bytes", free_bytes)
        await room.init(15 * MIB)
        error = await refused(room.init(10 * MIB))
        assert (error.code, error.kind.status) == ("storage_full", 507)
        assert error.extra == {"size": 10 * MIB, "free_bytes": 5 * MIB, "reserved_bytes": 15 * MIB}
        await room.init(5 * MIB)


async def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, max_file_size=1000) as room:
        error = await refused(room.init(1001))
        assert (error.code, error.extra) == ("file_too_large", {"max_file_size": 1000})
        await room.init(1000)


async def test_an_idempotency_key_answers_with_the_same_file(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        answers = await asyncio.gather(*(room.init(100, key="k") for _ in range(5)))
        assert len({file.id for file in answers}) == 1
        assert await room.code_of(room.init(101, key="k")) == "idempotency_conflict"
        assert (await room.init(101, key="k", by=BOB)).id != answers[0].id
        await room.service.remove(ALICE, answers[0].id)
        assert (await room.init(101, key="k")).id != answers[0].id


async def test_progress_is_told_at_once_at_most_twice_a_second_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "INTERVAL_S", 60)  # half a second passes soon on a busy machine
    async with opened(tmp_path) as room:
        file = await room.init(12 * MIB)
        await room.put(file.id, 0, bytes(8 * MIB))
        await room.put(file.id, 1, bytes(4 * MIB))
        await room.service.complete(ALICE, file.id)
        sent = [msg for msg in room.frames if getattr(msg, "user_ids", None) == ["alice"]]
        frames = [msg.frame.decode() for msg in sent]  # type: ignore[union-attr]
        assert len(frames) == 2
        assert f'"received_bytes":{8 * MIB}' in frames[0]
        assert '"state":"complete"' in frames[1]
        assert f'"received_bytes":{12 * MIB}' in frames[1]


async def test_an_upload_ticket_is_good_for_what_it_began_and_no_longer(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        ticket, other = Uploader("alice", "ticket-1"), Uploader("alice", "ticket-2")
        own = await room.init(3)
        file = await room.init(3, by=ticket)
        assert (await room.service.get(ticket, file.id)).id == file.id
        assert await room.code_of(room.service.get(ticket, own.id)) == "not_found"
        assert await room.code_of(room.service.get(other, file.id)) == "not_found"
        assert await room.code_of(room.put(own.id, 0, b"abc", by=ticket)) == "not_found"
        assert await room.code_of(room.put(file.id, 0, b"abc", by=other)) == "not_found"
        await room.put(file.id, 0, b"abc", by=ticket)
        await room.service.complete(ticket, file.id)
        assert (await room.service.complete(ticket, file.id)).is_new is False
        assert await room.code_of(room.service.get(ticket, file.id)) == "not_found"
        assert await room.code_of(room.service.remove(ticket, file.id)) == "not_found"
        await room.service.remove(ALICE, file.id)


async def test_a_chat_at_init_must_be_ones_own_and_the_tickets(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        await room.chat("tea", "alice")
        await room.chat("coffee", "alice")
        await room.init(1, chat_id="tea")
        assert await room.code_of(room.init(1, chat_id="tea", by=BOB)) == "not_found"
        ticket = Uploader("alice", "t", "tea")
        await room.init(1, by=ticket)
        assert await room.run("SELECT chat_id FROM files WHERE ticket_id = 't'") == [("tea",)]
        assert await room.code_of(room.init(1, by=ticket, chat_id="coffee")) == "not_allowed"


async def test_a_body_is_not_read_before_it_is_wanted(tmp_path: Path) -> None:
    async with opened(tmp_path) as room:
        for file_id in ("nothing", (await room.stored(b"abc")).id):
            held = Held()
            await refused(room.uploads.put_chunk(ALICE, file_id, 0, held.body, Claims()))
            assert not held.asked.is_set()


def test_bodies_are_made_of_parts() -> None:
    assert asyncio.run(_joined(b"x" * 1000)) == b"x" * 1000


async def _joined(data: bytes) -> bytes:
    return b"".join([part async for part in body_of(data)]) + b"".join([part async for part in parts_of(b"")])
