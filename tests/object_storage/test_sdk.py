"""The SDK's uploads and downloads where bytes go straight to the object store, over bad lines to either."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hypersend_client.sdk.uploads import Upload
from tests.harness import Server, running
from tests.object_storage.calls import Settings, location_of, objects
from tests.s3_servers import S3Server
from tests.sdk_transfers.device import CHUNK, MIB, Device, device, digest
from tests.sdk_transfers.line import Line, line_to

REQUESTS = 2 * MIB  # far above what requests cost besides the bytes of files


@dataclass
class World:
    """asha's lines to the server and to the store, separately."""

    server: Server
    settings: dict[str, str]
    asha: Device
    to_server: Line
    to_store: Line

    async def download(self, file_id: str) -> Path:
        return await (await self.asha.transfers.download(file_id)).wait()


@asynccontextmanager
async def world(tmp_path: Path, minio: S3Server, s3_settings: Settings) -> AsyncIterator[World]:
    async with line_to(minio.url) as to_store:
        settings = s3_settings(minio, S3_PUBLIC_ENDPOINT=to_store.url, RATE_LIMITS="off")
        async with (
            running(tmp_path / "data", **settings) as server, line_to(server.url) as to_server,
            device(tmp_path / "asha", to_server.url, "asha") as asha,
        ):
            yield World(server, settings, asha, to_server, to_store)


async def storage_use(here: World) -> tuple[int, int]:
    account = here.asha.hs.account
    assert account is not None
    answer = await here.server.get("/users/me/storage", headers={"Authorization": f"Bearer {account.access_token}"})
    return answer.json["used_bytes"], answer.json["reserved_bytes"]


@pytest.fixture
async def here(tmp_path: Path, minio: S3Server, s3_settings: Settings) -> AsyncIterator[World]:
    async with world(tmp_path, minio, s3_settings) as found:
        yield found


@pytest.mark.parametrize("size", [0, 1, CHUNK, 5 * CHUNK + 77])
async def test_the_bytes_pass_the_server_by_in_both_directions(here: World, size: int) -> None:
    path = here.asha.file("a.bin", size)
    file = await (await here.asha.transfers.upload(path)).wait()
    assert (file.state, file.backend) == ("complete", "s3")
    assert here.to_store.up_bytes >= size
    got = await here.download(file.id)
    assert digest(got) == digest(path)
    assert here.to_store.down_bytes >= size
    assert here.to_server.up_bytes + here.to_server.down_bytes < REQUESTS


