"""How uploads to object storage end: completed, by two at once or late, given up, expired, removed, lost."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import Any

import pytest

from hypersend_server.app import HOUSEKEEPING, STORES
from hypersend_server.errors import HyperSendError
from hypersend_server.files import handlers
from hypersend_server.metadata.sqlite.files_uploads import SqliteUploads
from tests.harness import Server, SettableClock, running
from tests.object_storage.calls import (
    CHUNK,
    CONTENT,
    WAIT_S,
    Settings,
    begin,
    chunks_of,
    download,
    objects,
    send,
    send_direct,
    sha,
    signed,
    stored,
)
from tests.s3_servers import S3Server


async def test_two_completings_at_once_make_one_file(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    settings = s3_settings(minio)
    async with running(tmp_path, **settings) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        await send_direct(alice, file["id"], CONTENT)
        answers = await asyncio.gather(*(alice.post(f"/files/{file['id']}/complete") for _ in range(5)))
        assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 201]
        assert len({answer.json["checksum"] for answer in answers}) == 1
        assert len(objects(minio, settings)) == 1


async def test_completing_that_ended_between_the_store_and_us_is_taken_up(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = s3_settings(minio, BACKGROUND_JOBS="off")
    async with running(tmp_path, **settings) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        await send_direct(alice, file["id"], CONTENT)

        async def crash(*arguments: object) -> None:
            raise HyperSendError("metadata_unavailable")

        with monkeypatch.context() as patched:
            patched.setattr(SqliteUploads, "finish", crash)
            assert (await alice.post(f"/files/{file['id']}/complete")).status == 503
        assert (await alice.get(f"/files/{file['id']}")).json["state"] == "completing"
        assert len(objects(minio, settings)) == 1
        session = alice.session
    async with running(tmp_path, **settings) as server:
        alice = server.signed_in(session)
        answer = await alice.post(f"/files/{file['id']}/complete")
        assert (answer.status in (200, 201), answer.json["state"]) == (True, "complete")
        assert await download(alice, file["id"]) == CONTENT
        assert len(objects(minio, settings)) == 1


async def test_completing_that_takes_long_is_answered_and_goes_on(
    tmp_path: Path, own_minio: S3Server, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers.routes, "__kwdefaults__", {"complete_within_s": 0.5})
    async with running(tmp_path / "data", **s3_settings(own_minio)) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        await send(alice, file["id"], CONTENT)
        held = asyncio.Event()
        store = server.app[STORES].open["s3"]
        whole = store.complete

        async def slow(*arguments: Any) -> str:
            await held.wait()
            return await whole(*arguments)

        monkeypatch.setattr(store, "complete", slow)
        answer = await alice.post(f"/files/{file['id']}/complete")
        assert (answer.status, answer.json["state"]) == (202, "completing")
        held.set()
        async with asyncio.timeout(WAIT_S):
            while (answer := await alice.post(f"/files/{file['id']}/complete")).status == 202:
                pass
        assert answer.status in (200, 201)
        assert await download(alice, file["id"]) == CONTENT


async def test_space_is_given_back_when_an_upload_is_aborted_expires_or_is_removed(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    clock = SettableClock()
    settings = s3_settings(minio, USER_QUOTA=str(len(CONTENT)), UPLOAD_TTL="1h", BACKGROUND_JOBS="off")
    async with running(tmp_path, clock=clock, **settings) as server:
        alice = await server.person("alice")
        housekeeping = server.app[HOUSEKEEPING]
        aborted = await begin(alice, CONTENT)
        await send_direct(alice, aborted["id"], CONTENT, {0})
        full = await alice.post("/files/init", {"name": "x", "size": 1})
        assert (full.status, full.code) == (403, "quota_exceeded")
        assert (await alice.delete(f"/files/{aborted['id']}")).status == 204
        late = await begin(alice, CONTENT)
        await send_direct(alice, late["id"], CONTENT, {1})
        clock.advance(3601)
        alice = await server.login(alice.email)
        assert (await housekeeping.gc(delete=False)).abandoned == [late["id"]]
        await housekeeping.each_minute()
        assert (await alice.get(f"/files/{late['id']}")).json["state"] == "expired"
        assert (await housekeeping.gc(delete=False)).abandoned == []
        client, bucket = minio.client(), settings["S3_BUCKET"]
        for file_id in (aborted["id"], late["id"]):
            assert not client._list_multipart_uploads(bucket, prefix=f"files/{file_id}/").uploads
        removed = await stored(alice, CONTENT)
        assert (await alice.delete(f"/files/{removed['id']}")).status == 204
        assert (await alice.get("/users/me/storage")).json["used_bytes"] == 0
        assert len(objects(minio, settings)) == 1
        clock.advance(3601)
        await housekeeping.each_minute()
        assert objects(minio, settings) == []


async def test_objects_without_a_record_and_records_without_bytes_are_found(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    clock = SettableClock()
    settings = s3_settings(minio, BACKGROUND_JOBS="off")
    async with running(tmp_path, clock=clock, **settings) as server:
        alice = await server.person("alice")
        housekeeping = server.app[HOUSEKEEPING]
        kept, lost = await stored(alice, CONTENT), await stored(alice, b"lost")
        bucket, client = settings["S3_BUCKET"], minio.client()
        (name,) = [name for name in objects(minio, settings) if lost["id"] in name]
        client.remove_object(bucket, name)
        stray = f"files/{'s' * 20}/{'f' * 32}"
        client.put_object(bucket, stray, io.BytesIO(b"stray"), 5)
        client.put_object(bucket, "not/ours", io.BytesIO(b"x"), 1)
        young = await housekeeping.gc(delete=True)
        assert (young.stray, young.lost, young.forgotten) == ([], [lost["id"]], [])
        clock.advance(86400 + 60)
        listed = await housekeeping.gc(delete=False)
        assert ([item.location for item in listed.stray], listed.lost) == ([stray], [lost["id"]])
        assert len(objects(minio, settings)) == 3
        await housekeeping.gc(delete=True)
        assert sorted(objects(minio, settings))[-1] == "not/ours"
        assert len(objects(minio, settings)) == 2
        alice = await server.login(alice.email)
        assert (await alice.get(f"/files/{lost['id']}")).status == 404
        report = await housekeeping.verify()
        assert (report.files, report.bytes, report.damaged) == (1, len(CONTENT), [])
        (name,) = [name for name in objects(minio, settings) if kept["id"] in name]
        client.put_object(bucket, name, io.BytesIO(CONTENT[:CHUNK] + bytes(CHUNK) + CONTENT[2 * CHUNK:]), len(CONTENT))
        report = await housekeeping.verify()
        assert [(damage.id, damage.chunks) for damage in report.damaged] == [(kept["id"], [1])]


async def test_what_the_store_has_in_the_end_is_what_counts(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    """A part may be replaced by its sender; the file is then of the later bytes, in every digest that is told."""
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        await send(alice, file["id"], CONTENT)
        other = os.urandom(CHUNK) + CONTENT[CHUNK:]
        await send_direct(alice, file["id"], other, {0})
        done = await alice.post(f"/files/{file['id']}/complete")
        assert done.status == 201
        told = (await alice.get(f"/files/{file['id']}?digests=true")).json["chunk_sha256"]
        assert told == [sha(chunk) for chunk in chunks_of(other)]
        assert await download(alice, file["id"]) == other


async def test_a_part_that_is_replaced_while_it_is_completed_is_asked_for_again(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        file = await begin(alice, CONTENT)
        await send_direct(alice, file["id"], CONTENT)
        other = os.urandom(CHUNK) + CONTENT[CHUNK:]
        store = server.app[STORES].open["s3"]
        plain = store.complete

        urls = await signed(alice, file["id"], {0: sha(other[:CHUNK])})

        async def after_all_were_counted(*arguments: Any) -> str:
            monkeypatch.setattr(store, "complete", plain)
            put = await Server(alice.http, alice.url).request(
                "PUT", urls[0]["url"], data=other[:CHUNK], headers=urls[0]["headers"])
            assert put.status == 200
            return await plain(*arguments)

        monkeypatch.setattr(store, "complete", after_all_were_counted)
        answer = await alice.post(f"/files/{file['id']}/complete")
        assert (answer.status, answer.code, answer.json["missing"]) == (409, "chunks_missing", [[0, 0]])
        assert (await alice.get(f"/files/{file['id']}")).json["state"] == "uploading"
        await send_direct(alice, file["id"], CONTENT, {0})
        assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
        assert await download(alice, file["id"]) == CONTENT
