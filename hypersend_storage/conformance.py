"""The suite that every driver passes.

A test module subclasses these classes and supplies two fixtures:

    store   an open Store with nothing in it
    twin    a second open instance over the same place, as another server process has one

The classes about a power ask with `isinstance` and skip a store that does not have it. This module needs pytest
with asyncio_mode = auto, and `pytest.register_assert_rewrite` before it is imported.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256, shake_256
from urllib.parse import urlsplit

import pytest

from hypersend_storage.base import (
    MIB,
    ChunkReceipt,
    Layout,
    LocalPath,
    NamedFirst,
    Presigned,
    SignedRequest,
    Store,
    UploadRef,
    VolatileWrites,
)
from hypersend_storage.errors import (
    ChunkBusy,
    ChunksLost,
    DigestMismatch,
    ObjectMissing,
    SizeMismatch,
    UploadLost,
)

CHUNK = 5 * MIB
"""The smallest part that S3 takes."""


class Cut(Exception):
    """What a connection that breaks raises out of a body."""


def content(size: int, seed: int = 0) -> bytes:
    """Bytes without a pattern, the same ones each time."""
    return shake_256(seed.to_bytes(8, "big")).digest(size)


async def parts(data: bytes, length: int = 65_521) -> AsyncIterator[bytes]:
    for start in range(0, len(data), length):
        yield data[start:start + length]


async def cut_after(data: bytes) -> AsyncIterator[bytes]:
    async for part in parts(data):
        yield part
    raise Cut


async def stalled_after(data: bytes, stalled: asyncio.Event) -> AsyncIterator[bytes]:
    async for part in parts(data):
        yield part
    stalled.set()
    await asyncio.Event().wait()


async def begin(store: Store, size: int, file_id: str | None = None) -> UploadRef:
    file_id = file_id or uuid.uuid4().hex
    layout = Layout(size, CHUNK)
    return UploadRef(file_id, await store.create(file_id, layout), layout)


def chunk_of(upload: UploadRef, data: bytes, index: int) -> bytes:
    return data[index * upload.layout.chunk_size:][:upload.layout.chunk_bytes(index)]


async def put(store: Store, upload: UploadRef, data: bytes, index: int) -> ChunkReceipt:
    """Store chunk `index` of the file's bytes `data`."""
    async with store.chunk(upload, index) as slot:
        return await slot.write(parts(chunk_of(upload, data, index)), offset=0, sha256=None)


async def put_all(store: Store, upload: UploadRef, data: bytes) -> list[ChunkReceipt]:
    return [await put(store, upload, data, index) for index in range(upload.layout.chunk_count)]


async def stored(store: Store, data: bytes, file_id: str | None = None) -> str:
    """The location of a complete file with these bytes."""
    upload = await begin(store, len(data), file_id)
    return await store.complete(upload, await put_all(store, upload, data))


def kept_out(store: Store, twin: Store) -> list[Store]:
    """Those whose writers exclude each other."""
    return [store, twin] if store.locks_out_processes else [store]


async def read(store: Store, location: str, start: int, length: int) -> bytes:
    return b"".join([part async for part in store.read(location, start, length)])


