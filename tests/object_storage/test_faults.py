"""The server over a store that is full, slow, overloaded or learns to keep checksums: what its clients are told."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hypersend_server.app import STORES
from hypersend_server.files import completing
from hypersend_storage.base import Layout
from hypersend_storage.s3 import S3Store
from hypersend_storage.s3_probe import Probed
from tests.harness import running
from tests.object_storage.calls import CHUNK, CONTENT, Settings, begin, chunks_of, download, send, sha
from tests.s3_proxy import Answer, LoseAnswer, Request, faulty_proxy, is_completing, is_part, refuse
from tests.s3_servers import S3Server
from tests.storage.conftest import opened


@pytest.mark.parametrize(("refusal", "status", "code", "retryable"), [
    (refuse(507, "XMinioStorageFull"), 507, "storage_full", True),
    (refuse(503, "SlowDown"), 503, "storage_unavailable", True),
    (refuse(403, "RequestTimeTooSkewed"), 503, "storage_unavailable", True),
    (refuse(403, "AccessDenied"), 503, "storage_unavailable", True),
])
async def test_a_client_is_told_what_the_store_refuses_and_goes_on_where_it_was(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, caplog: pytest.LogCaptureFixture,
    refusal: Answer, status: int, code: str, retryable: bool,
) -> None:
    async with faulty_proxy(minio.url) as proxy:
        settings = {**s3_settings(minio, S3_DIRECT="off"), "S3_ENDPOINT": proxy.url}
        async with running(tmp_path, **settings) as server:
            alice = await server.person("alice")
            file = await begin(alice, CONTENT)
            path = f"/files/{file['id']}"
            await send(alice, file["id"], CONTENT, {1, 2})
            proxy.fault = lambda request: refusal if is_part(request) else None
            refused = await alice.put(f"{path}/chunk?index=0", data=CONTENT[:CHUNK])
            assert (refused.status, refused.code, refused.json["retryable"]) == (status, code, retryable)
            shown = (await alice.get(path)).json["upload"]
            assert (shown["received"], shown["partial"]) == ([[1, 2]], [[0, CHUNK]])
            proxy.fault = lambda request: None
            # Not one byte of it has to be sent again.
            put = await alice.put(f"{path}/chunk?index=0&offset={CHUNK}", data=b"")
            assert (put.status, put.json["sha256"]) == (200, sha(CONTENT[:CHUNK]))
            proxy.fault = lambda request: refusal if is_completing(request) else None
            assert (await alice.post(f"{path}/complete")).code == code
            proxy.fault = lambda request: None
            assert (await alice.post(f"{path}/complete")).status == 201
            assert await download(alice, file["id"]) == CONTENT
            proxy.fault = lambda request: refusal if request.method == "GET" else None
            assert (await alice.get(f"{path}/download")).code == "storage_unavailable"
        assert minio.secret_key not in caplog.text


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "XMinioStorageFull"])
async def test_a_store_that_is_not_right_at_start_is_named_and_used_once_it_is(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    refusal = refuse(403 if code == "RequestTimeTooSkewed" else 507, code)
    async with faulty_proxy(minio.url, lambda request: refusal) as proxy:
        settings = {**s3_settings(minio, S3_DIRECT="off"), "S3_ENDPOINT": proxy.url}
        async with running(tmp_path, **settings) as server:
            assert (await server.get("/readyz")).json["degraded"] == ["storage"]
            assert ("NTP" if refusal.status == 403 else "no room left") in caplog.text
            alice = await server.person("alice")
            init = await alice.post("/files/init", {"name": "a", "size": 3})
            assert (init.status, init.code, "Retry-After" in init.headers) == (503, "storage_unavailable", True)
            assert (await alice.get("/users/me/storage")).json["reserved_bytes"] == 0
            proxy.fault = lambda request: None
            async with asyncio.timeout(60):
                while (await alice.post("/files/init", {"name": "a", "size": 3})).status != 201:
                    await asyncio.sleep(0.2)


async def test_a_store_that_answers_slowly_takes_everything(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async def slowly(request: Request) -> None:
        await asyncio.sleep(0.5)

    async with faulty_proxy(minio.url) as proxy:
        settings = {**s3_settings(minio, S3_DIRECT="off"), "S3_ENDPOINT": proxy.url}
        async with running(tmp_path, **settings) as server:
            proxy.before = slowly
            alice = await server.person("alice")
            file = await begin(alice, CONTENT)
            answers = await asyncio.gather(*[
                alice.put(f"/files/{file['id']}/chunk?index={index}", data=chunk)
                for index, chunk in enumerate(chunks_of(CONTENT))])
            assert [answer.status for answer in answers] == [200, 200, 200]
            assert (await server.get("/healthz")).status == 200
            assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
            assert await download(alice, file["id"]) == CONTENT


async def test_an_upload_begun_without_checksums_ends_well_at_a_store_that_learns_to_keep_them(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with running(tmp_path, **s3_settings(minio)) as server:
        alice = await server.person("alice")
        store = server.app[STORES].open["s3"]
        assert isinstance(store, S3Store)
        able, store._probed = store._probed, Probed(False, "it keeps none")
        file = await begin(alice, CONTENT)
        await send(alice, file["id"], CONTENT, {0, 2})
        store._probed = able  # as after the operator updated it
        assert store.is_direct
        shown = (await alice.get(f"/files/{file['id']}")).json["upload"]
        assert (shown["received"], shown.get("direct")) == ([[0, 0], [2, 2]], None)
        asked = await alice.post(f"/files/{file['id']}/parts", {"parts": [{"index": 1, "sha256": sha(b"")}]})
        assert asked.code == "direct_unavailable"
        missing = await alice.post(f"/files/{file['id']}/complete")
        assert (missing.code, missing.json["missing"]) == ("chunks_missing", [[1, 1]])
        await send(alice, file["id"], CONTENT, {1})
        assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
        assert await download(alice, file["id"]) == CONTENT
        new = os.urandom(10)
        assert (await begin(alice, new))["upload"]["direct"] is not None


@pytest.mark.parametrize("comes", [True, False])
async def test_an_object_may_come_long_after_its_upload_was_forgotten(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    async with faulty_proxy(minio.url) as proxy:
        settings = {**s3_settings(minio, S3_DIRECT="off"), "S3_ENDPOINT": proxy.url}
        async with running(tmp_path, **settings) as server:
            alice = await server.person("alice")
            file = await begin(alice, CONTENT)
            await send(alice, file["id"], CONTENT, {0, 1, 2})
            # The upload is gone from the moment on at which it is put together; the object is not there yet.
            proxy.fault = lambda request: LoseAnswer() if is_completing(request) else (
                Answer(404, "") if request.method == "HEAD" else None)
            for _ in range(2):
                answer = await alice.post(f"/files/{file['id']}/complete")
                assert (answer.status, answer.code) == (503, "storage_unavailable")
            if comes:
                proxy.fault = lambda request: None
                assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
                assert await download(alice, file["id"]) == CONTENT
            else:
                monkeypatch.setattr(completing, "ASSEMBLING_S", 0.0)
                answer = await alice.post(f"/files/{file['id']}/complete")
                assert (answer.status, answer.code) == (410, "upload_lost")


@pytest.mark.parametrize("other_had_luck", [True, False])
async def test_a_beginning_that_fails_takes_nothing_from_the_process_that_answered_it_again(
    tmp_path: Path, minio: S3Server, s3_settings: Settings, other_had_luck: bool
) -> None:
    """A client whose line was cut asks again, and comes to another process, which has more luck with the store."""
    async with faulty_proxy(minio.url) as proxy:
        settings = {**s3_settings(minio), "S3_ENDPOINT": proxy.url}
        async with running(tmp_path, **settings) as server, opened(minio, settings["S3_BUCKET"]) as twin:
            alice = await server.person("alice")

            async def another_process(request: Request) -> None:
                if not is_beginning(request) or not other_had_luck:
                    return
                with closing(sqlite3.connect(next(tmp_path.rglob("*.sqlite3")))) as database, database:
                    ((file_id,),) = database.execute("SELECT id FROM files").fetchall()
                    location = await twin.create(file_id, Layout(len(CONTENT), CHUNK))
                    database.execute("UPDATE files SET location = ?", (location,))

            proxy.before, proxy.fault = another_process, lambda request: (
                refuse(503, "SlowDown") if is_beginning(request) else None)
            body = {"name": "film.bin", "size": len(CONTENT)}
            answer = await alice.post("/files/init", body, headers={"Idempotency-Key": "once"})
            assert (answer.status, answer.code) == (503, "storage_unavailable")
            reserved = (await alice.get("/users/me/storage")).json["reserved_bytes"]
            assert reserved == (len(CONTENT) if other_had_luck else 0)
            proxy.before = None
            proxy.fault = lambda request: None
            file = (await alice.post("/files/init", body, headers={"Idempotency-Key": "once"})).json
            await send(alice, file["id"], CONTENT)
            assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
            assert await download(alice, file["id"]) == CONTENT


def is_beginning(request: Request) -> bool:
    return request.method == "POST" and request.target.partition("?")[2].startswith("uploads")
