"""The driver for object storage against real servers: what goes wrong in the field, and what is left of it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hypersend_storage.base import MIB
from hypersend_storage.conformance import CHUNK, begin, content, parts, put, put_all, read, stored
from hypersend_storage.errors import ChunksLost, StorageError, StorageFull, StorageUnavailable, UploadLost
from hypersend_storage.s3 import S3Store
from tests.conftest import SMALL_DISK_MIB
from tests.s3_proxy import (
    Answer,
    CutAnswer,
    Fault,
    LoseAnswer,
    Request,
    faulty_proxy,
    is_completing,
    is_listing_parts,
    is_part,
    refuse,
    times,
)
from tests.s3_servers import S3Server
from tests.storage.conftest import opened

PATIENCE_S = 60


# What stores and networks do


async def test_both_servers_take_direct_transfer(s3_store: S3Store) -> None:
    assert (s3_store.is_direct, s3_store.direct_problem) == (True, "")


async def test_a_chunk_whose_store_was_killed_goes_on_without_being_sent_again(own_minio: S3Server) -> None:
    data = content(CHUNK + 9)

    async def body_that_sees_the_end() -> AsyncIterator[bytes]:
        yield data[:2 * MIB]
        own_minio.kill()
        yield data[2 * MIB:CHUNK]

    async with opened(own_minio) as store:
        upload = await begin(store, len(data))
        second = await put(store, upload, data, 1)
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(StorageUnavailable, match="S3_ENDPOINT"):
                await slot.write(body_that_sees_the_end(), offset=0, sha256=None)
            assert slot.in_place == CHUNK
        own_minio.start()
        async with store.chunk(upload, 0) as slot:
            first = await slot.write(parts(b""), offset=CHUNK, sha256=None)
        location = await store.complete(upload, [first, second])
        assert await read(store, location, 0, len(data)) == data


async def test_completing_whose_answer_was_lost_is_found_to_have_been_done(s3_server: S3Server) -> None:
    data = content(CHUNK + 1)
    async with faulty_proxy(s3_server.url) as proxy, opened(s3_server, endpoint=proxy.url) as store:
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        proxy.fault = times(1, is_completing, LoseAnswer())
        with pytest.raises(StorageUnavailable):
            await store.complete(upload, receipts)
        location = await store.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data


async def test_a_store_that_ends_while_it_completes_loses_nothing(own_minio: S3Server) -> None:
    data = content(3 * CHUNK)
    async with opened(own_minio) as store:
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        completing = asyncio.create_task(store.complete(upload, receipts))
        await asyncio.sleep(0)
        own_minio.kill()
        await asyncio.wait([completing])
        completing.exception()
        own_minio.start()
        location = await store.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data


async def test_completing_in_two_processes_at_once_ends_in_one_file(s3_server: S3Server) -> None:
    data = content(2 * CHUNK)
    bucket = s3_server.new_bucket()
    pauses = {"lost_pauses_s": [0.1] * 300}
    async with opened(s3_server, bucket, **pauses) as store, opened(s3_server, bucket, **pauses) as twin:
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        results = await asyncio.gather(
            store.complete(upload, receipts), twin.complete(upload, receipts), return_exceptions=True)
        # One may be told to come back, and does.
        assert all(isinstance(each, (str, StorageUnavailable)) for each in results), results
        location = await twin.complete(upload, receipts)
        assert set(results) - {each for each in results if isinstance(each, Exception)} <= {location}
        assert await read(store, location, 0, len(data)) == data


async def test_a_store_that_clears_away_the_parts_of_what_is_complete_has_lost_none(s3_server: S3Server) -> None:
    data = content(2 * CHUNK)
    bucket = s3_server.new_bucket()
    async with (
        opened(s3_server, bucket) as twin, faulty_proxy(s3_server.url) as proxy,
        opened(s3_server, bucket, endpoint=proxy.url) as store,
    ):
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        location = await twin.complete(upload, receipts)
        emptied = times(1, is_listing_parts, Answer(200, "<ListPartsResult/>"))
        hidden = times(1, lambda request: request.method == "HEAD", Answer(404, ""))
        proxy.fault = lambda request: emptied(request) or hidden(request)  # the object comes a little after
        assert await store.complete(upload, receipts) == location
        assert await read(store, location, 0, len(data)) == data


async def test_a_few_answers_503_are_not_noticed(s3_server: S3Server) -> None:
    data = content(CHUNK)
    async with faulty_proxy(s3_server.url) as proxy, opened(s3_server, endpoint=proxy.url) as store:
        upload = await begin(store, CHUNK)
        proxy.fault = times(2, is_part, refuse(503, "SlowDown"))
        receipt = await put(store, upload, data, 0)
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, CHUNK) == data


@pytest.mark.parametrize(("fault", "kind"), [
    (refuse(503, "SlowDown"), StorageUnavailable), (refuse(500, "InternalError"), StorageUnavailable),
    (refuse(507, "XMinioStorageFull"), StorageFull), (refuse(400, "XMinioAdminBucketQuotaExceeded"), StorageFull),
    (refuse(403, "QuotaExceeded"), StorageFull), (refuse(507, "Whatever"), StorageFull),
    (LoseAnswer(), StorageUnavailable),
])
async def test_a_store_that_refuses_a_part_for_now_costs_no_byte_of_it(
    minio: S3Server, fault: Fault, kind: type[StorageError]
) -> None:
    data = content(CHUNK)
    async with faulty_proxy(minio.url) as proxy, opened(minio, endpoint=proxy.url) as store:
        upload = await begin(store, CHUNK)
        proxy.fault = times(100, is_part, fault)
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(kind):
                await slot.write(parts(data), offset=0, sha256=None)
        proxy.fault = times(0, is_part, fault)
        async with store.chunk(upload, 0) as slot:
            assert slot.in_place == CHUNK
            receipt = await slot.write(parts(b""), offset=CHUNK, sha256=None)
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, CHUNK) == data


async def test_a_full_store_is_told_from_a_broken_one_and_goes_on_once_there_is_room(small_disk: Path) -> None:
    data = content(CHUNK)
    server = S3Server("minio", small_disk).start()
    try:
        async with opened(server) as store:
            upload, filler = await begin(store, CHUNK), await begin(store, SMALL_DISK_MIB * CHUNK)
            with pytest.raises(StorageFull):
                for index in range(filler.layout.chunk_count):
                    async with store.chunk(filler, index) as slot:
                        await slot.write(parts(data), offset=0, sha256=None)
            async with store.chunk(upload, 0) as slot:
                with pytest.raises(StorageFull):
                    await slot.write(parts(data), offset=0, sha256=None)
            subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)  # the operator makes room
            receipt = None
            async with asyncio.timeout(PATIENCE_S):  # MinIO looks at its disk now and then
                while receipt is None:
                    async with store.chunk(upload, 0) as slot:
                        assert slot.in_place == CHUNK
                        try:
                            receipt = await slot.write(parts(b""), offset=CHUNK, sha256=None)
                        except StorageFull:
                            await asyncio.sleep(0.2)
            location = await store.complete(upload, [receipt])
            assert await read(store, location, 0, CHUNK) == data
    finally:
        server.kill()


async def test_a_multipart_upload_that_the_store_dropped_is_lost(s3_server: S3Server) -> None:
    data = content(2 * CHUNK)
    bucket = s3_server.new_bucket()
    async with opened(s3_server, bucket) as store:
        upload = await begin(store, len(data))
        receipt = await put(store, upload, data, 0)
        key, _, rest = upload.location.partition("?")
        s3_server.client()._abort_multipart_upload(bucket, key, rest[1:])
        with pytest.raises(UploadLost):
            await put(store, upload, data, 1)
        with pytest.raises(UploadLost):
            await store.parts(upload)
        with pytest.raises(UploadLost):
            await store.complete(upload, [receipt, replace(receipt, index=1)])


async def test_a_part_that_is_replaced_while_it_is_completed_is_never_served(s3_server: S3Server) -> None:
    data, other = content(2 * CHUNK), content(2 * CHUNK, seed=1)
    bucket = s3_server.new_bucket()
    arrived = asyncio.Event()
    replaced = asyncio.Event()

    async def hold_completing(request: Request) -> None:
        if is_completing(request):
            arrived.set()
            await replaced.wait()

    async with (
        faulty_proxy(s3_server.url, before=hold_completing) as proxy, opened(s3_server, bucket) as twin,
        opened(s3_server, bucket, endpoint=proxy.url) as store,
    ):
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        completing = asyncio.create_task(store.complete(upload, receipts))
        await arrived.wait()
        await put(twin, upload, other, 1)
        replaced.set()
        with pytest.raises(ChunksLost) as caught:
            await completing
        assert caught.value.indexes == [1]
        receipts[1] = await put(twin, upload, data, 1)
        location = await store.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data


async def test_lists_longer_than_a_page_are_read_to_their_end(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hypersend_storage.s3_api.PAGE", 2)
    data = content(4 * CHUNK + 1)
    async with opened(s3_server) as store:
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        assert [receipt.index for receipt in await store.parts(upload)] == [0, 1, 2, 3, 4]
        locations = {await store.complete(upload, receipts)}
        locations.update([await stored(store, b"small") for _ in range(4)])
        assert {item.location async for item in store.items() if not item.uploading} == locations


# Reading


async def test_a_read_that_breaks_in_the_middle_goes_on_by_itself(s3_server: S3Server) -> None:
    data = content(2 * CHUNK)
    async with faulty_proxy(s3_server.url) as proxy, opened(s3_server, endpoint=proxy.url) as store:
        location = await stored(store, data)
        proxy.fault = times(2, lambda request: request.method == "GET", CutAnswer(3 * MIB))
        assert await read(store, location, 0, len(data)) == data


async def test_a_read_that_never_gets_on_ends_in_an_error(minio: S3Server) -> None:
    data = content(CHUNK)
    async with faulty_proxy(minio.url) as proxy, opened(minio, endpoint=proxy.url) as store:
        location = await stored(store, data)
        proxy.fault = lambda request: CutAnswer(1) if request.method == "GET" else None
        with pytest.raises(StorageUnavailable):
            await read(store, location, 0, len(data))


async def test_the_store_stops_sending_when_the_reader_leaves(minio: S3Server) -> None:
    data = content(64 * MIB)
    async with faulty_proxy(minio.url) as proxy, opened(minio, endpoint=proxy.url) as store:
        location = await stored(store, data)
        reading = store.read(location, 0, len(data))
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(proxy.hung_up.wait(), PATIENCE_S)


async def test_a_reader_need_not_wait_for_a_store_that_says_nothing_any_more(own_minio: S3Server) -> None:
    async with opened(own_minio) as store:
        location = await stored(store, content(16 * CHUNK))  # more than sockets and buffers hold
        reading = store.read(location, 0, 16 * CHUNK)
        await anext(reading)
        own_minio.pause()
        try:
            async with asyncio.timeout(PATIENCE_S / 2):  # half of what a silent store is given
                while True:
                    step = asyncio.ensure_future(anext(reading))
                    done, _ = await asyncio.wait([step], timeout=1)
                    if not done:
                        step.cancel()
                        await asyncio.wait([step])
                        break
                await reading.aclose()  # type: ignore[attr-defined]
        finally:
            own_minio.go_on()