class StoreConformance:
    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 12_345])
    async def test_a_file_comes_back_as_it_was_sent(self, store: Store, size: int) -> None:
        data = content(size)
        location = await stored(store, data)
        assert await store.size(location) == size
        assert await read(store, location, 0, size) == data

    async def test_chunks_arrive_in_any_order_in_parallel_and_through_any_process(
        self, store: Store, twin: Store
    ) -> None:
        data = content(4 * CHUNK + 99)
        upload = await begin(store, len(data))
        receipts = await asyncio.gather(
            put(store, upload, data, 4), put(twin, upload, data, 2), put(store, upload, data, 0),
            put(twin, upload, data, 3), put(store, upload, data, 1))
        location = await twin.complete(upload, sorted(receipts, key=lambda receipt: receipt.index))
        assert await read(store, location, 0, len(data)) == data

    async def test_a_receipt_says_what_is_in_place(self, store: Store) -> None:
        data = content(CHUNK + 7)
        upload = await begin(store, len(data))
        receipt = await put(store, upload, data, 1)
        assert (receipt.index, receipt.size, receipt.sha256) == (1, 7, sha256(data[CHUNK:]).digest())

    async def test_a_body_may_come_in_parts_of_any_length(self, store: Store) -> None:
        data = content(CHUNK)

        async def body() -> AsyncIterator[bytes]:
            start = 0
            for length in itertools.cycle([1, 0, 1000, 70_000, *[1] * 600, 2 * MIB]):
                if start >= len(data):
                    return
                yield data[start:start + length]
                start += length

        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            receipt = await slot.write(body(), offset=0, sha256=sha256(data).digest())
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, len(data)) == data

    # Bodies that earn no receipt

    @pytest.mark.parametrize("claim", ["sha256", "body_sha256"])
    async def test_a_wrong_digest_earns_nothing_and_the_chunk_can_be_sent_again(
        self, store: Store, claim: str
    ) -> None:
        data, other = content(CHUNK), content(CHUNK, seed=1)
        right = sha256(data).digest()
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(DigestMismatch) as caught:
                await slot.write(parts(other), offset=0, sha256=right if claim == "sha256" else None,
                                 body_sha256=right if claim == "body_sha256" else None)
            assert caught.value.actual == sha256(other).digest()
            assert slot.in_place == 0
            receipt = await slot.write(parts(data), offset=0, sha256=right, body_sha256=right)
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, len(data)) == data

    async def test_a_body_that_is_too_long_is_refused_and_spares_the_next_chunk(self, store: Store) -> None:
        data = content(2 * CHUNK)
        upload = await begin(store, len(data))
        second = await put(store, upload, data, 1)
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(SizeMismatch) as caught:
                await slot.write(parts(content(CHUNK + 100_000, seed=1)), offset=0, sha256=None)
            assert (caught.value.expected, caught.value.received) == (CHUNK, CHUNK + 1)
            assert slot.in_place == 0
            first = await slot.write(parts(data[:CHUNK]), offset=0, sha256=None)
        location = await store.complete(upload, [first, second])
        assert await read(store, location, 0, len(data)) == data

    async def test_a_body_that_is_too_short_is_refused_and_can_be_gone_on_with(self, store: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(SizeMismatch) as caught:
                await slot.write(parts(data[:-1]), offset=0, sha256=None)
            assert (caught.value.expected, caught.value.received) == (CHUNK, CHUNK - 1)
            have = slot.in_place
            assert have < CHUNK
            receipt = await slot.write(parts(data[have:]), offset=have, sha256=sha256(data).digest())
        assert receipt.sha256 == sha256(data).digest()

    # Chunks that take several requests

    @pytest.mark.parametrize("sent", [0, 1, MIB - 1, 3 * MIB + 17, CHUNK])
    async def test_a_chunk_that_was_cut_off_goes_on_in_the_next_request(self, store: Store, sent: int) -> None:
        data = content(CHUNK)
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(Cut):
                await slot.write(cut_after(data[:sent]), offset=0, sha256=None)
            have = slot.in_place
        assert have <= sent
        async with store.chunk(upload, 0) as slot:
            receipt = await slot.write(parts(data[have:]), offset=have, sha256=sha256(data).digest(),
                                       body_sha256=sha256(data[have:]).digest())
        assert (receipt.size, receipt.sha256) == (CHUNK, sha256(data).digest())
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, len(data)) == data

    async def test_a_wrong_digest_after_going_on_drops_the_prefix_too(self, store: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(Cut):
                await slot.write(cut_after(content(2 * MIB, seed=1)), offset=0, sha256=None)
            have = slot.in_place
            rest = data[have:]
            with pytest.raises(DigestMismatch):
                await slot.write(parts(rest), offset=have, sha256=sha256(data + b"another").digest())
            assert slot.in_place == 0

    async def test_a_wrong_digest_of_the_body_alone_is_told_from_the_whole(self, store: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(Cut):
                await slot.write(cut_after(data[:2 * MIB]), offset=0, sha256=None)
            have = slot.in_place
            with pytest.raises(DigestMismatch) as caught:
                await slot.write(parts(data[have:]), offset=have, sha256=None, body_sha256=bytes(32))
            assert caught.value.actual == sha256(data[have:]).digest()

    async def test_a_cancelled_write_has_ended_when_its_slot_is_left(self, store: Store, twin: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, len(data))
        stalled = asyncio.Event()
        have = -1

        async def write() -> None:
            nonlocal have
            async with store.chunk(upload, 0) as slot:
                try:
                    await slot.write(stalled_after(data[:3 * MIB], stalled), offset=0, sha256=None)
                finally:
                    have = slot.in_place

        task = asyncio.create_task(write())
        await stalled.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 <= have <= 3 * MIB
        receipt = await put(twin, upload, data, 0)
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, len(data)) == data

    # Repeats

    @pytest.mark.parametrize("size", [0, 1, 3 * MIB + 5])
    async def test_a_repeat_is_read_and_hashed_while_another_holds_the_chunk(
        self, store: Store, twin: Store, size: int
    ) -> None:
        upload = await begin(store, CHUNK)
        repeat = content(size)
        async with twin.chunk(upload, 0):
            assert await store.read_received(upload, parts(repeat), expected=size) == sha256(repeat).digest()

    async def test_a_repeat_never_changes_the_chunk(self, store: Store) -> None:
        data, other = content(CHUNK), content(CHUNK + 1, seed=1)
        upload = await begin(store, CHUNK)
        receipt = await put(store, upload, data, 0)
        assert await store.read_received(upload, parts(other[:CHUNK]), expected=CHUNK) != receipt.sha256
        with pytest.raises(Cut):
            await store.read_received(upload, cut_after(other[:2 * MIB]), expected=CHUNK)
        with pytest.raises(SizeMismatch) as too_short:
            await store.read_received(upload, parts(other[:9]), expected=CHUNK)
        with pytest.raises(SizeMismatch) as too_long:
            await store.read_received(upload, parts(other), expected=CHUNK)
        assert (too_short.value.received, too_long.value.received) == (9, CHUNK + 1)
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, CHUNK) == data

    # One writer a chunk

    async def test_a_chunk_has_one_writer(self, store: Store, twin: Store) -> None:
        upload = await begin(store, 2 * CHUNK)
        async with store.chunk(upload, 0):
            for other in kept_out(store, twin):
                with pytest.raises(ChunkBusy):
                    async with other.chunk(upload, 0):
                        pass
                async with other.chunk(upload, 1):
                    pass
        async with twin.chunk(upload, 0):
            pass

    async def test_nothing_completes_or_aborts_under_a_writer(self, store: Store, twin: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, CHUNK)
        async with store.chunk(upload, 0) as slot:
            receipt = await slot.write(parts(data), offset=0, sha256=None)
            for other in kept_out(store, twin):
                with pytest.raises(ChunkBusy):
                    await other.complete(upload, [receipt])
                with pytest.raises(ChunkBusy):
                    await other.abort(upload)
        location = await twin.complete(upload, [receipt])
        assert await read(store, location, 0, CHUNK) == data

    async def test_what_another_process_wrote_over_a_receipt_is_never_served(
        self, store: Store, twin: Store
    ) -> None:
        if store.locks_out_processes:
            pytest.skip(f"{store.name} keeps other processes out")
        data = content(3 * CHUNK)
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        await put(twin, upload, data, 0)  # the same bytes: nothing is wrong with that
        await put(twin, upload, content(len(data), seed=1), 1)
        with pytest.raises(ChunksLost) as caught:
            await store.complete(upload, receipts)
        assert caught.value.indexes == [1]
        receipts[1] = await put(twin, upload, data, 1)
        location = await store.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data

    # The end of an upload

    async def test_completing_again_answers_the_same_file(self, store: Store, twin: Store) -> None:
        data = content(CHUNK + 1)
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        location = await store.complete(upload, receipts)
        assert await store.complete(upload, receipts) == location
        assert await twin.complete(upload, receipts) == location
        assert await read(twin, location, 0, len(data)) == data

    async def test_a_complete_file_takes_no_more_chunks(self, store: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, CHUNK)
        location = await store.complete(upload, await put_all(store, upload, data))
        with pytest.raises(UploadLost):
            await put(store, upload, content(CHUNK, seed=1), 0)
        assert await read(store, location, 0, CHUNK) == data

    async def test_aborting_a_completed_upload_leaves_the_file(self, store: Store) -> None:
        data = content(100)
        upload = await begin(store, len(data))
        location = await store.complete(upload, await put_all(store, upload, data))
        await store.abort(upload)
        assert await read(store, location, 0, len(data)) == data

    async def test_an_aborted_upload_is_lost(self, store: Store, twin: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, CHUNK)
        receipts = await put_all(store, upload, data)
        await twin.abort(upload)
        await store.abort(upload)
        with pytest.raises(UploadLost):
            await put(store, upload, data, 0)
        with pytest.raises(UploadLost):
            await store.complete(upload, receipts)
        assert [item async for item in store.items()] == []

    async def test_what_was_written_can_be_made_durable(self, store: Store) -> None:
        data = content(CHUNK)
        upload = await begin(store, CHUNK)
        receipts = await put_all(store, upload, data)
        await store.sync(upload)
        await store.complete(upload, receipts)
        await store.sync(upload)  # a sync that comes late finds nothing to do

    # Complete files

    async def test_any_range_can_be_read(self, store: Store) -> None:
        data = content(2 * CHUNK + 1)
        location = await stored(store, data)
        ends = [0, 1, MIB - 1, MIB, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1]
        for start, end in itertools.combinations_with_replacement(ends, 2):
            assert await read(store, location, start, end - start) == data[start:end], (start, end)

    async def test_reading_never_takes_more_than_a_mebibyte_at_a_time(self, store: Store) -> None:
        location = await stored(store, content(3 * MIB))
        assert max([len(part) async for part in store.read(location, 0, 3 * MIB)]) <= MIB

    async def test_a_reader_may_stop_early(self, store: Store) -> None:
        data = content(3 * MIB)
        location = await stored(store, data)
        reading = store.read(location, 0, len(data))
        first = await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]
        assert data.startswith(first)

    async def test_a_deleted_file_is_gone(self, store: Store, twin: Store) -> None:
        location = await stored(store, content(10))
        await store.delete(location)
        await twin.delete(location)
        assert await store.size(location) is None
        with pytest.raises(ObjectMissing):
            await read(store, location, 0, 10)

    async def test_deleting_one_copy_of_a_file_spares_another(self, store: Store) -> None:
        file_id = uuid.uuid4().hex
        old = await stored(store, b"old", file_id)
        new = await stored(store, b"new", file_id)
        await store.delete(old)
        assert await read(store, new, 0, 3) == b"new"

    async def test_everything_that_is_stored_is_listed(self, store: Store, twin: Store) -> None:
        upload = await begin(store, CHUNK)
        await put(store, upload, content(CHUNK), 0)
        file_id = uuid.uuid4().hex
        location = await stored(store, content(10), file_id)
        items = {item.location: item for item in [item async for item in twin.items()]}
        in_flight = items.get(upload.location)
        assert items.keys() == {location} | ({upload.location} if in_flight or store.lists_uploads else set())
        assert in_flight is None or (in_flight.file_id, in_flight.uploading) == (upload.file_id, True)
        assert (items[location].file_id, items[location].uploading) == (file_id, False)
        for item in items.values():
            assert abs(item.modified_ms - time.time() * 1000) < 60_000
        await store.delete(location)
        await store.abort(upload)
        assert [item async for item in twin.items()] == []

    async def test_the_room_that_is_left_is_known_or_none(self, store: Store) -> None:
        free = await store.free_bytes()
        assert free is None or free > 0

    async def test_closing_twice_is_fine(self, store: Store) -> None:
        await store.close()
        await store.close()


