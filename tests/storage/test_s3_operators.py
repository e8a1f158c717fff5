"""The driver for object storage as operators set it up: stores that lack something, wrong settings, secrets, pages."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

from hypersend_storage.base import Layout, UploadRef
from hypersend_storage.conformance import CHUNK, begin, content, put, put_all, read, stored
from hypersend_storage.errors import ChunksLost, ObjectMissing, StorageError, StorageUnavailable
from hypersend_storage.s3 import S3Store
from hypersend_storage.s3_probe import RIGHT, WRONG, Probed
from tests.s3_proxy import Change, Fault, LoseAnswer, Request, faulty_proxy, is_part, refuse, times
from tests.s3_servers import S3Server
from tests.storage.conftest import opened, options_of

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
        return refuse(501, "NotImplemented") if has else None

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
        for fault in (refuse(503, "SlowDown"), refuse(403, "AccessDenied"), LoseAnswer()):
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
