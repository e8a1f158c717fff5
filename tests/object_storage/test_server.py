"""The server over real MinIO: proxied and direct uploads, redirected and proxied downloads, housekeeping."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import HOUSEKEEPING, STORES
from tests.harness import Server, SettableClock, running
from tests.object_storage.calls import (
    CHUNK,
    CONTENT,
    WAIT_S,
    Settings,
    begin,
    chunks_of,
    download,
    location_of,
    objects,
    send,
    send_direct,
    sha,
    signed,
    stored,
)
from tests.s3_servers import S3Server


@pytest.mark.parametrize("direct", [True, False])
async def test_a_file_comes_back_as_it_was_sent(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, direct: bool
) -> None:
    settings = s3_settings(minio)
    async with running(tmp_path, **settings) as server:
        assert ("direct_transfer" in (await server.get("/server")).json["features"]) is True
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        assert (file["upload"]["direct"]["parts"], file["upload"]["direct"]["method"]) == ([], "PUT")
        assert file["backend"] == "s3"
        await (send_direct if direct else send)(alice, file["id"], CONTENT)
        there = (await alice.get(f"/files/{file['id']}")).json["upload"]
        assert (there["received"], there["received_bytes"]) == ([[0, 2]], len(CONTENT))
        done = await alice.post(f"/files/{file['id']}/complete")
        assert (done.status, done.json["state"]) == (201, "complete")
        digests = [hashlib.sha256(chunk).digest() for chunk in chunks_of(CONTENT)]
        checksum = hashlib.sha256(b"".join(digests))
        assert done.json["checksum"] == checksum.hexdigest()
        again = await alice.post(f"/files/{file['id']}/complete")
        assert (again.status, again.json) == (200, done.json)
        told = (await alice.get(f"/files/{file['id']}?digests=true")).json
        assert told["chunk_sha256"] == [digest.hex() for digest in digests]
        assert await download(alice, file["id"]) == CONTENT
        (name,) = objects(minio, settings)
        head = minio.client()._execute(
            "HEAD", bucket_name=settings["S3_BUCKET"], object_name=name, headers={"x-amz-checksum-mode": "ENABLED"})
        assert head.headers["x-amz-checksum-sha256"] == base64.b64encode(checksum.digest()).decode() + "-3"
        assert not any(path.is_file() for folder in ("uploads", "files") for path in (tmp_path / folder).rglob("*"))


async def test_direct_and_proxied_chunks_make_one_file(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        await send(alice, file["id"], CONTENT, {1})
        await send_direct(alice, file["id"], CONTENT, {2})
        missing = await alice.post(f"/files/{file['id']}/complete")
        assert (missing.status, missing.code, missing.json["missing"]) == (409, "chunks_missing", [[0, 0]])
        assert (await alice.get(f"/files/{file['id']}")).json["upload"]["received"] == [[1, 2]]
        await send_direct(alice, file["id"], CONTENT, {0, 1})  # a part may be sent both ways
        assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
        assert await download(alice, file["id"]) == CONTENT


async def test_chunks_that_wait_for_room_can_be_given_up(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    """One person's slow chunks take half of the memory; those that wait behind them hold nobody else."""
    async with running(tmp_path, **s3_settings(minio, S3_DIRECT="off", S3_BUFFER_BYTES="32MiB", RATE_LIMITS="off")
                       ) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        go = asyncio.Event()

        async def drip() -> AsyncIterator[bytes]:
            yield b"x"
            await go.wait()
            yield bytes(CHUNK - 1)

        def sending(file: dict[str, Any], index: int, data: Any) -> asyncio.Task[Any]:
            return asyncio.create_task(alice.put(
                f"/files/{file['id']}/chunk?index={index}", data=data, headers={"Content-Length": str(CHUNK)}))

        slow, other = [await begin(alice, bytes(size * CHUNK)) for size in (2, 6)]
        holding = [sending(slow, index, drip()) for index in range(2)]
        async with asyncio.timeout(WAIT_S):
            while server.app[STORES].open["s3"]._buffers.used_bytes < 2 * CHUNK:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            behind = [sending(other, index, bytes(CHUNK)) for index in range(6)]
            await stored(bob, CONTENT, direct=False)
            behind[0].cancel()  # its client goes away
            again = sending(other, 1, bytes(CHUNK))  # takes the place of the one before it
            refused = await behind[1]
            assert (refused.status, refused.code) == (409, "chunk_busy"), refused
            assert (await alice.delete(f"/files/{other['id']}")).status == 204
            for task in (again, *behind[2:]):
                assert (await task).code == "upload_closed"
            while server.app[STORES].open["s3"]._buffers._waiting:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            go.set()
            assert [(await task).status for task in holding] == [200, 200]