def local_path(store: Store) -> LocalPath:
    if not isinstance(store, LocalPath):
        pytest.skip(f"{store.name} has no local paths")
    return store


def volatile_writes(store: Store) -> VolatileWrites:
    if not isinstance(store, VolatileWrites):
        pytest.skip(f"{store.name} has no volatile writes")
    return store


class LocalPathConformance:
    async def test_the_path_of_a_file_holds_its_bytes(self, store: Store) -> None:
        local = local_path(store)
        data = content(CHUNK + 1)
        location = await stored(store, data)
        assert local.path(location).is_absolute()
        assert local.path(location).read_bytes() == data

    async def test_the_relative_path_is_the_end_of_the_path(self, store: Store) -> None:
        local = local_path(store)
        location = await stored(store, b"x")
        relative = local.relative_path(location)
        assert not relative.startswith("/")
        assert str(local.path(location)).endswith("/" + relative)

    @pytest.mark.parametrize("location", [
        "", "/etc/passwd", "files/../../x", "files/ab/../../../x", "../x/y/z", "files/ab/id/..", "files/ab/id/copy\n"])
    async def test_no_location_leads_out_of_the_store(self, store: Store, location: str) -> None:
        local = local_path(store)
        with pytest.raises(ValueError):
            local.path(location)
        with pytest.raises(ValueError):
            local.relative_path(location)


