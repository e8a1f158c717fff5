"""What every backend's `Files` must do, also when calls come together."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from hypersend_server.errors import HyperSendError
from hypersend_server.metadata.base import Metadata
from hypersend_server.metadata.files import (
    DELETION_DELAY_MS,
    Begun,
    ChunkRecord,
    Deletion,
    FileRecord,
    Preview,
    Stored,
    Volatile,
)

NOW = 1_800_000_000_000
LATER = NOW + 1000
CHUNK = 100
BOOT = "boot"


def record(file_id: str, *, size: int = 250, **fields: Any) -> FileRecord:
    fields = {"owner_id": "alice", "name": f"{file_id}.bin", "created_at": NOW, "expires_at": LATER, **fields}
    return FileRecord(id=file_id, size=size, mime="text/plain", state="uploading", chunk_size=CHUNK, backend="local",
                      **fields)


def chunk(index: int, *, size: int = CHUNK, digest: bytes = b"d" * 32, boot_id: str | None = BOOT) -> ChunkRecord:
    return ChunkRecord(index, size, digest, "", boot_id)


async def begin(metadata: Metadata, file: FileRecord, *, key: str | None = None, body: bytes = b"b" * 32,
                quota: int | None = None, free: int | None = None, preview: Preview | None = None) -> Begun:
    return await metadata.files.begin(
        file, idempotency_key=key, request_hash=body, preview=preview, default_quota_bytes=quota, free_bytes=free)


async def uploading(metadata: Metadata, file_id: str, **fields: Any) -> FileRecord:
    await begin(metadata, record(file_id, **fields))
    opened = await metadata.files.set_location(file_id, f"uploads/{file_id}")
    assert opened is not None
    return opened


async def complete(metadata: Metadata, file_id: str, **fields: Any) -> FileRecord:
    file = await uploading(metadata, file_id, **fields)
    for index in range(file.chunk_count):
        size = min(CHUNK, file.size - index * CHUNK)
        await metadata.files.add_receipt(file_id, chunk(index, size=size, boot_id=None), LATER)
    await metadata.files.begin_completing(file_id)
    return (await metadata.files.finish(file_id, f"files/{file_id}", b"c" * 32, None, NOW)).file


async def refused(code: str, call: Any) -> HyperSendError:
    with pytest.raises(HyperSendError) as caught:
        await call
    assert caught.value.code == code
    return caught.value


class FilesConformance:
    async def test_a_record_comes_back_as_it_was_begun(self, metadata: Metadata) -> None:
        file = record("f", chat_id="tea", sha256=b"s" * 32, sha256_state="claimed", width=3, height=4, duration_s=1.5,
                      ticket_id="t", preview_id="p")
        begun = await begin(metadata, file, preview=Preview("p", "image/jpeg", b"picture"))
        assert begun == (file, True)
        assert await metadata.files.get("f") == file
        assert await metadata.files.get("other") is None
        picture = await metadata.accounts.get_picture("p")
        assert picture is not None
        assert (picture.mime, picture.data) == ("image/jpeg", b"picture")

    async def test_the_first_location_wins(self, metadata: Metadata) -> None:
        await begin(metadata, record("f"))
        assert (await metadata.files.set_location("f", "one")).location == "one"  # type: ignore[union-attr]
        assert (await metadata.files.set_location("f", "two")).location == "one"  # type: ignore[union-attr]
        assert await metadata.files.set_location("other", "x") is None
        assert (await metadata.files.set_location("f", "three", "two")).location == "one"  # type: ignore[union-attr]
        assert (await metadata.files.set_location("f", "two", "one")).location == "two"  # type: ignore[union-attr]

    async def test_uploads_begun_together_never_pass_the_quota(self, metadata: Metadata) -> None:
        answers = await asyncio.gather(
            *(begin(metadata, record(f"f{n}", size=300), quota=1000) for n in range(10)), return_exceptions=True)
        assert sum(isinstance(answer, Begun) for answer in answers) == 3
        error = await refused("quota_exceeded", begin(metadata, record("g", size=101), quota=1000))
        assert error.extra == {"size": 101, "quota_bytes": 1000, "used_bytes": 0, "reserved_bytes": 900}
        await begin(metadata, record("h", size=100), quota=1000)
        assert await metadata.files.usage("alice") == (0, 1000, 0)

    async def test_uploads_begun_together_never_reserve_more_than_is_free(self, metadata: Metadata) -> None:
        answers = await asyncio.gather(*(
            begin(metadata, record(f"f{n}", size=300, owner_id=f"u{n}"), free=1000) for n in range(10)),
            return_exceptions=True)
        assert sum(isinstance(answer, Begun) for answer in answers) == 3
        await metadata.files.set_location("f0", "x")
        began = [answer.file.id for answer in answers if isinstance(answer, Begun)]
        await metadata.files.add_receipt(began[0], chunk(0), LATER)  # these bytes are no longer free, nor reserved
        error = await refused("storage_full", begin(metadata, record("g", size=101), free=900))
        assert error.extra == {"size": 101, "free_bytes": 100, "reserved_bytes": 800}
        await begin(metadata, record("h", size=100), free=900)

    async def test_a_repeat_through_another_ticket_takes_the_upload_over(self, metadata: Metadata) -> None:
        await begin(metadata, record("f", ticket_id="one"), key="k")
        again = await begin(metadata, record("g", ticket_id="two"), key="k")
        assert (again.file.id, again.file.ticket_id, again.is_new) == ("f", "two", False)
        for other in (record("h"), record("h", ticket_id="three", chat_id="another")):
            assert (await begin(metadata, other, key="k")).file.ticket_id == "two"
        kept = await metadata.files.get("f")
        assert kept is not None
        assert kept.ticket_id == "two"

    async def test_an_idempotency_key_belongs_to_one_body_of_one_owner(self, metadata: Metadata) -> None:
        begun = await asyncio.gather(*(begin(metadata, record(f"f{n}"), key="k") for n in range(5)))
        assert len({answer.file.id for answer in begun}) == 1
        assert sum(answer.is_new for answer in begun) == 1
        await refused("idempotency_conflict", begin(metadata, record("g"), key="k", body=b"o" * 32))
        assert (await begin(metadata, record("h", owner_id="bob"), key="k", body=b"o" * 32)).is_new
        await metadata.files.remove(begun[0].file.id, NOW)
        assert (await begin(metadata, record("i"), key="k", body=b"o" * 32)).is_new

    async def test_a_receipt_is_kept_once(self, metadata: Metadata) -> None:
        await uploading(metadata, "f")
        await metadata.files.set_partial("f", 0, 50, BOOT, LATER)
        assert await metadata.files.add_receipt("f", chunk(0), LATER + 5) == 100
        assert await metadata.files.add_receipt("f", chunk(0), LATER + 9) == 100
        await refused("chunk_conflict", metadata.files.add_receipt("f", chunk(0, digest=b"e" * 32), LATER))
        state = await metadata.files.get_chunk("f", 0)
        assert state is not None
        assert (state.receipt, state.partial_bytes, state.file.expires_at) == (chunk(0), 0, LATER + 5)
        assert await metadata.files.get_chunk("other", 0) is None

    async def test_receipts_that_come_together_are_all_counted(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=1000)
        totals = await asyncio.gather(*(metadata.files.add_receipt("f", chunk(n), LATER) for n in range(10)))
        assert sorted(totals) == [100 * n for n in range(1, 11)]

    async def test_no_receipt_enters_what_is_not_uploading(self, metadata: Metadata) -> None:
        await complete(metadata, "done", size=100)
        await refused("upload_closed", metadata.files.add_receipt("done", chunk(1), LATER))
        await uploading(metadata, "late")
        await metadata.files.expire(LATER, 10)
        await refused("upload_expired", metadata.files.add_receipt("late", chunk(0), LATER))
        await uploading(metadata, "gone")
        await metadata.files.remove("gone", NOW)
        await refused("not_found", metadata.files.add_receipt("gone", chunk(0), LATER))
        await refused("not_found", metadata.files.add_receipt("other", chunk(0), LATER))

    async def test_progress_tells_received_partial_and_verifying_apart(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=650)
        for index, boot_id in ((0, None), (1, BOOT), (2, "before"), (4, BOOT)):
            await metadata.files.add_receipt("f", chunk(index, boot_id=boot_id), LATER)
        await metadata.files.set_partial("f", 3, 40, BOOT, LATER)
        await metadata.files.set_partial("f", 5, 30, "before", LATER)
        progress = await metadata.files.progress("f", BOOT)
        assert progress == ([(0, 1), (4, 4)], 300, [(3, 40)], [(2, 2)])
        await metadata.files.set_partial("f", 3, 0, BOOT, LATER)
        assert (await metadata.files.progress("f", BOOT)).partial == []

    async def test_a_prefix_at_a_store_without_boots_can_be_gone_on_from(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=650)
        await metadata.files.set_partial("f", 3, 40, "", LATER)
        await metadata.files.set_partial("f", 5, 30, "before", LATER)
        assert (await metadata.files.progress("f", None)).partial == [(3, 40)]
        assert (await metadata.files.progress("f", BOOT)).partial == []

    async def test_receipts_become_what_the_store_lists(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=450)
        for index in (0, 1, 2):
            await metadata.files.add_receipt("f", chunk(index, boot_id=None), LATER)
        await metadata.files.set_partial("f", 4, 20, BOOT, LATER)
        other = ChunkRecord(1, CHUNK, b"e" * 32, "tag", None)
        last = ChunkRecord(4, 50, b"f" * 32, "last", None)
        await metadata.files.reconcile("f", [other, last], [2, 3])
        assert await metadata.files.chunks("f") == [chunk(0, boot_id=None), other, last]
        assert await metadata.files.progress("f", None) == ([(0, 1), (4, 4)], 250, [], [])
        assert (await metadata.files.get("f")).received_bytes == 250  # type: ignore[union-attr]
        await complete(metadata, "done", size=100)
        await metadata.files.reconcile("done", [other], [0])
        assert await metadata.files.chunks("done") == [chunk(0, boot_id=None)]
        await metadata.files.reconcile("other", [other], [])
        assert await metadata.files.chunks("other") == []

    async def test_only_an_open_upload_is_given_more_time(self, metadata: Metadata) -> None:
        await uploading(metadata, "f")
        await metadata.files.extend_upload("f", LATER + 50)
        assert (await metadata.files.get("f")).expires_at == LATER + 50  # type: ignore[union-attr]
        await metadata.files.expire(LATER + 50, 10)
        await refused("upload_expired", metadata.files.extend_upload("f", LATER + 90))
        await complete(metadata, "done", size=100)
        await refused("upload_closed", metadata.files.extend_upload("done", LATER))
        await refused("not_found", metadata.files.extend_upload("other", LATER))

    async def test_a_prefix_never_stands_beside_a_receipt(self, metadata: Metadata) -> None:
        await uploading(metadata, "f")
        await metadata.files.add_receipt("f", chunk(0), LATER)
        await metadata.files.set_partial("f", 0, 10, BOOT, LATER)
        state = await metadata.files.get_chunk("f", 0)
        assert state is not None
        assert state.partial_bytes == 0

    async def test_receipts_become_durable_or_are_taken_back(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=500)
        for index in range(3):
            await metadata.files.add_receipt("f", chunk(index), LATER)
        await metadata.files.add_receipt("f", chunk(3, boot_id="before"), LATER)
        await metadata.files.mark_durable("f", [0, 3], BOOT)
        assert await metadata.files.volatile() == [
            Volatile("f", 1, BOOT), Volatile("f", 2, BOOT), Volatile("f", 3, "before")]
        await metadata.files.settle("f", 1, "before", False)  # of another boot than it was written in
        await metadata.files.settle("f", 3, "before", True)
        assert await metadata.files.volatile() == [Volatile("f", 1, BOOT), Volatile("f", 2, BOOT)]
        await metadata.files.settle("f", 1, BOOT, False)
        await metadata.files.set_partial("f", 4, 10, BOOT, LATER)
        assert await metadata.files.drop_volatile("f") == 1
        progress = await metadata.files.progress("f", BOOT)
        assert progress == ([(0, 0), (3, 3)], 200, [], [])
        assert (await metadata.files.get("f")).received_bytes == 200  # type: ignore[union-attr]

    async def test_completing_wants_every_chunk_and_no_doubt(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=500)
        await metadata.files.add_receipt("f", chunk(2, boot_id="before"), LATER)
        error = await refused("chunks_missing", metadata.files.begin_completing("f"))
        assert error.extra["missing"] == [(0, 1), (3, 4)]
        for index in (0, 1, 3, 4):
            await metadata.files.add_receipt("f", chunk(index), LATER)
        await metadata.files.mark_durable("f", [0, 1, 3], BOOT)
        await metadata.files.settle("f", 2, "before", True)
        # One of this boot that is not on the disk yet could still be lost, and later nobody would send it again.
        await refused("verifying", metadata.files.begin_completing("f"))
        await metadata.files.mark_durable("f", [4], BOOT)
        assert (await metadata.files.begin_completing("f")).state == "completing"
        assert (await metadata.files.begin_completing("f")).state == "completing"
        assert [file.id for file in await metadata.files.completing()] == ["f"]
        answers = await asyncio.gather(*(
            metadata.files.finish("f", "files/f", b"c" * 32, "image/png", NOW) for _ in range(3)))
        assert sorted(answer.is_new for answer in answers) == [False, False, True]
        done = answers[0].file
        assert all(answer.file == done for answer in answers)
        assert (done.state, done.location, done.checksum, done.sniffed_mime, done.completed_at, done.expires_at) == (
            "complete", "files/f", b"c" * 32, "image/png", NOW, None)
        assert await metadata.files.finish("f", "elsewhere", b"x" * 32, None, NOW + 1) == (done, False)
        assert await metadata.files.begin_completing("f") == done
        assert await metadata.files.volatile() == []
        assert [c.index for c in await metadata.files.chunks("f")] == [0, 1, 2, 3, 4]
        await refused("not_found", metadata.files.begin_completing("other"))

    async def test_an_upload_whose_chunks_the_store_lacks_is_open_again(self, metadata: Metadata) -> None:
        await uploading(metadata, "f", size=300)
        for index in range(3):
            await metadata.files.add_receipt("f", chunk(index, boot_id=None), LATER)
        await metadata.files.reopen("f", [0], LATER)
        assert await metadata.files.progress("f", None) == ([(0, 2)], 300, [], [])
        await metadata.files.begin_completing("f")
        await metadata.files.reopen("f", [0, 2], LATER + 7)
        file = await metadata.files.get("f")
        assert file is not None
        assert (file.state, file.received_bytes, file.expires_at) == ("uploading", 100, LATER + 7)
        assert await metadata.files.progress("f", None) == ([(1, 1)], 100, [], [])

    async def test_uploads_expire_and_leave_word_of_it(self, metadata: Metadata) -> None:
        await uploading(metadata, "f")
        await uploading(metadata, "g", expires_at=LATER + 1)
        await metadata.files.add_receipt("f", chunk(0), LATER)
        assert await metadata.files.expire(LATER - 1, 10) == []
        assert await metadata.files.abandoned(10) == []
        assert [file.id for file in await metadata.files.abandoned(10, LATER)] == ["f"]
        assert [file.id for file in await metadata.files.expire(LATER, 10)] == ["f"]
        assert await metadata.files.expire(LATER, 10) == []
        assert [file.id for file in await metadata.files.abandoned(10)] == ["f"]
        await metadata.files.forget_upload("f")
        assert await metadata.files.abandoned(10) == []
        file = await metadata.files.get("f")
        assert file is not None
        assert (file.state, file.location, file.received_bytes) == ("expired", "", 0)
        assert await metadata.files.chunks("f") == []
        assert await metadata.files.forget_expired(NOW) == 0
        assert await metadata.files.forget_expired(NOW + 1) == 1
        assert await metadata.files.get("f") is None

    async def test_an_aborted_upload_leaves_nothing(self, metadata: Metadata) -> None:
        await uploading(metadata, "f")
        await metadata.files.add_receipt("f", chunk(0), LATER)
        before = await metadata.files.remove("f", NOW)
        assert before is not None
        assert before.state == "uploading"
        assert await metadata.files.remove("f", NOW) is None
        assert [file.id for file in await metadata.files.abandoned(10)] == ["f"]
        assert await metadata.files.usage("alice") == (0, 0, 0)
        await metadata.files.forget_upload("f")
        assert await metadata.files.get("f") is None
        assert await metadata.files.chunks("f") == []
        assert await metadata.files.due_deletions(NOW * 2, 10) == []

    async def test_forgetting_an_upload_spares_what_is_alive(self, metadata: Metadata) -> None:
        await uploading(metadata, "up")
        await metadata.files.add_receipt("up", chunk(0), LATER)
        await complete(metadata, "done", size=100)
        await metadata.files.forget_upload("up")
        await metadata.files.forget_upload("done")
        assert len(await metadata.files.chunks("up")) == len(await metadata.files.chunks("done")) == 1

    async def test_the_bytes_of_a_removed_file_are_due_in_an_hour(self, metadata: Metadata) -> None:
        await complete(metadata, "f", size=100, preview_id=None)
        assert await metadata.files.usage("alice") == (100, 0, 1)
        before = await metadata.files.remove("f", NOW)
        assert before is not None
        assert before.state == "complete"
        file = await metadata.files.get("f")
        assert file is not None
        assert (file.state, file.deleted_at) == ("deleted", NOW)
        assert await metadata.files.usage("alice") == (0, 0, 0)
        assert await metadata.files.due_deletions(NOW + DELETION_DELAY_MS - 1, 10) == []
        due = await metadata.files.due_deletions(NOW + DELETION_DELAY_MS, 10)
        assert due == [Deletion("local", "files/f")]
        await metadata.files.deletion_done(due[0])
        assert await metadata.files.due_deletions(NOW * 2, 10) == []
        assert await metadata.files.get_readable("f", "alice") is None

    async def test_a_backup_holds_deletions_back(self, metadata: Metadata) -> None:
        until = NOW + 2 * DELETION_DELAY_MS
        assert await metadata.server.take_lease("backup", "me", NOW, 2 * DELETION_DELAY_MS)
        await metadata.files.add_deletions([Deletion("local", "x")], NOW)
        assert await metadata.files.due_deletions(until - 1, 10) == []
        assert await metadata.files.hasten_deletions(NOW) == 0
        assert await metadata.files.due_deletions(until, 10) == [Deletion("local", "x")]
        await metadata.server.release_lease("backup", "me")
        assert await metadata.files.hasten_deletions(NOW) == 1
        assert await metadata.files.due_deletions(NOW, 10) == [Deletion("local", "x")]

    async def test_no_deletion_reaches_a_location_that_is_in_use(self, metadata: Metadata) -> None:
        await complete(metadata, "f", size=100)
        await metadata.files.add_deletions([Deletion("local", "files/f"), Deletion("other", "files/f")], 0)
        assert await metadata.files.due_deletions(NOW, 10) == [Deletion("other", "files/f")]

    async def test_a_copy_takes_over_in_one_step(self, metadata: Metadata) -> None:
        before = await complete(metadata, "f", size=100)
        source, target = Deletion("local", "files/f"), Deletion("s3", "key")
        await metadata.files.add_deletions([Deletion("s3", "key"), Deletion("s3", "key?upload")], NOW)
        moved = await metadata.files.move("f", source, target, "key?upload", NOW)
        assert moved == msgspec.structs.replace(before, backend="s3", location="key")
        assert await metadata.files.get("f") == moved
        assert await metadata.files.chunks("f") == [chunk(0, boot_id=None)]
        assert await metadata.files.due_deletions(NOW + DELETION_DELAY_MS - 1, 10) == []
        assert await metadata.files.due_deletions(NOW + DELETION_DELAY_MS, 10) == [source]
        assert await metadata.files.backends() == {"local", "s3"}

    async def test_of_two_copies_one_takes_over(self, metadata: Metadata) -> None:
        await complete(metadata, "f", size=100)
        answers = await asyncio.gather(*(
            metadata.files.move("f", Deletion("local", "files/f"), Deletion("s3", f"key{n}"), "", NOW)
            for n in range(5)))
        (moved,) = [answer for answer in answers if answer is not None]
        assert await metadata.files.get("f") == moved

    async def test_nothing_takes_over_from_a_file_that_was_removed_or_is_elsewhere(self, metadata: Metadata) -> None:
        await complete(metadata, "gone", size=100)
        await metadata.files.remove("gone", NOW)
        await uploading(metadata, "up")
        target = Deletion("s3", "key")
        await metadata.files.add_deletions([target], NOW)
        for file_id, location in (("gone", "files/gone"), ("up", "uploads/up"), ("other", "files/other")):
            assert await metadata.files.move(file_id, Deletion("local", location), target, "", NOW) is None
        assert target in await metadata.files.due_deletions(NOW * 2, 10)

    async def test_what_each_store_holds_is_counted(self, metadata: Metadata) -> None:
        await complete(metadata, "f", size=100)
        await complete(metadata, "g", size=150)
        await uploading(metadata, "up")
        assert await metadata.files.stored("local", NOW + 1) == Stored(2, 250, 1)
        assert await metadata.files.stored("local", NOW) == Stored(0, 0, 1)
        assert await metadata.files.stored("s3", NOW + 1) == Stored(0, 0, 0)

    async def test_a_preview_goes_with_its_file(self, metadata: Metadata) -> None:
        await begin(metadata, record("f", preview_id="p"), preview=Preview("p", "image/jpeg", b"picture"))
        await metadata.files.remove("f", NOW)
        assert await metadata.accounts.get_picture("p") is None

    async def test_own_files_are_listed_newest_first(self, metadata: Metadata) -> None:
        for number, name in enumerate(("Über", "b%", "c_", "d")):
            await begin(metadata, record(f"f{number}", name=name, created_at=NOW + number // 2))
        await complete(metadata, "g", size=100, name="e", created_at=NOW + 9)
        await begin(metadata, record("h", owner_id="bob"))
        files = metadata.files

        async def ids(states: Any, query: str = "", after: Any = None, limit: int = 10) -> tuple[list[str], Any]:
            listing = await files.list_own("alice", states, query, after, limit)
            return [file.id for file in listing.files], listing.position

        every = ("uploading", "complete")
        assert await ids(every) == (["g", "f3", "f2", "f1", "f0"], None)
        first, position = await ids(every, limit=2)
        second, rest = await ids(every, after=position, limit=2)
        third, end = await ids(every, after=rest, limit=2)
        assert (first + second + third, end) == (["g", "f3", "f2", "f1", "f0"], None)
        assert (await ids(("complete",)))[0] == ["g"]
        assert (await ids(every, "üb"))[0] == ["f0"]
        assert (await ids(every, "%"))[0] == ["f1"]
        assert (await ids(every, "_"))[0] == ["f2"]

    async def test_owned_ends_when_all_was_removed(self, metadata: Metadata) -> None:
        await uploading(metadata, "f")
        await complete(metadata, "g", size=100)
        assert {file.id for file in await metadata.files.owned("alice", 10)} == {"f", "g"}
        for file_id in ("f", "g"):
            await metadata.files.remove(file_id, NOW)
        assert await metadata.files.owned("alice", 10) == []

    async def test_claims_and_complete_files_are_walked_by_id(self, metadata: Metadata) -> None:
        for number in range(5):
            await complete(metadata, f"f{number}", size=100, sha256=b"s" * 32, sha256_state="claimed")
        await uploading(metadata, "f5", sha256=b"s" * 32, sha256_state="claimed")
        first = await metadata.files.complete_after("", 3)
        assert [file.id for file in first] == ["f0", "f1", "f2"]
        assert [file.id for file in await metadata.files.complete_after("f2", 3)] == ["f3", "f4"]
        assert [file.id for file in await metadata.files.complete_after("f2", 1, "local")] == ["f3"]
        assert await metadata.files.complete_after("", 3, "s3") == []
        await metadata.files.set_sha256_state("f1", "failed")
        assert [file.id for file in await metadata.files.claimed(["local"], "f0", 9)] == ["f2", "f3", "f4"]
        assert await metadata.files.claimed(["other"], "", 9) == []

    async def test_files_for_a_chat_that_nothing_shows_are_found(self, metadata: Metadata) -> None:
        await complete(metadata, "own", size=100)
        await complete(metadata, "for-chat", size=100, chat_id="tea")
        assert await metadata.files.unshown(NOW - 1, 10) == []
        assert [file.id for file in await metadata.files.unshown(NOW, 10)] == ["for-chat"]

    async def test_what_is_known_is_not_stray(self, metadata: Metadata) -> None:
        await complete(metadata, "f", size=100)
        await complete(metadata, "gone", size=100)
        await metadata.files.remove("gone", NOW)
        await uploading(metadata, "up")
        found = await metadata.files.known(
            "local", ["files/f", "files/gone", "files/stray"], ["up", "f", "stray"])
        assert found == {"files/f", "files/gone", "up"}
        assert await metadata.files.known("other", ["files/f"], []) == set()
        many = [f"files/{n}" for n in range(2000)]
        assert await metadata.files.known("local", [*many, "files/f"], many) == {"files/f"}
        assert await metadata.files.backends() == {"local"}

    async def test_a_file_no_message_shows_is_its_owners_alone(self, metadata: Metadata) -> None:
        file = await complete(metadata, "f", size=100)
        assert await metadata.files.get_readable("f", "alice") == file
        assert await metadata.files.get_readable("f", "bob") is None
        await refused("not_found", metadata.files.list_chat("tea", "alice", "", None, 10))
        assert msgspec.structs.asdict(file)["state"] == "complete"

    async def test_marks_are_kept(self, metadata: Metadata) -> None:
        assert await metadata.server.get_mark("verify") == ""
        await metadata.server.set_mark("verify", "f1")
        await metadata.server.set_mark("verify", "f2")
        await metadata.server.set_mark("other", "x")
        assert await metadata.server.get_mark("verify") == "f2"
        await metadata.server.set_mark("verify", "")
        assert await metadata.server.get_mark("verify") == ""
        assert await metadata.server.get_mark("other") == "x"
