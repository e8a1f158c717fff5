"""The driver for object storage against real servers: what goes wrong in the field, and what is left of it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

from hypersend_storage.base import MIB, Layout, UploadRef
from hypersend_storage.conformance import (
    CHUNK,
    begin,
    content,
    cut_after,
    parts,
    put,
    put_all,
    read,
    stored,
)
from hypersend_storage.conformance import Cut as Broken
from hypersend_storage.errors import (
    ChunksLost,
    ObjectMissing,
    PrefixLost,
    StorageError,
    StorageFull,
    StorageUnavailable,
    UploadLost,
)
from hypersend_storage.s3 import S3Store
from hypersend_storage.s3_probe import RIGHT, WRONG, Probed
from tests.conftest import SMALL_DISK_MIB
from tests.s3_proxy import Change, CutAnswer, Fault, LoseAnswer, Refuse, Request, faulty_proxy
from tests.s3_servers import S3Server
from tests.storage.conftest import options_of

PATIENCE_S = 60


@asynccontextmanager
async def opened(server: S3Server, bucket: str | None = None, **changed: Any) -> AsyncIterator[S3Store]:
    store = S3Store(**options_of(server, bucket or server.new_bucket(), **changed))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(s3_server: S3Server) -> AsyncIterator[S3Store]:
    """On each kind of server."""
    async with opened(s3_server) as store:
        yield store


@pytest.fixture
def own_minio(tmp_path: Path) -> Any:
    """A MinIO that may be killed."""
    server = S3Server("minio", tmp_path / "own").start()
    yield server
    server.kill()


def is_part(request: Request) -> bool:
    return request.method == "PUT" and "partNumber=" in request.target and "/files/" in request.target


def is_completing(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.target


def times(count: int, wanted: Callable[[Request], bool], fault: Fault) -> Callable[[Request], Fault]:
    """The fault for the first so many requests of a kind."""
    left = count

    def decide(request: Request) -> Fault:
        nonlocal left
        if not wanted(request) or left == 0:
            return None
        left -= 1
        return fault

    return decide


# What stores and networks do


async def test_both_servers_take_direct_transfer(store: S3Store) -> None:
    assert (store.is_direct, store.direct_problem) == (True, "")


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


async def test_a_few_answers_503_are_not_noticed(s3_server: S3Server) -> None:
    data = content(CHUNK)
    async with faulty_proxy(s3_server.url) as proxy, opened(s3_server, endpoint=proxy.url) as store:
        upload = await begin(store, CHUNK)
        proxy.fault = times(2, is_part, Refuse(503, "SlowDown"))
        receipt = await put(store, upload, data, 0)
        location = await store.complete(upload, [receipt])
        assert await read(store, location, 0, CHUNK) == data


@pytest.mark.parametrize(("fault", "kind"), [
    (Refuse(503, "SlowDown"), StorageUnavailable), (Refuse(500, "InternalError"), StorageUnavailable),
    (Refuse(507, "XMinioStorageFull"), StorageFull), (Refuse(400, "XMinioAdminBucketQuotaExceeded"), StorageFull),
    (Refuse(403, "QuotaExceeded"), StorageFull), (Refuse(507, "Whatever"), StorageFull),
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


async def test_a_multipart_upload_that_the_store_dropped_is_lost(s3_server: S3Server, store: S3Store) -> None:
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


# Memory


async def test_bodies_wait_until_there_is_room_for_their_chunk(minio: S3Server) -> None:
    streams, at_once = 12, 2
    data = content(streams * CHUNK)
    async with opened(minio, buffer_bytes=at_once * CHUNK, largest_chunk=CHUNK) as store:
        upload = await begin(store, len(data))
        uploads = [replace(upload, sender=f"person {index}") for index in range(streams)]
        begun: list[int] = []
        most = 0
        go = asyncio.Event()
        full = asyncio.Event()

        async def body(index: int) -> AsyncIterator[bytes]:
            nonlocal most
            begun.append(index)
            most = max(most, len(begun))
            if len(begun) == at_once:
                full.set()
            await go.wait()
            async for part in parts(data[index * CHUNK:(index + 1) * CHUNK]):
                assert store._buffers.used_bytes <= at_once * CHUNK
                yield part
            begun.remove(index)

        async def send(index: int) -> Any:
            async with store.chunk(uploads[index], index) as slot:
                return await slot.write(body(index), offset=0, sha256=None)

        sending = [asyncio.create_task(send(index)) for index in range(streams)]
        await full.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(begun) == at_once
        go.set()
        receipts = await asyncio.gather(*sending)
        assert most <= at_once
        assert store._buffers.used_bytes == 0
        location = await store.complete(upload, receipts)
        assert await read(store, location, 0, len(data)) == data


async def test_a_person_who_sends_slowly_leaves_room_for_others(minio: S3Server) -> None:
    data = content(CHUNK)
    async with opened(minio, buffer_bytes=4 * CHUNK, largest_chunk=CHUNK) as store:
        begun = 0
        go = asyncio.Event()

        async def drip() -> AsyncIterator[bytes]:
            nonlocal begun
            begun += 1
            yield data[:1]
            await go.wait()
            yield data[1:]

        async def send_slowly(upload: UploadRef) -> None:
            async with store.chunk(upload, 0) as slot:
                await slot.write(drip(), offset=0, sha256=None)

        slow = [asyncio.create_task(send_slowly(replace(await begin(store, CHUNK), sender="asha"))) for _ in range(6)]
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(3):
                await put(store, replace(await begin(store, CHUNK), sender="ben"), data, 0)
        assert begun == 2
        go.set()
        await asyncio.gather(*slow)


async def test_a_prefix_whose_room_was_needed_must_be_sent_again(minio: S3Server) -> None:
    data = content(3 * CHUNK)
    async with opened(minio, buffer_bytes=2 * CHUNK, largest_chunk=CHUNK) as store:
        upload = await begin(store, len(data))
        async with store.chunk(upload, 0) as slot:
            with pytest.raises(Broken):
                await slot.write(cut_after(data[:MIB]), offset=0, sha256=None)
            assert slot.in_place == MIB
        async with store.chunk(upload, 1), store.chunk(upload, 2):
            await asyncio.gather(*[hold(store, data, sender) for sender in ("asha", "ben")])
        async with store.chunk(upload, 0) as slot:
            touched = False

            async def body() -> AsyncIterator[bytes]:
                nonlocal touched
                touched = True
                yield data[MIB:CHUNK]

            with pytest.raises(PrefixLost) as caught:
                await slot.write(body(), offset=MIB, sha256=None)
            assert (caught.value.have, slot.in_place, touched) == (0, 0, False)
            await slot.write(parts(data[:CHUNK]), offset=0, sha256=None)


async def hold(store: S3Store, data: bytes, sender: str) -> None:
    """Two at once of these need all the room there is."""
    upload = replace(await begin(store, CHUNK), sender=sender)
    await put(store, upload, data, 0)


async def test_a_buffer_of_less_than_two_chunks_is_refused(minio: S3Server) -> None:
    with pytest.raises(ValueError, match="S3_BUFFER_BYTES"):
        S3Store(**options_of(minio, "bucket", buffer_bytes=2 * CHUNK - 1, largest_chunk=CHUNK))


# A store without checksums, or one that does not check


async def test_a_store_without_checksums_is_held_to_its_etags(s3_server: S3Server) -> None:
    data = content(2 * CHUNK + 1)
    bucket = s3_server.new_bucket()
    async with opened(s3_server, bucket) as store, opened(s3_server, bucket) as twin:
        store._probed = twin._probed = Probed(False, "it keeps none")
        upload = await begin(store, len(data))
        receipts = await put_all(store, upload, data)
        assert [(r.sha256, r.tag) for r in await twin.parts(upload)] == [(b"", r.tag) for r in receipts]
        await put(twin, upload, content(len(data), seed=1), 1)
        with pytest.raises(ChunksLost) as caught:
            await store.complete(upload, receipts)
        assert caught.value.indexes == [1]
        receipts[1] = await put(twin, upload, data, 1)
        location = await store.complete(upload, receipts)
        assert await twin.complete(upload, receipts) == location
        assert await read(store, location, 0, len(data)) == data


async def test_a_store_that_keeps_no_checksums_gets_no_direct_transfer(minio: S3Server) -> None:
    def without_checksums(request: Request) -> Fault:
        has = any(name.startswith(("x-amz-checksum-algorithm", "x-amz-checksum-sha256")) for name in request.headers)
        return Refuse(501, "NotImplemented") if has else None

    async with faulty_proxy(minio.url, without_checksums) as proxy, opened(minio, endpoint=proxy.url) as store:
        assert not store.is_direct
        assert "keeps no SHA-256" in store.direct_problem
        data = content(CHUNK + 5)
        location = await stored(store, data)
        assert await read(store, location, 0, len(data)) == data


async def test_a_store_that_takes_a_wrong_checksum_gets_no_direct_transfer(minio: S3Server) -> None:
    def believe(request: Request) -> Fault:
        return Change(RIGHT) if request.body == WRONG else None

    async with faulty_proxy(minio.url, believe) as proxy, opened(minio, endpoint=proxy.url) as store:
        assert not store.is_direct
        assert "wrong SHA-256" in store.direct_problem


async def test_direct_transfer_can_be_switched_off(minio: S3Server) -> None:
    async with opened(minio, direct=False) as store:
        assert (store.is_direct, store.direct_problem) == (False, "S3_DIRECT is off")


async def test_what_is_tried_at_start_leaves_nothing(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    async with opened(s3_server, bucket):
        client = s3_server.client()
        assert list(client.list_objects(bucket, recursive=True)) == []
        assert client._list_multipart_uploads(bucket).uploads == []


async def test_signed_urls_name_the_public_endpoint(minio: S3Server) -> None:
    async with opened(minio, public_endpoint="https://files.example.org") as store:
        upload = await begin(store, CHUNK)
        assert store.sign_part(upload, 0, bytes(32), 60).url.startswith("https://files.example.org/")


# What operators get wrong


@pytest.mark.parametrize(("changed", "sentence"), [
    ({"access_key": "nobody"}, "S3_ACCESS_KEY"),
    ({"secret_key": "a wrong secret"}, "S3_SECRET_KEY"),
    ({"bucket": "no-such-bucket-here"}, "S3_BUCKET"),
    ({"region": "us-west-2"}, "S3_REGION"),
    ({"endpoint": "http://127.0.0.1:1"}, "S3_ENDPOINT"),
    ({"endpoint": "https://127.0.0.1:1"}, "S3_ENDPOINT"),
], ids=lambda value: next(iter(value)) if isinstance(value, dict) else None)
async def test_a_wrong_setting_is_named(s3_server: S3Server, changed: dict[str, str], sentence: str) -> None:
    with pytest.raises(StorageUnavailable, match=sentence):
        async with opened(s3_server, **{"bucket": s3_server.new_bucket(), **changed}):
            pass


@pytest.mark.parametrize("minutes", [-20, 20])
async def test_a_wrong_clock_is_named(s3_server: S3Server, minutes: int) -> None:
    with pytest.raises(StorageUnavailable, match="clock"):
        async with opened(s3_server, clock=lambda: time.time() + minutes * 60):
            pass


async def test_an_endpoint_that_is_no_store_is_named(minio: S3Server) -> None:
    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<p>welcome</br>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(page, "127.0.0.1", 0)
    with pytest.raises(StorageUnavailable, match="S3_ENDPOINT"):
        async with opened(minio, "bucket", endpoint=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"):
            pass
    server.close()


@pytest.mark.parametrize("endpoint", ["", "minio:9000", "ftp://host", "https://host/folder", "https://"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="S3_"):
        S3Store(endpoint=endpoint, bucket="bucket", access_key="a", secret_key="b")


RIGHTS = ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
          "s3:ListMultipartUploadParts", "s3:ListBucket", "s3:ListBucketMultipartUploads"]


@pytest.mark.parametrize("missing", [None, *RIGHTS])
async def test_a_right_that_the_key_lacks_is_named(minio: S3Server, missing: str | None) -> None:
    bucket = minio.new_bucket()
    policy = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": [right for right in RIGHTS if right != missing],
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]}
    admin = MinioAdmin(endpoint=f"127.0.0.1:{minio.port}", region=minio.region, secure=False,
                       credentials=StaticProvider(minio.access_key, minio.secret_key))
    made = json.loads(admin.add_service_account(policy=policy, name="test", description="test"))["credentials"]

    async def everything() -> None:
        async with opened(minio, bucket, access_key=made["accessKey"], secret_key=made["secretKey"]) as store:
            data = content(CHUNK)
            location = await stored(store, data)
            assert await read(store, location, 0, CHUNK) == data
            assert [item.location async for item in store.items()] == [location]
            upload = UploadRef("one", store.reserve("one"), Layout(CHUNK, CHUNK))
            await store.abort(await begin(store, CHUNK))
            await store.abort(upload)
            await store.delete(location)

    if missing is None:
        await everything()
    else:
        with pytest.raises(StorageUnavailable, match="S3_ACCESS_KEY") as caught:
            await everything()
        assert missing in str(caught.value)


# What nobody may see


async def test_no_log_and_no_error_shows_the_secret_or_a_signature(
    minio: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    async with faulty_proxy(minio.url) as proxy, opened(minio, endpoint=proxy.url) as store:
        upload = await begin(store, CHUNK)
        said.append(repr(store) + repr(vars(store)))
        for fault in (Refuse(503, "SlowDown"), Refuse(403, "AccessDenied"), LoseAnswer()):
            proxy.fault = times(100, is_part, fault)
            with pytest.raises(StorageError) as caught:
                await put(store, upload, content(CHUNK), 0)
            said.append("".join(traceback.format_exception(caught.value)))
    text = caplog.text + "".join(said)
    assert minio.secret_key not in text
    assert minio.access_key not in caplog.text
    assert "X-Amz-Signature" not in text
    assert "Signature=" not in text


async def test_what_others_keep_in_the_bucket_is_not_ours(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    client: Minio = s3_server.client()
    async with opened(s3_server, bucket) as store:
        location = await stored(store, b"mine")
        for name in ("other/thing", "files/readme.txt", "files/a/b/c", "files/ü/x"):
            client.put_object(bucket, name, io.BytesIO(b"theirs"), 6)
        assert [item.location async for item in store.items()] == [location]


@pytest.mark.parametrize("location", [
    "", "files", "files/../x", "/files/a/b", "files/a/b/c", "uploads/a/b", "files/a/b?x", "files/a/b\n", "probe/x"])
async def test_no_location_leads_elsewhere(minio: S3Server, location: str) -> None:
    async with opened(minio) as store:
        for call in (store.size(location), store.delete(location),
                     store.abort(UploadRef("a", location, Layout(1, 1)))):
            with pytest.raises(ValueError, match="location"):
                await call
        with pytest.raises(ValueError, match="location"):
            store.sign_read(location, disposition="attachment", mime="text/plain", expires_s=60)


async def test_an_object_that_somebody_removed_is_missing(s3_server: S3Server) -> None:
    bucket = s3_server.new_bucket()
    async with opened(s3_server, bucket) as store:
        location = await stored(store, content(10))
        s3_server.client().remove_object(bucket, location)
        assert await store.size(location) is None
        for length in (0, 10):
            with pytest.raises(ObjectMissing):
                await read(store, location, 0, length)


async def test_a_store_that_could_not_be_reached_at_start_serves_once_it_can(own_minio: S3Server) -> None:
    bucket = own_minio.new_bucket()
    own_minio.kill()
    store = S3Store(**options_of(own_minio, bucket))
    with pytest.raises(StorageUnavailable):
        await store.open()
    own_minio.start()
    direct = [store.is_direct]
    location = await stored(store, b"here")
    direct.append(store.is_direct)
    assert direct == [False, True]
    assert await read(store, location, 0, 4) == b"here"
    await store.close()


# Browsers

ORIGIN = "https://chat.example.org"


async def test_a_bucket_can_be_opened_to_a_page_where_the_store_has_rules(s3_servers: Any) -> None:
    server = s3_servers("versitygw")
    bucket = server.new_bucket()
    async with opened(server, bucket) as store:
        assert "CORS" in (await store.cors_problem(ORIGIN) or "")
        await store.allow_origins([ORIGIN])
        assert await store.cors_problem(ORIGIN) is None
        assert ORIGIN not in (await store.cors_problem("https://elsewhere.example.org") or ORIGIN)
        await store.allow_origins([ORIGIN, "https://two.example.org"])
        assert await store.cors_problem("https://two.example.org") is None
        assert await store.cors_problem(ORIGIN) is None


async def test_rules_of_others_stay_when_a_page_is_let_in(s3_servers: Any) -> None:
    server = s3_servers("versitygw")
    async with opened(server) as store:
        store._api.put_cors(
            "<CORSConfiguration><CORSRule><ID>theirs</ID><AllowedOrigin>https://their.example.org</AllowedOrigin>"
            "<AllowedMethod>PUT</AllowedMethod><AllowedHeader>*</AllowedHeader></CORSRule></CORSConfiguration>")
        await store.allow_origins([ORIGIN])
        assert await store.cors_problem("https://their.example.org") is None
        assert await store.cors_problem(ORIGIN) is None


async def test_minio_is_open_to_pages_and_has_a_setting_instead_of_rules(minio: S3Server, tmp_path: Path) -> None:
    async with opened(minio) as store:
        assert await store.cors_problem(ORIGIN) is None
        with pytest.raises(StorageUnavailable, match=f"MINIO_API_CORS_ALLOW_ORIGIN={ORIGIN}"):
            await store.allow_origins([ORIGIN])
    closed = S3Server("minio", tmp_path / "closed", MINIO_API_CORS_ALLOW_ORIGIN=ORIGIN).start()
    try:
        async with opened(closed) as store:
            assert await store.cors_problem(ORIGIN) is None
            assert "MINIO_API_CORS_ALLOW_ORIGIN" in (await store.cors_problem("https://else.example.org") or "")
    finally:
        closed.kill()


async def test_a_public_endpoint_that_does_not_answer_is_named(minio: S3Server) -> None:
    async with opened(minio, public_endpoint="http://127.0.0.1:1") as store:
        with pytest.raises(StorageUnavailable, match="S3_PUBLIC_ENDPOINT"):
            await store.cors_problem(ORIGIN)