class VolatileWritesConformance:
    async def test_the_boot_has_one_name_everywhere(self, store: Store, twin: Store) -> None:
        assert volatile_writes(store).boot_id() == volatile_writes(twin).boot_id() != ""

    async def test_a_chunk_can_be_hashed_again_as_it_stands(self, store: Store, twin: Store) -> None:
        volatile_writes(store)
        data = content(2 * CHUNK + 5)
        upload = await begin(store, len(data))
        receipts: Sequence[ChunkReceipt] = await put_all(store, upload, data)
        for receipt in receipts:
            async with twin.chunk(upload, receipt.index) as slot:
                assert await slot.sha256() == receipt.sha256
        await put(store, upload, content(len(data), seed=1), 0)
        async with twin.chunk(upload, 0) as slot:
            assert await slot.sha256() != receipts[0].sha256

    async def test_nothing_is_made_durable_of_a_lost_upload(self, store: Store) -> None:
        volatile_writes(store)
        upload = await begin(store, CHUNK)
        await store.abort(upload)
        with pytest.raises(UploadLost):
            await store.sync(upload)


def named_first(store: Store) -> NamedFirst:
    if not isinstance(store, NamedFirst):
        pytest.skip(f"{store.name} begins and names an upload at once")
    return store


class NamedFirstConformance:
    async def test_what_was_reserved_takes_chunks_once_it_has_begun(self, store: Store, twin: Store) -> None:
        named = named_first(store)
        data = content(CHUNK + 3)
        upload = UploadRef("one", named.reserve("one"), Layout(len(data), CHUNK))
        upload = replace(upload, location=await named.begin(upload))
        receipts = await put_all(twin, upload, data)
        location = await twin.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data

    async def test_what_has_begun_is_answered_as_it_is(self, store: Store, twin: Store) -> None:
        named, also = named_first(store), named_first(twin)
        upload = UploadRef("one", named.reserve("one"), Layout(CHUNK, CHUNK))
        begun = replace(upload, location=await named.begin(upload))
        assert begun.location != upload.location
        assert await named.begin(begun) == await also.begin(begun) == begun.location

    async def test_what_was_begun_and_never_recorded_is_found_by_the_reserved_location(
        self, store: Store, twin: Store
    ) -> None:
        named = named_first(store)
        data = content(CHUNK)
        for end in ("abort", "delete"):
            upload = UploadRef("one", named.reserve("one"), Layout(CHUNK, CHUNK))
            begun = replace(upload, location=await named.begin(upload))
            await put(store, begun, data, 0)
            await (twin.abort(upload) if end == "abort" else twin.delete(upload.location))
            with pytest.raises(UploadLost):
                await put(store, begun, data, 0)
        assert [item async for item in store.items()] == []

    async def test_a_reserved_location_that_never_began_can_be_removed(self, store: Store) -> None:
        named = named_first(store)
        upload = UploadRef("one", named.reserve("one"), Layout(CHUNK, CHUNK))
        await store.abort(upload)
        await store.delete(upload.location)