async def test_many_small_parts_are_signed_in_few_calls(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    sign = here.asha.hs.files.parts

    async def counted(file_id: str, parts: list[tuple[int, str]]) -> object:
        calls.append(len(parts))
        return await sign(file_id, parts)

    monkeypatch.setattr(here.asha.hs.files, "parts", counted)
    await (await here.asha.transfers.upload(here.asha.file("a.bin", 20 * CHUNK))).wait()
    assert calls == [4, 8, 8]


async def test_a_line_to_the_store_that_breaks_now_and_then_costs_only_what_was_on_it(here: World) -> None:
    path = here.asha.file("a.bin", 6 * CHUNK)
    here.to_store.cut_each = 20 * MIB
    file = await (await here.asha.transfers.upload(path)).wait()
    assert here.to_store.cuts > 0
    here.to_store.cut_each = 15 * MIB
    assert digest(await here.download(file.id)) == digest(path)


async def test_where_the_store_cannot_be_reached_the_bytes_go_through_the_server(here: World) -> None:
    here.to_store.is_open = False
    path = here.asha.file("a.bin", 5 * CHUNK + 3)
    file = await (await here.asha.transfers.upload(path)).wait()
    assert here.to_server.up_bytes > 5 * CHUNK
    assert digest(await here.download(file.id)) == digest(path)
    assert here.to_server.down_bytes > 5 * CHUNK


async def test_an_upload_goes_on_where_the_device_was_switched_off(
    tmp_path: Path, minio: S3Server, s3_settings: Settings
) -> None:
    async with line_to(minio.url) as to_store:
        settings = s3_settings(minio, S3_PUBLIC_ENDPOINT=to_store.url, RATE_LIMITS="off")
        async with running(tmp_path / "data", **settings) as server:
            async with device(tmp_path / "asha", server.url, "asha", parallel=1) as asha:
                path = asha.file("a.bin", 6 * CHUNK)
                to_store.bytes_per_s = 40 * MIB
                await asha.transfers.upload(path)
                await to_store.until_bytes(up=3 * CHUNK + MIB)
            to_store.bytes_per_s = None
            before = to_store.up_bytes
            async with device(tmp_path / "asha", server.url, parallel=1) as asha:
                (upload,) = await asha.transfers.resume()
                assert isinstance(upload, Upload)
                file = await upload.wait()
                assert to_store.up_bytes - before < 4 * CHUNK
                assert digest(await (await asha.transfers.download(file.id)).wait()) == digest(path)


async def test_an_upload_that_the_store_dropped_begins_again_by_itself(here: World, minio: S3Server) -> None:
    path = here.asha.file("a.bin", 6 * CHUNK)
    here.to_store.bytes_per_s = 30 * MIB
    upload = await here.asha.transfers.upload(path)
    await here.to_store.until_bytes(up=2 * CHUNK)
    first = upload.file_id
    assert first is not None
    client, bucket = minio.client(), here.settings["S3_BUCKET"]
    name = location_of(here.server, first)
    (found,) = client._list_multipart_uploads(bucket, prefix=name).uploads
    client._abort_multipart_upload(bucket, name, found.upload_id)
    here.to_store.bytes_per_s = None
    file = await upload.wait()
    assert file.id != first
    assert digest(await here.download(file.id)) == digest(path)
    assert await storage_use(here) == (path.stat().st_size, 0)  # nothing is left of the first one


async def test_the_store_may_be_killed_in_the_middle_of_a_part(
    tmp_path: Path, own_minio: S3Server, s3_settings: Settings
) -> None:
    async with world(tmp_path, own_minio, s3_settings) as here:
        path = here.asha.file("a.bin", 5 * CHUNK)
        here.to_store.bytes_per_s = 30 * MIB
        upload = await here.asha.transfers.upload(path)
        await here.to_store.until_bytes(up=CHUNK + MIB)
        own_minio.kill()
        here.to_store.bytes_per_s = None
        async with asyncio.timeout(60):
            while upload.state != "waiting":
                await asyncio.sleep(0.02)
        assert (await here.server.get("/readyz")).json["degraded"] == ["storage"]
        assert await storage_use(here) == (0, path.stat().st_size)  # all the rest goes on
        own_minio.start()
        file = await upload.wait()
        assert digest(await here.download(file.id)) == digest(path)
        assert len(objects(own_minio, here.settings)) == 1


async def test_a_store_that_is_killed_at_completing_ends_in_one_file(
    tmp_path: Path, own_minio: S3Server, s3_settings: Settings
) -> None:
    async with world(tmp_path, own_minio, s3_settings) as here:
        path = here.asha.file("a.bin", 3 * CHUNK)
        upload = await here.asha.transfers.upload(path)
        async with asyncio.timeout(60):
            while upload.state != "finishing" and not upload.ended:
                await asyncio.sleep(0)
        own_minio.kill()
        await asyncio.sleep(0.5)
        own_minio.start()
        file = await upload.wait()
        assert digest(await here.download(file.id)) == digest(path)
        assert len(objects(own_minio, here.settings)) == 1


async def test_a_server_starts_without_its_store_and_finds_it_later(
    tmp_path: Path, own_minio: S3Server, s3_settings: Settings
) -> None:
    settings = s3_settings(own_minio)
    content = os.urandom(1000)
    async with running(tmp_path / "data", **settings) as server:
        alice = await server.person("alice")
        file = (await alice.post("/files/init", {"name": "a", "size": len(content)})).json
        await alice.put(f"/files/{file['id']}/chunk?index=0", data=content)
        assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
        session = alice.session
    own_minio.kill()
    async with running(tmp_path / "data", **settings) as server:
        alice = server.signed_in(session)
        ready = await server.get("/readyz")
        assert (ready.status, ready.json) == (200, {"status": "degraded", "degraded": ["storage"]})
        for answer in (await alice.get(f"/files/{file['id']}/download"),
                       await alice.post("/files/init", {"name": "b", "size": 1})):
            assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "storage_unavailable", "1")
        assert (await alice.get("/chats")).status == 200
        own_minio.start()
        async with asyncio.timeout(60):
            while (await server.get("/readyz")).json["degraded"]:
                await asyncio.sleep(0.1)
        found = await alice.get(f"/files/{file['id']}/download")
        assert found.status == 307
        assert "direct_transfer" in (await server.get("/server")).json["features"]