async def test_a_url_takes_nothing_but_the_chunk_that_was_named(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        chunk = chunks_of(CONTENT)[0]
        part = (await signed(alice, file["id"], {0: sha(chunk)}))[0]
        assert "content-length" not in {name.lower() for name in part["headers"]}
        stranger = Server(alice.http, alice.url)
        tampered = part["url"].replace("partNumber=1", "partNumber=2")
        for url, data, headers in (
            (part["url"], os.urandom(CHUNK), part["headers"]), (part["url"], chunk + b"x", part["headers"]),
            (part["url"], chunk[:-1], part["headers"]), (part["url"], chunk, {}),
            (part["url"], os.urandom(CHUNK), {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}),
            (tampered, chunk, part["headers"]),
        ):
            answer = await stranger.request("PUT", url, data=data, headers=headers)
            assert answer.status in (400, 403, 411), answer
        assert (await alice.get(f"/files/{file['id']}")).json["upload"]["received"] == []
        bob = await server.person("bob")
        theirs = await bob.post(f"/files/{file['id']}/parts", {"parts": [{"index": 0, "sha256": sha(chunk)}]})
        assert (theirs.status, theirs.code) == (404, "not_found")
        for body, status, code in (
            ({"parts": []}, 422, "validation_failed"), ({"parts": [{"index": 3, "sha256": sha(chunk)}]}, 400,
                                                        "chunk_index_invalid"),
            ({"parts": [{"index": 0, "sha256": "x"}]}, 422, "validation_failed"),
            ({"parts": [{"index": 0, "sha256": sha(chunk)}] * 201}, 422, "validation_failed"),
        ):
            refused = await alice.post(f"/files/{file['id']}/parts", body)
            assert (refused.status, refused.code) == (status, code)
        await send(alice, file["id"], CONTENT)
        assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
        closed = await alice.post(f"/files/{file['id']}/parts", {"parts": [{"index": 0, "sha256": sha(chunk)}]})
        assert (closed.status, closed.code) == (409, "upload_closed")


async def test_asking_for_urls_gives_an_upload_more_time_and_a_lost_one_is_told(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    settings, clock = s3_settings(minio, UPLOAD_TTL="2h", BACKGROUND_JOBS="off"), SettableClock()
    async with running(tmp_path, clock=clock, **settings) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        clock.advance(600)
        await signed(alice, file["id"], {0: sha(chunks_of(CONTENT)[0])})
        later = (await alice.get(f"/files/{file['id']}")).json["upload"]["expires_at"]
        assert later > file["upload"]["expires_at"]
        bucket = settings["S3_BUCKET"]
        name = location_of(server, file["id"])
        (upload_id,) = [item.upload_id for item in minio.client()._list_multipart_uploads(bucket, prefix=name).uploads]
        minio.client()._abort_multipart_upload(bucket, name, upload_id)
        for answer in (
            await alice.get(f"/files/{file['id']}"), await alice.post(f"/files/{file['id']}/complete"),
            await alice.put(f"/files/{file['id']}/chunk?index=0", data=chunks_of(CONTENT)[0]),
        ):
            assert (answer.status, answer.code) == (410, "upload_lost"), answer
        assert (await alice.delete(f"/files/{file['id']}")).status == 204
        assert (await alice.get("/users/me/storage")).json["reserved_bytes"] == 0


async def test_downloads_are_sent_to_the_store_under_their_own_name(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        stranger = Server(alice.http, alice.url)
        png = b"\x89PNG\r\n\x1a\n" + os.urandom(5000)
        file = await stored(alice, png, name="Übung – 1.png", mime="image/x-own")
        path = f"/files/{file['id']}/download"
        found = await alice.get(path)
        assert (found.status, found.body, found.headers["ETag"]) == (307, b"", file["etag"])
        answer = await stranger.get(found.headers["Location"])
        assert (answer.status, answer.body) == (200, png)
        assert answer.headers["Content-Type"] == "image/x-own"
        assert answer.headers["Content-Disposition"] == (
            "attachment; filename=\"Ubung _ 1.png\"; filename*=UTF-8''%C3%9Cbung%20%E2%80%93%201.png")
        assert server.headers == {}  # nothing but the URL opened it
        shown = await stranger.get((await alice.get(path + "?inline=true")).headers["Location"])
        assert shown.headers["Content-Type"] == "image/png"
        assert shown.headers["Content-Disposition"].startswith("inline;")
        part = await alice.get(path, headers={"Range": "bytes=10-19", "If-Range": file["etag"]})
        assert part.status == 307
        answer = await stranger.get(part.headers["Location"], headers={"Range": "bytes=10-19"})
        assert (answer.status, answer.body) == (206, png[10:20])
        for tampered in (found.headers["Location"].replace("Expires=900", "Expires=90000"),
                         found.headers["Location"].replace("attachment", "inline"),
                         found.headers["Location"].partition("?")[0]):
            assert (await stranger.get(tampered)).status == 403
        ticket = (await alice.post(f"/files/{file['id']}/ticket")).json["url"]
        assert (await stranger.get(ticket)).status == 307


async def test_what_the_store_would_answer_otherwise_is_answered_here(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        file = await stored(alice, CONTENT)
        path = f"/files/{file['id']}/download"
        head = await alice.head(path)
        assert (head.status, head.headers["Content-Length"], head.headers["ETag"]) == (
            200, str(len(CONTENT)), file["etag"])
        assert (await alice.get(path, headers={"If-None-Match": file["etag"]})).status == 304
        out = await alice.get(path, headers={"Range": f"bytes={len(CONTENT)}-"})
        assert (out.status, out.headers["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")
        for headers in ({"Range": "bytes=5-9", "If-Range": '"other"'}, {"Range": "bytes=1-2,5-9"}):
            whole = await alice.get(path, headers=headers)
            assert (whole.status, whole.body) == (200, CONTENT)
        # A page that asked for isolation may load nothing from another origin.
        page = await alice.get(path, headers={"Sec-Fetch-Mode": "no-cors", "Range": "bytes=0-9"})
        assert (page.status, page.body) == (206, CONTENT[:10])
        kept = await alice.get(path + "?direct=false")
        assert (kept.status, kept.body) == (200, CONTENT)
        empty = await stored(alice, b"")
        answer = await alice.get(f"/files/{empty['id']}/download")
        assert (answer.status, answer.body) == (200, b"")


async def test_without_direct_transfer_everything_goes_through_the_server(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio, S3_DIRECT="off")) as server:
        assert "direct_transfer" not in (await server.get("/server")).json["features"]
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        assert file["upload"]["direct"] is None
        refused = await alice.post(f"/files/{file['id']}/parts", {"parts": [{"index": 0, "sha256": sha(b"")}]})
        assert (refused.status, refused.code) == (409, "direct_unavailable")
        await send(alice, file["id"], CONTENT)
        done = (await alice.post(f"/files/{file['id']}/complete")).json
        path = f"/files/{file['id']}/download"
        for headers, status, body in (
            ({}, 200, CONTENT), ({"Range": "bytes=8388600-8388620"}, 206, CONTENT[8388600:8388621]),
            ({"Range": "bytes=-7"}, 206, CONTENT[-7:]),
            ({"Range": "bytes=3-", "If-Range": done["etag"]}, 206, CONTENT[3:]),
        ):
            answer = await alice.get(path, headers=headers)
            assert (answer.status, answer.body, answer.headers["ETag"]) == (status, body, done["etag"])


async def test_a_client_that_leaves_stops_the_reading(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, **s3_settings(minio, S3_DIRECT="off")) as server:
        alice = await server.person("alice")
        content = os.urandom(12 * CHUNK)
        file = await stored(alice, content, direct=False)
        store = server.app[STORES].open["s3"]
        plain, ended, read = store.read, asyncio.Event(), 0

        async def counted(location: str, start: int, length: int) -> AsyncIterator[bytes]:
            nonlocal read
            try:
                async for part in plain(location, start, length):
                    read += len(part)
                    yield part
            finally:
                ended.set()

        monkeypatch.setattr(store, "read", counted)
        async with alice.http.get(
            f"{server.url}/api/v1/files/{file['id']}/download", headers=alice.headers) as response:
            await response.content.readexactly(1024)
        async with asyncio.timeout(WAIT_S):
            await ended.wait()
        assert 0 < read < len(content)


async def test_files_on_a_store_that_is_not_configured_are_unavailable_and_nothing_else_is(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        file = await stored(alice, b"elsewhere")
        session = alice.session
    async with running(tmp_path) as server:
        assert "'s3', which cannot be opened: S3_ENDPOINT, S3_BUCKET" in caplog.text
        alice = server.signed_in(session)
        answer = await alice.get(f"/files/{file['id']}/download")
        assert (answer.status, answer.code) == (503, "storage_unavailable")
        assert (await alice.get(f"/files/{file['id']}")).json["state"] == "complete"
        here = await begin(alice, b"here")
        await send(alice, here["id"], b"here")
        assert (await alice.post(f"/files/{here['id']}/complete")).status == 201
        assert await download(alice, here["id"]) == b"here"
        assert (await server.get("/readyz")).json["degraded"] == ["storage"]
        assert (await alice.delete(f"/files/{file['id']}")).status == 204


async def test_a_missing_bucket_and_a_wrong_key_are_named_and_the_server_starts_all_the_same(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong, name in (({"S3_BUCKET": "no-such-bucket"}, "S3_BUCKET"), ({"S3_SECRET_KEY": "wrong"}, "S3_SECRET_KEY"),
                        ({"S3_REGION": "mars-1"}, "S3_REGION")):
        caplog.clear()
        async with running(tmp_path / name, **{**s3_settings(minio), **wrong}) as server:
            assert (await server.get("/readyz")).json["degraded"] == ["storage"]
            assert name in caplog.text
            assert minio.secret_key not in caplog.text


async def test_a_forward_a_delete_and_a_ticket_are_the_same_on_both_stores(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    settings = s3_settings(minio, BACKGROUND_JOBS="off")
    async with running(tmp_path, **{**settings, "STORAGE_BACKEND": "local"}) as server:
        alice, bob = await server.person("alice"), await server.person("bob")
        on_disk = await begin(alice, b"on the disk")
        await send(alice, on_disk["id"], b"on the disk")
        await alice.post(f"/files/{on_disk['id']}/complete")
        sessions = alice.session, bob.session
    async with running(tmp_path, **settings) as server:
        alice, bob = (server.signed_in(session) for session in sessions)
        stranger = Server(alice.http, alice.url)
        in_bucket = await stored(alice, b"in the bucket")
        chat = (await alice.post("/chats", {"kind": "direct", "user_id": bob.id})).json["id"]
        for file, content, client_id in ((on_disk, b"on the disk", "1"), (in_bucket, b"in the bucket", "2")):
            assert (await bob.get(f"/files/{file['id']}/download")).status == 404
            sent = await alice.post(f"/chats/{chat}/messages", {"client_id": client_id, "file_ids": [file["id"]]})
            assert sent.status == 201, sent
            assert await download(bob, file["id"]) == content
            url = (await bob.post(f"/files/{file['id']}/ticket")).json["url"]
            answer = await stranger.get(url)
            if answer.status == 307:
                answer = await stranger.get(answer.headers["Location"])
            assert answer.body == content
            assert (await alice.delete(f"/files/{file['id']}")).status == 204
            assert (await bob.get(f"/files/{file['id']}/download")).status == 404
            assert (await stranger.get(url)).status == 404


async def test_a_verification_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio, BACKGROUND_JOBS="off")) as server:
        alice = await server.person("alice")
        for n in range(4):
            await stored(alice, b"%d" % n)
        housekeeping = server.app[HOUSEKEEPING]
        first = await housekeeping.verify(after=None, mark="verify", max_bytes=2)
        assert (first.files, first.bytes) == (2, 2)
        second = await housekeeping.verify(after=None, mark="verify")
        assert (second.files, second.bytes, second.damaged) == (2, 2, [])
        again = await housekeeping.verify(after=None, mark="verify")
        assert again.files == 4  # the end was reached, so the next one begins anew