def presigned(store: Store) -> Presigned:
    if not isinstance(store, Presigned):
        pytest.skip(f"{store.name} is not reached by clients")
    if not store.is_direct:
        pytest.skip(f"this {store.name} takes no direct transfer")
    return store


async def send(
    request: SignedRequest, body: bytes = b"", *, url: str | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """Send a signed request as a client does: (status, body, headers in lower case) of the answer."""
    parts = urlsplit(url or request.url)

    def exchange() -> tuple[int, bytes, dict[str, str]]:
        connection = (http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection)(
            parts.netloc, timeout=60)
        try:
            connection.request(request.method, f"{parts.path}?{parts.query}", body if request.method == "PUT" else None,
                               dict(request.headers) if headers is None else headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        except ConnectionError:  # refused before the body was read
            return 400, b"", {}
        finally:
            connection.close()

    return await asyncio.to_thread(exchange)


class PresignedConformance:
    async def test_a_file_may_go_to_the_store_and_come_back_without_passing_through_here(
        self, store: Store, twin: Store
    ) -> None:
        signing = presigned(store)
        data = content(2 * CHUNK + 77)
        upload = await begin(store, len(data))
        for index in (2, 0):
            chunk = chunk_of(upload, data, index)
            status, _, _ = await send(signing.sign_part(upload, index, sha256(chunk).digest(), 600), chunk)
            assert status == 200
        await put(twin, upload, data, 1)
        listed = await presigned(twin).parts(upload)
        assert [(r.index, r.size, r.sha256) for r in listed] == [
            (index, len(chunk), sha256(chunk).digest())
            for index, chunk in enumerate([data[:CHUNK], data[CHUNK:2 * CHUNK], data[2 * CHUNK:]])]
        location = await twin.complete(upload, listed)
        reading = signing.sign_read(
            location, disposition="attachment; filename*=UTF-8''a%20b%22c.bin", mime="video/mp4", expires_s=600)
        status, body, headers = await send(reading)
        assert (status, body) == (200, data)
        assert headers["content-type"] == "video/mp4"
        assert headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b%22c.bin"
        status, body, headers = await send(reading, headers={"Range": f"bytes={CHUNK - 5}-{CHUNK + 4}"})
        assert (status, body) == (206, data[CHUNK - 5:CHUNK + 5])
        assert headers["content-range"] == f"bytes {CHUNK - 5}-{CHUNK + 4}/{len(data)}"

    async def test_a_signed_part_takes_those_bytes_and_no_others(self, store: Store) -> None:
        signing = presigned(store)
        data = content(CHUNK)
        upload = await begin(store, CHUNK)
        part = signing.sign_part(upload, 0, sha256(data).digest(), 600)
        name = next(name for name in part.headers if "checksum" in name.lower())
        other = content(CHUNK, seed=1)
        own = {name: signing.sign_part(upload, 0, sha256(other).digest(), 600).headers[name]}
        for body, headers in (
            (other, None), (data + b"x", None), (data[:-1], None), (data, {}), (other, own),
        ):
            status, _, _ = await send(part, body, headers=headers)
            assert 400 <= status < 500, (len(body), headers)
            assert await signing.parts(upload) == []
        assert (await send(part, data))[0] == 200

    async def test_a_signed_part_is_for_one_chunk_of_one_upload(self, store: Store) -> None:
        signing = presigned(store)
        data = content(CHUNK)
        upload, another = await begin(store, 2 * CHUNK), await begin(store, 2 * CHUNK)
        part = signing.sign_part(upload, 0, sha256(data).digest(), 600)
        later = signing.sign_part(upload, 1, sha256(data).digest(), 600)
        elsewhere = signing.sign_part(another, 0, sha256(data).digest(), 600)
        for swapped in (
            part.url.replace("partNumber=1", "partNumber=2"),
            part.url.replace(urlsplit(part.url).path, urlsplit(elsewhere.url).path),
            part.url.rpartition("=")[0] + "=" + later.url.rpartition("=")[2],
            part.url.replace("X-Amz-Expires=600", "X-Amz-Expires=60000"),
            part.url.replace("%3Bx-amz-checksum-sha256", ""),
        ):
            assert swapped != part.url
            status, _, _ = await send(part, data, url=swapped)
            assert 400 <= status < 500, swapped
        status, _, _ = await send(replace(part, method="GET"))
        assert 400 <= status < 500
        assert await signing.parts(upload) == await signing.parts(another) == []

    async def test_a_signed_read_is_for_one_file_under_one_name(self, store: Store) -> None:
        signing = presigned(store)
        one, other = await stored(store, b"one"), await stored(store, b"other")
        reading = signing.sign_read(one, disposition="attachment", mime="text/plain", expires_s=600)
        for swapped in (
            reading.url.replace(one, other),
            reading.url.replace("text%2Fplain", "text%2Fhtml"),
            reading.url.replace("=attachment", "=inline"),
            reading.url.partition("?")[0],
        ):
            assert swapped != reading.url
            status, body, _ = await send(reading, url=swapped)
            assert 400 <= status < 500
            assert b"one" != body != b"other"
        assert (await send(reading))[:2] == (200, b"one")

    async def test_a_signed_request_ends(self, store: Store) -> None:
        signing = presigned(store)
        data = content(CHUNK)
        upload = await begin(store, CHUNK)
        location = await stored(store, data)
        part = signing.sign_part(upload, 0, sha256(data).digest(), 1)
        reading = signing.sign_read(location, disposition="attachment", mime="text/plain", expires_s=1)
        await asyncio.sleep(2.5)
        for ended, body in ((part, data), (reading, b"")):
            assert 400 <= (await send(ended, body))[0] < 500
        assert await signing.parts(upload) == []

    async def test_only_whole_parts_are_listed(self, store: Store) -> None:
        signing = presigned(store)
        data = content(2 * CHUNK)
        upload = await begin(store, 2 * CHUNK)
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(Cut):
                await slot.write(cut_after(data[:CHUNK - 1]), offset=0, sha256=None)
        await put(store, upload, data, 1)
        assert [receipt.index for receipt in await signing.parts(upload)] == [1]

    async def test_a_lost_upload_lists_no_parts(self, store: Store) -> None:
        signing = presigned(store)
        upload = await begin(store, CHUNK)
        await store.abort(upload)
        with pytest.raises(UploadLost):
            await signing.parts(upload)
