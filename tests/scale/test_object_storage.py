"""Two server processes over MongoDB, Redis and object storage: nothing of theirs is on their own disks."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Person, Server
from tests.http_session import http_session
from tests.mongo_server import MongoServer
from tests.redis_server import RedisServer
from tests.s3_servers import S3Server
from tests.scale.deployment import Deployment, at, s3_settings

CHUNK = 8 * 1024 * 1024


@pytest.fixture
def two(tmp_path: Path, mongo_server: MongoServer, redis_server: RedisServer, minio: S3Server) -> Iterator[Deployment]:
    with Deployment(tmp_path / "two", mongo_server, redis_server, **s3_settings(minio)) as deployment:
        yield deployment


async def download(person: Person, file_id: str) -> bytes:
    """From the store itself, by the URL that the server signs."""
    sent_on = await person.get(f"/files/{file_id}/download")
    assert sent_on.status == 307
    async with person.http.get(sent_on.headers["Location"]) as answer:
        assert answer.status == 200
        return await answer.read()


async def test_parts_go_through_either_process_or_none_and_completing_happens_once(two: Deployment) -> None:
    data = os.urandom(4 * CHUNK + 5)
    async with http_session() as http:
        alice = await Server(http, two.urls[0]).person("alice")
        sides = alice, at(two.urls[1], alice)
        file = (await alice.post("/files/init", {"name": "tea.bin", "size": len(data)})).json
        path = f"/files/{file['id']}"
        for index in range(4):
            answer = await sides[index % 2].put(
                f"{path}/chunk?index={index}", data=data[index * CHUNK:(index + 1) * CHUNK])
            assert answer.status == 200, answer
        last = data[4 * CHUNK:]
        signed = await sides[1].post(f"{path}/parts", {"parts": [
            {"index": 4, "sha256": hashlib.sha256(last).hexdigest()}]})
        part = signed.json["parts"][0]
        async with http.put(part["url"], data=last, headers=part["headers"]) as direct:
            assert direct.status == 200, await direct.text()
        answers = await asyncio.gather(*(side.post(f"{path}/complete") for side in sides * 3))
        assert Counter(answer.status for answer in answers) == {201: 1, 200: 5}, answers
        assert len({(answer.json["checksum"], answer.json["completed_at"]) for answer in answers}) == 1
        for side in sides:
            assert await download(side, file["id"]) == data
        use = (await alice.get("/users/me/storage")).json
        assert (use["files"], use["used_bytes"], use["reserved_bytes"]) == (1, len(data), 0)


async def test_the_processes_keep_nothing_in_their_data_root(two: Deployment) -> None:
    """So a platform that throws containers away serves as well, and one with a read-only root."""
    async with http_session() as http:
        alice = await Server(http, two.urls[0]).person("alice")
        file = (await alice.post("/files/init", {"name": "tea.txt", "size": 3})).json
        assert (await alice.put(f"/files/{file['id']}/chunk?index=0", data=b"tea")).status == 200
        assert (await alice.post(f"/files/{file['id']}/complete")).status == 201
        for url in two.urls:
            ready = await Server(http, url).get("/readyz")
            assert (ready.status, ready.json["degraded"]) == (200, [])
    assert not (two.folder / "data").exists()
    for server in two.servers:
        assert await asyncio.to_thread(server.stop) == 0
    (two.folder / "data").write_text("a file, so that no folder can be made here")
    for server in two.servers:
        await asyncio.to_thread(server.start)
    async with http_session() as http:
        again = await Server(http, two.urls[1]).login("alice@example.org")
        assert await download(again, file["id"]) == b"tea"
